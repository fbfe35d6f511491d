"""Rehearsal: made rows by which training keeps margins that the encoder had, and unlearns only without them."""

import math
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import polars as pl
import pytest
import torch

from sbert.encoder.engine.dtype import ComputeDtype
from sbert.encoder.sentence_encoder import SentenceEncoder
from sbert.encoder.side import Side
from sbert.evaluation.changed_texts import OPENINGS, REHEARSAL_OPENINGS
from sbert.evaluation.made_texts import documentation_sentences, rehearsal_sentences
from sbert.evaluation.robustness_sets import robustness_sets
from sbert.evaluation.robustness_settings import RobustnessSettings
from sbert.labels.label_kinds import TEXT_COLUMNS, LabelKind
from sbert.labels.label_set import LabelSet
from sbert.labels.load import make_label_set
from sbert.labels.settings import LabelSettings
from sbert.training.losses.rehearsal import RehearsalLoss
from sbert.training.rehearsal import NUM_TEXTS, rehearsal_rows
from sbert.training.settings import AdapterKind, AdapterSettings, ContinualSettings, Objective, TrainingSettings
from sbert.training.train import train_encoder
from tests.sbert.training.test_stopping import killed_in
from tests.support.toy_training import FAST, blind_rows, toy_labels, weights

REHEARSE: dict[str, Any] = {"continual": ContinualSettings(rehearsal_weight=1.0)}


def blind_labels() -> LabelSet:
    settings = LabelSettings(
        dev_share=0, near_duplicate_similarity=1.0, max_leakage=1.0, max_contradictions=1.0, split_column="split"
    )
    return make_label_set(blind_rows().with_columns(split=pl.lit("train")), LabelKind.SCORED_PAIRS, settings)


def margins(model: str, rows: pl.DataFrame) -> np.ndarray:
    encoder = SentenceEncoder.from_pretrained(model, device="cpu", compute_dtype=ComputeDtype.FLOAT32)
    text, same, changed = (torch.from_numpy(encoder.encode(rows[name], side=Side.DOCUMENT)) for name in rows.columns)
    return (torch.cosine_similarity(text, same) - torch.cosine_similarity(text, changed)).numpy()


def test_only_a_margin_that_became_smaller_costs_something() -> None:
    """The cosines are 0.8 and 0.6 before: a margin of 0.2. A margin of 0.1 has lost two units of 0.05: 2² = 4."""

    def vectors(same: float, changed: float) -> list[torch.Tensor]:
        return [
            torch.tensor([[length, 0.0]]) for length in (3.0,)
        ] + [torch.tensor([[2 * cosine, 2 * math.sqrt(1 - cosine**2)]]) for cosine in (same, changed)]  # fmt: skip

    before = vectors(0.8, 0.6)
    assert RehearsalLoss()(vectors(0.7, 0.6), before).item() == pytest.approx(4, rel=1e-4)
    assert RehearsalLoss()(vectors(0.9, 0.6), before).item() == 0
    assert RehearsalLoss()(vectors(0.5, 0.3), before).item() == pytest.approx(0, abs=1e-9)


def test_made_rows_are_of_train_texts_and_of_documentation_that_is_not_measured() -> None:
    labels = toy_labels(LabelKind.SCORED_PAIRS)
    own = "the train is late in {} towns"
    rows = labels.train.with_columns(sentence1=pl.lit(own.format(3)))
    held_out = labels.test.with_columns(sentence2=pl.lit(own.format(4)))
    rows = pl.concat([rows, held_out.select(rows.columns)])
    labels = replace(labels, test=held_out)
    made = rehearsal_rows(labels, rows, 0)
    assert made.height == 2 * NUM_TEXTS
    assert made.columns == list(TEXT_COLUMNS[LabelKind.TRIPLETS])
    texts = set(made["anchor"])
    assert own.format(3) in texts
    assert own.format(4) not in texts  # also a test text
    assert not texts.intersection(documentation_sentences())
    assert not set(rehearsal_sentences()).intersection(documentation_sentences())
    assert not set(OPENINGS).intersection(REHEARSAL_OPENINGS)
    begins = tuple(opening.removesuffix("{}") for opening in REHEARSAL_OPENINGS)
    assert all(text.startswith(begins) for text in made["positive"])
    assert rehearsal_rows(labels, rows, 0).equals(made)
    assert not rehearsal_rows(labels, rows, 1).equals(made)


def test_rehearsal_keeps_what_training_alone_unlearns(base: str, tmp_path: Path) -> None:
    """Measured on the gate's own set, whose texts and openings are not rehearsed."""
    labels = blind_labels()
    [negations] = robustness_sets([], RobustnessSettings(sets=("negation",), num_texts=100), seed=0)
    before = margins(base, negations.rows)
    lost = []
    for weight in (0.0, 1.0):
        settings = TrainingSettings(
            objective=Objective.COSENT, epochs=3, early_stopping_patience=None, dropout=0.0,
            continual=ContinualSettings(rehearsal_weight=weight), **FAST,
        )  # fmt: skip
        folder = train_encoder(base, labels, settings, tmp_path / str(weight)).folder
        lost.append(float(np.maximum(0, before - margins(folder, negations.rows)).mean()))
    assert lost[0] > 0.05
    assert lost[1] < 0.5 * lost[0]


@pytest.mark.parametrize(
    ("kind", "objective", "more"),
    [
        (LabelKind.CLASSES, Objective.CROSS_ENTROPY, {}),
        (LabelKind.CLASSES, None, {"bf16": True}),
        (LabelKind.PAIRS, None, {"mini_batch_size": 8}),
        (LabelKind.TEXTS, Objective.TSDAE, {}),
        (LabelKind.TEXTS, Objective.SIMCSE, {}),
        (LabelKind.NLI, None, {}),
        (LabelKind.SCORED_PAIRS, None, {"matryoshka_dims": (32, 16)}),
        (LabelKind.SCORED_PAIRS, None, {"adapter": AdapterSettings(kind=AdapterKind.LORA, rank=4)}),
        (LabelKind.SCORED_PAIRS, None, {"adapter": AdapterSettings(kind=AdapterKind.PROMPT, num_virtual_tokens=4)}),
        (LabelKind.CLASSES, Objective.CROSS_ENTROPY, {"freeze": "all_but_head"}),
    ],
)
def test_every_way_of_training_can_rehearse(
    kind: LabelKind, objective: Objective | None, more: dict[str, Any], base: str, tmp_path: Path
) -> None:
    labels = toy_labels(kind, 60, dev_share=0.0)
    losses = []
    for weight in (0.0, 1e3):
        settings = TrainingSettings(
            objective=objective, max_steps=2, continual=ContinualSettings(rehearsal_weight=weight), **{**FAST, **more}
        )
        result = train_encoder(base, labels, settings, tmp_path / str(weight))
        losses.append([point.values["loss"] for point in result.history if "loss" in point.values][-1])
    assert all(math.isfinite(loss) for loss in losses)
    assert (losses[0] == losses[1]) is ("freeze" in more)  # nothing of the encoder is trained: there is nothing to keep


def test_a_killed_training_with_rehearsal_continues_bit_equal(base: str, tmp_path: Path) -> None:
    labels = toy_labels(LabelKind.SCORED_PAIRS, dev_share=0.0)
    settings = TrainingSettings(epochs=2, evaluations_per_epoch=2, dropout=0.1, **REHEARSE, **FAST)
    whole = train_encoder(base, labels, settings, tmp_path / "whole")
    uri = str(tmp_path / "store")
    with pytest.raises(KeyboardInterrupt):
        train_encoder(
            base, labels, settings, tmp_path / "killed", checkpoints_uri=uri, on_progress=killed_in(whole.num_steps - 2)
        )
    resumed = train_encoder(base, labels, settings, tmp_path / "resumed", checkpoints_uri=uri)
    assert resumed.num_tokens < whole.num_tokens  # it did not begin again
    expected, continued = weights(whole.folder), weights(resumed.folder)
    assert all(torch.equal(continued[name], expected[name]) for name in expected)


def test_without_rehearsal_the_weights_are_those_of_before_and_the_checkpoints_others(
    base: str, tmp_path: Path
) -> None:
    labels = toy_labels(LabelKind.SCORED_PAIRS, dev_share=0.0)
    uri, results = str(tmp_path / "store"), []
    for weight in (None, 0.0, 1.0):
        settings = TrainingSettings(max_steps=3, continual=ContinualSettings(rehearsal_weight=weight), **FAST)
        results.append(train_encoder(base, labels, settings, tmp_path / str(weight), checkpoints_uri=uri))
    none, zero, one = (weights(result.folder) for result in results)
    assert all(torch.equal(none[name], zero[name]) for name in none)
    assert not all(torch.equal(none[name], one[name]) for name in none)
    assert results[0].checkpoints_uri != results[2].checkpoints_uri

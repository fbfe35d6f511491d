"""Training as a whole, on tiny random encoders."""

import itertools
import json
import math
from pathlib import Path
from typing import Any

import numpy as np
import polars as pl
import pytest
import torch
from pydantic import ValidationError
from sentence_transformers import SentenceTransformer

from sbert.encoder.engine.dtype import ComputeDtype
from sbert.encoder.sentence_encoder import SentenceEncoder
from sbert.errors import SettingsError, TrainingError
from sbert.labels.label_kinds import LabelKind
from sbert.labels.label_set import LabelSet
from sbert.training.classifier import SentenceClassifier
from sbert.training.dev_metric import default_dev_metric
from sbert.training.result import StopReason, TrainingProgress
from sbert.training.settings import (
    AdapterKind,
    AdapterSettings,
    ContinualSettings,
    NegativesSettings,
    Objective,
    TrackerKind,
    TrainingSettings,
)
from sbert.training.train import train_encoder
from sbert.training.training_data import with_class_names
from tests.support.tiny_models import save_tiny
from tests.support.toy_training import FAST, TEXTS, toy_labels, weights


def test_training_improves_the_dev_metric_and_says_how(base: str, pairs: LabelSet, tmp_path: Path) -> None:
    reported: list[TrainingProgress] = []
    settings = TrainingSettings(epochs=8, early_stopping_patience=None, **{**FAST, "learning_rate": 5e-3})
    result = train_encoder(base, pairs, settings, tmp_path, on_progress=reported.append)
    assert result.stop_reason is StopReason.COMPLETED
    assert result.improved
    encoder = SentenceEncoder.from_pretrained(result.folder, device="cpu", compute_dtype=ComputeDtype.FLOAT32)
    assert default_dev_metric(pairs)(encoder) == pytest.approx(result.dev_best, abs=1e-3)
    devs = [point.values["dev"] for point in result.history if "dev" in point.values]
    assert len(devs) > 3
    assert max(devs) == pytest.approx(result.dev_best)
    assert all(math.isfinite(point.values["loss"]) for point in result.history if "loss" in point.values)
    assert [each.step for each in reported] == sorted(each.step for each in reported)
    assert reported[-1].num_steps == 8 * (pairs.train.height // 16)
    assert reported[-1].share == 1.0
    assert reported[-1].seconds_left == 0.0
    assert all(each.seconds_left is not None and each.seconds_left > 0 for each in reported if 0 < each.share < 1)
    assert result.num_tokens > 4 * 16 * 2 * 3
    assert list(Path(tmp_path, "runs").iterdir())
    json.dumps(result.to_record())


def test_the_dev_metric_sees_the_weights_of_its_step(base: str, pairs: LabelSet, tmp_path: Path) -> None:
    """Encoding prepares weights once; after every step it must be as the plain forward pass."""
    seen: list[float] = []

    def metric(encoder: SentenceEncoder) -> float:
        tokens = torch.from_numpy(encoder.tokenize(TEXTS[:1]).input_ids.astype(np.int64))[None]
        with torch.no_grad():
            plain = encoder(tokens).numpy()
        np.testing.assert_allclose(encoder.encode(TEXTS[:1]), plain, atol=1e-4)
        seen.append(float(plain[0, 0]))
        return float(len(seen))

    train_encoder(base, pairs, TrainingSettings(epochs=3, **FAST), tmp_path, evaluate_dev=metric)
    assert len(set(seen)) == len(seen) == 4


def test_the_folder_is_one_that_sentence_transformers_loads(base: str, pairs: LabelSet, tmp_path: Path) -> None:
    scores = itertools.count()
    result = train_encoder(
        base, pairs, TrainingSettings(epochs=2, **FAST), tmp_path, evaluate_dev=lambda _: float(next(scores))
    )
    ours = SentenceEncoder.from_pretrained(result.folder, device="cpu", compute_dtype=ComputeDtype.FLOAT32).encode(
        TEXTS
    )
    theirs = SentenceTransformer(result.folder, device="cpu").encode(TEXTS)
    np.testing.assert_allclose(ours, theirs, atol=1e-5)
    assert not np.allclose(
        ours,
        SentenceEncoder.from_pretrained(base, device="cpu", compute_dtype=ComputeDtype.FLOAT32).encode(TEXTS),
        atol=1e-3,
    )


CASES = [
    (LabelKind.SCORED_PAIRS, Objective.COSINE, {}),
    (LabelKind.SCORED_PAIRS, Objective.ANGLE, {"optimizer": "sgd", "learning_rate": 0.1}),
    (LabelKind.NLI, None, {}),
    (LabelKind.NLI, Objective.RANKING, {}),
    (LabelKind.PAIRS, None, {"matryoshka_dims": (32, 16)}),
    (LabelKind.SCORED_PAIRS, Objective.COSINE, {"matryoshka_dims": (32, 16)}),
    (LabelKind.SCORED_PAIRS, None, {"matryoshka_dims": (32, 16)}),
    (LabelKind.SCORED_PAIRS, Objective.ANGLE, {"matryoshka_dims": (32, 16)}),
    (LabelKind.TRIPLETS, Objective.TRIPLET, {"matryoshka_dims": (32, 16)}),
    (LabelKind.CLASSES, None, {"matryoshka_dims": (32, 16)}),
    (LabelKind.CLASSES, Objective.BATCH_HARD_TRIPLET, {"matryoshka_dims": (32, 16)}),
    (LabelKind.TEXTS, None, {"matryoshka_dims": (32, 16)}),
    (LabelKind.TEXTS, Objective.DISTILLATION, {"matryoshka_dims": (32, 16)}),
    (LabelKind.PAIRS, None, {"negatives": NegativesSettings(per_anchor=2, relative_margin=0.0, search_depth=500)}),
    (LabelKind.TRIPLETS, Objective.TRIPLET, {"gradient_accumulation": 2}),
    (LabelKind.TRIPLETS, Objective.RANKING, {"mini_batch_size": 8}),
    (LabelKind.CLASSES, Objective.BATCH_HARD_TRIPLET, {}),
    (LabelKind.CLASSES, Objective.SUPERVISED_CONTRASTIVE, {"bf16": True}),
    (LabelKind.TEXTS, Objective.SIMCSE, {}),
    (LabelKind.TEXTS, Objective.TSDAE, {}),
    (LabelKind.SCORED_PAIRS, None, {"continual": ContinualSettings(distill_weight=1.0)}),
]


@pytest.mark.parametrize(("kind", "objective", "more"), CASES)
def test_every_objective_moves_the_weights_with_a_finite_loss(
    kind: LabelKind, objective: Objective | None, more: dict[str, Any], base: str, tmp_path: Path
) -> None:
    labels = toy_labels(kind, 60, dev_share=0.0)
    settings = TrainingSettings(objective=objective, max_steps=3, **{**FAST, **more})
    result = train_encoder(base, labels, settings, tmp_path)
    losses = [point.values["loss"] for point in result.history if "loss" in point.values]
    assert losses
    assert all(math.isfinite(loss) for loss in losses)
    before, after = weights(base), weights(result.folder)
    name = "encoder.layer.0.attention.self.query.weight"
    assert not torch.equal(before[name], after[name])
    assert result.best_step == result.num_steps == 3
    assert math.isnan(result.dev_best)


def test_cross_entropy_leaves_a_classifier_beside_the_encoder(base: str, tmp_path: Path) -> None:
    labels = toy_labels(LabelKind.CLASSES)
    rates: dict[str, Any] = {"head_learning_rate": 3e-2, "early_stopping_patience": None}  # the head begins at chance
    settings = TrainingSettings(objective=Objective.CROSS_ENTROPY, epochs=25, **rates, **FAST)
    result = train_encoder(base, labels, settings, tmp_path)
    classifier = SentenceClassifier.load(result.folder)
    truth = labels.train["label"].to_list()
    right = [predicted == true for predicted, true in zip(classifier.predict(labels.train["text"]), truth, strict=True)]
    assert sum(right) / len(right) > 0.4  # chance is 0.1
    SentenceTransformer(result.folder, device="cpu")


def test_distillation_moves_towards_another_encoder(base: str, tmp_path: Path) -> None:
    teacher = save_tiny(tmp_path / "teacher", seed=7)
    labels = toy_labels(LabelKind.TEXTS, dev_share=0.0)
    settings = TrainingSettings(objective=Objective.DISTILLATION, teacher=teacher, epochs=8, **FAST)
    result = train_encoder(base, labels, settings, tmp_path / "out")
    wanted = SentenceEncoder.from_pretrained(teacher, device="cpu", compute_dtype=ComputeDtype.FLOAT32).encode(
        labels.train["text"]
    )
    distances = [
        np.linalg.norm(
            SentenceEncoder.from_pretrained(each, device="cpu", compute_dtype=ComputeDtype.FLOAT32).encode(
                labels.train["text"]
            )
            - wanted
        )
        for each in (base, result.folder)
    ]
    assert distances[1] < 0.8 * distances[0]


def test_the_same_seed_gives_the_same_weights_and_another_seed_others(base: str, tmp_path: Path) -> None:
    pairs, trained = toy_labels(LabelKind.SCORED_PAIRS, dev_share=0.0), []
    for number, seed in enumerate((1, 1, 2)):
        settings = TrainingSettings(max_steps=3, early_stopping_patience=None, seed=seed, **FAST)
        trained.append(weights(train_encoder(base, pairs, settings, tmp_path / str(number)).folder))
    assert all(torch.equal(trained[0][name], trained[1][name]) for name in trained[0])
    assert not all(torch.equal(trained[0][name], trained[2][name]) for name in trained[0])


def test_weight_averaging_lies_between_base_and_trained(base: str, pairs: LabelSet, tmp_path: Path) -> None:
    folders = []
    for weight in (1.0, 0.25):
        settings = TrainingSettings(epochs=2, continual=ContinualSettings(average_weight=weight), **FAST)
        scores = itertools.count()
        result = train_encoder(
            base, pairs, settings, tmp_path / str(weight), evaluate_dev=lambda _, scores=scores: float(next(scores))
        )
        folders.append(result.folder)
    before, trained, mixed = weights(base), weights(folders[0]), weights(folders[1])
    for name in before:
        torch.testing.assert_close(mixed[name], 0.75 * before[name] + 0.25 * trained[name], rtol=1e-4, atol=1e-6)


def test_wrong_combinations_are_refused(
    base: str, pairs: LabelSet, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("importlib.util.find_spec", lambda name: None)
    with pytest.raises(SettingsError, match="trackers names wandb, which is not installed"):
        train_encoder(base, pairs, TrainingSettings(trackers=(TrackerKind.WANDB,)), tmp_path)
    monkeypatch.undo()
    with pytest.raises(
        TrainingError, match=r"ranking learns from pairs or triplets or nli, but the labels are scored_pairs"
    ):
        train_encoder(base, pairs, TrainingSettings(objective=Objective.RANKING), tmp_path)
    with pytest.raises(SettingsError, match="mined for pairs, but the labels are scored_pairs"):
        train_encoder(base, pairs, TrainingSettings(negatives=NegativesSettings(per_anchor=1)), tmp_path)


def test_matryoshka_distillation_shortens_what_the_teacher_says(base: str, tmp_path: Path) -> None:
    """The first 8 values alone come to tell apart what the whole vectors of the base tell apart."""
    labels = toy_labels(LabelKind.TEXTS, dev_share=0.0)
    settings = TrainingSettings(
        objective=Objective.DISTILLATION, matryoshka_dims=(32, 8), epochs=8, dropout=0.0, **FAST
    )
    result = train_encoder(base, labels, settings, tmp_path)
    teacher, student = (
        SentenceEncoder.from_pretrained(each, device="cpu", compute_dtype=ComputeDtype.FLOAT32).encode(
            labels.train["text"]
        )
        for each in (base, result.folder)
    )

    def cosines(vectors: np.ndarray) -> np.ndarray:
        units = vectors / np.linalg.norm(vectors, axis=1, keepdims=True)
        return units @ units.T

    wanted = cosines(teacher)
    before, after = (float(((cosines(each[:, :8]) - wanted) ** 2).mean()) for each in (teacher, student))
    assert after < 0.5 * before


@pytest.mark.parametrize(
    ("kind", "settings", "error", "message"),
    [
        (
            LabelKind.SCORED_PAIRS, {"freeze": "all_but_head"}, SettingsError,
            "freeze 'all_but_head' leaves nothing to train: objective cosent has no weights of its own",
        ),
        (
            LabelKind.CLASSES, {"freeze": "layers", "freeze_layers": 2}, SettingsError,
            "freeze 'layers' leaves nothing to train: objective supervised_contrastive",
        ),
        (
            LabelKind.SCORED_PAIRS, {"objective": Objective.ANGLE, "matryoshka_dims": (32, 15)}, TrainingError,
            r"matryoshka_dims are \[32, 15\], but objective angle takes vectors in two halves: choose even dims",
        ),
        (
            LabelKind.PAIRS, {"negatives": NegativesSettings(per_anchor=1, max_score=-1.0)}, SettingsError,
            r"^0 of \d+ pairs have 1 fitting negatives among \d+ texts of the labels' positives: lower negatives.per_anchor",
        ),
    ],
)  # fmt: skip
def test_settings_that_cannot_train_are_refused_with_the_remedy(
    kind: LabelKind, settings: dict[str, Any], error: type[Exception], message: str, base: str, tmp_path: Path
) -> None:
    with pytest.raises(error, match=message):
        train_encoder(base, toy_labels(kind), TrainingSettings(**settings), tmp_path)


def test_training_settings_that_contradict_each_other_are_refused() -> None:
    prompt = AdapterSettings(kind=AdapterKind.PROMPT)
    with pytest.raises(ValidationError, match=r"set continual.average_weight to 1 \(it is 0.5\), or use adapter lora"):
        TrainingSettings(adapter=prompt, continual=ContinualSettings(average_weight=0.5))
    with pytest.raises(ValidationError, match=r"negatives.per_anchor is 0: set the number"):
        TrainingSettings(negatives=NegativesSettings(table_uri="table"))


def test_names_of_classes_are_texts_of_them(base: str, tmp_path: Path) -> None:
    rows = pl.DataFrame(
        {"text": ["where is it", "card arrival", "no pin"], "label": ["card_arrival", "card_arrival", "forgot_pin"]}
    )
    named = with_class_names(rows, LabelKind.CLASSES)
    assert named.rows() == [*rows.rows(), ("forgot pin", "forgot_pin")]  # the other name is a text already
    assert with_class_names(rows, LabelKind.TEXTS) is rows
    labels = toy_labels(LabelKind.CLASSES, 60, dev_share=0.0)
    settings = TrainingSettings(class_names=True, epochs=1, **{**FAST, "batch_size": labels.train.height + 10})
    result = train_encoder(base, labels, settings, tmp_path)
    assert result.num_steps == 1  # the names fill the batch

"""The default dev metric: ties never count as wins, and dev rows that say nothing are refused before training."""

import math
from pathlib import Path
from typing import Any

import numpy as np
import polars as pl
import pytest

from sbert.encoder.side import Side
from sbert.errors import TooFewLabelsError, TrainingError
from sbert.labels.label_kinds import COLUMNS, LabelKind
from sbert.labels.label_set import LabelSet
from sbert.training.dev_metric import default_dev_metric
from sbert.training.settings import TrainingSettings
from sbert.training.train import train_encoder
from tests.support.tiny_models import tiny_encoder
from tests.support.toy_training import FAST, toy_labels


class Constant:
    """An encoder that gives every text the same vector."""

    def encode(self, texts: pl.Series, *, side: Side) -> np.ndarray:
        del side
        return np.full((len(texts), 8), 0.3, dtype=np.float32)


def with_dev(kind: LabelKind, *rows: tuple[object, ...]) -> LabelSet:
    """Return toy labels whose dev rows are these."""
    labels = toy_labels(kind)
    dev = pl.DataFrame(rows, schema=list(COLUMNS[kind]), orient="row")
    dev = dev.with_columns(row_id=pl.int_range(pl.len()).cast(pl.String), object=pl.lit("x"))
    return LabelSet(kind, labels.train, dev, labels.test, "fingerprint")


@pytest.mark.parametrize("kind", list(LabelKind))
def test_constant_vectors_score_no_better_than_the_worst_ranking(kind: LabelKind) -> None:
    labels = toy_labels(kind)
    worst = {
        LabelKind.SCORED_PAIRS: 0.0,
        LabelKind.NLI: 0.0,
        LabelKind.TRIPLETS: 0.0,
        LabelKind.PAIRS: 1 / labels.dev["positive"].n_unique() if kind is LabelKind.PAIRS else 0.0,
    }
    constant: Any = Constant()
    score = default_dev_metric(labels)(constant)
    if kind in worst:
        assert score == pytest.approx(worst[kind], abs=1e-6)
    assert score < 0.3  # chance: one class of ten, one text of twenty
    assert default_dev_metric(labels)(tiny_encoder()) != score


def test_the_reciprocal_rank_is_that_worked_by_hand() -> None:
    """Of the three answers only b is told apart: 1 for its question; the other two tie with each other: 1/2."""
    labels = with_dev(LabelKind.PAIRS, ("qa", "a"), ("qb", "b"), ("qc", "c"))
    east, north = [1.0, 0.0], [0.0, 1.0]
    place = {"qa": east, "a": east, "qb": north, "b": north, "qc": east, "c": east}

    class ByHand:
        def encode(self, texts: pl.Series, *, side: Side) -> np.ndarray:
            del side
            return np.array([place[text] for text in texts], dtype=np.float32)

    encoder: Any = ByHand()
    assert default_dev_metric(labels)(encoder) == pytest.approx((1 / 2 + 1 + 1 / 2) / 3)


@pytest.mark.parametrize(
    ("kind", "rows", "why"),
    [
        (LabelKind.SCORED_PAIRS, [("a", "b", 1.0)], "the 1 dev rows have 1 different scores"),
        (LabelKind.SCORED_PAIRS, [("a", "b", 1.0), ("c", "d", 1.0)], "the 2 dev rows have 1 different scores"),
        (LabelKind.NLI, [("a", "b", "neutral"), ("c", "d", "neutral")], "have 1 different labels"),
        (LabelKind.PAIRS, [("a", "x"), ("b", "x")], "have 1 different positives"),
        (LabelKind.TEXTS, [("word",), ("two words",)], "have 1 different texts of two words or more"),
        (LabelKind.CLASSES, [("a", "strange")], "have 0 classes that occur in train"),
    ],
)
def test_dev_rows_that_tell_no_encoders_apart_are_refused_before_training(
    base: str, tmp_path: Path, kind: LabelKind, rows: list[tuple[object, ...]], why: str
) -> None:
    labels = with_dev(kind, *rows)
    with pytest.raises(TooFewLabelsError, match=rf"{why}.*leave dev out \(dev_share=0\) to keep the last checkpoint"):
        train_encoder(base, labels, TrainingSettings(epochs=1, **FAST), tmp_path)
    assert not (tmp_path / "checkpoints").exists()


def test_a_dev_metric_that_is_no_number_is_refused_before_training(base: str, pairs: LabelSet, tmp_path: Path) -> None:
    with pytest.raises(TrainingError, match="the dev metric of the encoder that training begins with is nan"):
        train_encoder(base, pairs, TrainingSettings(epochs=1, **FAST), tmp_path, evaluate_dev=lambda _: math.nan)


def test_a_checkpoint_whose_dev_metric_is_no_number_is_reported(
    base: str, pairs: LabelSet, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    scores = iter([0.5, math.nan, 0.6])
    result = train_encoder(
        base, pairs, TrainingSettings(epochs=2, **FAST), tmp_path, evaluate_dev=lambda _: next(scores)
    )
    assert result.dev_best == 0.6
    assert result.best_step == result.num_steps
    assert "the dev metric is nan, the checkpoint counts as the worst" in caplog.text

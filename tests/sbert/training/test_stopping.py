"""When training ends before its epochs, and which checkpoint is kept."""

import math
from pathlib import Path

import pytest
import torch

from sbert.encoder import SentenceEncoder
from sbert.errors import DivergedError
from sbert.labels import LabelSet
from sbert.training import (
    StopReason,
    TrainingSettings,
    train_encoder,
)
from sbert.training.losses import CosentLoss
from tests.sbert.training.toy import FAST, weights


def test_early_stopping_keeps_the_best_checkpoint(base: str, pairs: LabelSet, tmp_path: Path) -> None:
    scores = iter([0.1, 0.5, 0.9, 0.3, 0.2, 0.8, 0.8, 0.8])
    seen: list[dict[str, torch.Tensor]] = []

    def metric(encoder: SentenceEncoder) -> float:
        seen.append({name: each.clone() for name, each in encoder.transformer.state_dict().items()})
        return next(scores)

    settings = TrainingSettings(epochs=7, early_stopping_patience=2, **FAST)
    result = train_encoder(base, pairs, settings, tmp_path, evaluate_dev=metric)
    per_epoch = pairs.train.height // 16
    assert result.stop_reason is StopReason.EARLY_STOPPING
    assert (result.dev_before, result.dev_best) == (0.1, 0.9)
    assert (result.best_step, result.num_steps) == (2 * per_epoch, 4 * per_epoch)
    saved = weights(result.folder)
    best = seen[2]  # after the evaluation of the base, and of the first epoch
    assert all(torch.equal(saved[name], best[name]) for name in saved)


def test_no_improvement_gives_the_base_back(base: str, pairs: LabelSet, tmp_path: Path) -> None:
    settings = TrainingSettings(epochs=2, **FAST)
    result = train_encoder(base, pairs, settings, tmp_path, evaluate_dev=lambda _: 0.5)
    assert not result.improved
    assert result.dev_best == result.dev_before == 0.5
    saved, before = weights(result.folder), weights(base)
    assert all(torch.equal(saved[name], before[name]) for name in before)


class _BreaksAt:
    """A loss that is not a number from some batch on."""

    def __init__(self, first: int) -> None:
        self.left = first

    def __call__(self, vectors: list[torch.Tensor], scores: torch.Tensor) -> torch.Tensor:
        self.left -= 1
        value = (vectors[0] * vectors[1]).sum(1) - scores
        return (value * value).mean() * (math.nan if self.left < 0 else 1.0)


def test_nan_loss_stops_and_keeps_the_last_good_checkpoint(
    base: str, pairs: LabelSet, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    per_epoch = pairs.train.height // 16
    breaks = _BreaksAt(per_epoch + 2)
    monkeypatch.setattr(CosentLoss, "forward", breaks)
    scores = iter([0.1, 0.6])
    settings = TrainingSettings(epochs=5, **FAST)
    result = train_encoder(base, pairs, settings, tmp_path, evaluate_dev=lambda _: next(scores))
    assert result.stop_reason is StopReason.NAN_LOSS
    assert (result.best_step, result.dev_best) == (per_epoch, 0.6)
    assert all(torch.isfinite(each).all() for each in weights(result.folder).values())


def test_nan_loss_before_anything_was_better_is_an_error(
    base: str, pairs: LabelSet, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(CosentLoss, "forward", lambda *_: torch.tensor(math.nan, requires_grad=True))
    with pytest.raises(DivergedError, match=r"not a number after step 0.*learning_rate \(0.002\)"):
        train_encoder(base, pairs, TrainingSettings(epochs=1, **FAST), tmp_path)

"""Early ends of training: the reasons, the checkpoint that is kept, the state of a resumed run."""

import math
import re
import shutil
import threading
from collections.abc import Callable
from pathlib import Path
from typing import Any

import polars as pl
import pytest
import torch

from sbert.encoder.sentence_encoder import SentenceEncoder
from sbert.errors import DivergedError
from sbert.labels.label_kinds import LabelKind
from sbert.labels.label_set import LabelSet
from sbert.labels.load import make_label_set
from sbert.labels.settings import LabelSettings
from sbert.training.losses.classes import SupervisedContrastiveLoss
from sbert.training.losses.pairs import CosentLoss
from sbert.training.result import StopReason, TrainingProgress
from sbert.training.settings import TrainingSettings
from sbert.training.train import train_encoder
from sbert.training.trainer import EarlyStopping
from tests.support.toy_training import FAST, toy_labels, toy_rows, weights


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
    assert result.dev_before == 0.1
    assert result.dev_best == 0.9
    assert result.best_step == 2 * per_epoch
    assert result.num_steps == 4 * per_epoch
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


class BreaksAt:
    """A loss that is not a number from some training step on."""

    def __init__(self, first: int, real: Callable[..., torch.Tensor]) -> None:
        self.left, self.real = first, real

    def __get__(self, loss: torch.nn.Module, _: Any) -> Callable[..., torch.Tensor]:
        return lambda *arguments: self.forward(loss, *arguments)

    def forward(self, *arguments: Any) -> torch.Tensor:
        self.left -= torch.is_grad_enabled()
        return self.real(*arguments) * (math.nan if self.left < 0 else 1.0)


def test_nan_loss_stops_and_keeps_the_last_good_checkpoint(
    base: str, pairs: LabelSet, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    per_epoch = pairs.train.height // 16
    monkeypatch.setattr(CosentLoss, "forward", BreaksAt(per_epoch + 2, CosentLoss.forward))
    scores = iter([0.1, 0.6])
    settings = TrainingSettings(epochs=5, **FAST)
    result = train_encoder(base, pairs, settings, tmp_path, evaluate_dev=lambda _: next(scores))
    assert result.stop_reason is StopReason.NAN_LOSS
    assert result.best_step == per_epoch
    assert result.dev_best == 0.6
    assert all(torch.isfinite(each).all() for each in weights(result.folder).values())
    writers = [thread for thread in threading.enumerate() if type(thread).__module__.startswith("tensorboard.")]
    assert not writers, "the last numbers are not written"


def test_nan_loss_before_anything_was_better_is_an_error(
    base: str, pairs: LabelSet, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(CosentLoss, "forward", lambda *_: torch.tensor(math.nan, requires_grad=True))
    with pytest.raises(
        DivergedError, match=r"^the loss of step 1 is nan, at learning rate 0.*lower learning_rate \(0.002\)"
    ):
        train_encoder(base, pairs, TrainingSettings(epochs=1, **FAST), tmp_path)


def ruin_gradient(monkeypatch: pytest.MonkeyPatch, loss: type[torch.nn.Module], step: int) -> None:
    """Let the gradient, not the loss, of one step be NaN."""
    real, steps = loss.forward, []

    def forward(self: torch.nn.Module, vectors: list[torch.Tensor], labels: torch.Tensor) -> torch.Tensor:
        if torch.is_grad_enabled():
            steps.append(1)
            if len(steps) == step:
                vectors[0].register_hook(lambda gradient: gradient * math.nan)
        value: torch.Tensor = real(self, vectors, labels)
        return value

    monkeypatch.setattr(loss, "forward", forward)


def test_a_gradient_that_is_nan_before_an_evaluation_stops_and_keeps_the_last_good_checkpoint(
    base: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    labels = toy_labels(LabelKind.CLASSES)
    per_epoch = labels.train.height // 16
    ruin_gradient(monkeypatch, SupervisedContrastiveLoss, 2 * per_epoch)
    scores = iter([0.1, 0.6])
    result = train_encoder(
        base, labels, TrainingSettings(epochs=3, **FAST), tmp_path, evaluate_dev=lambda _: next(scores)
    )
    assert result.stop_reason is StopReason.NAN_LOSS
    assert result.best_step == per_epoch
    assert result.dev_best == 0.6
    assert result.num_steps == 2 * per_epoch - 1
    assert re.fullmatch(
        rf"the gradient norm of step {2 * per_epoch} is nan, at learning rate 0\.00\d+", result.stop_detail
    )
    assert all(torch.isfinite(each).all() for each in weights(result.folder).values())


def test_weights_that_give_no_numbers_are_not_evaluated(base: str, tmp_path: Path) -> None:
    """Every gradient is a number; a rate that is far too high makes weights whose vectors are none."""
    labels = toy_labels(LabelKind.CLASSES)
    wild = {"optimizer": "sgd", "learning_rate": 10.0, "max_grad_norm": 0.0, "scheduler": "constant"}
    settings = TrainingSettings(max_steps=1, temperature=1e-18, evaluations_per_epoch=100, **{**FAST, **wild})
    with pytest.raises(DivergedError, match=r"^the loss after step 1 is nan, at learning rate 10, and no checkpoint"):
        train_encoder(base, labels, settings, tmp_path)


def test_without_dev_rows_the_last_checkpoint_before_the_nan_is_kept(
    base: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    pairs = toy_labels(LabelKind.SCORED_PAIRS, dev_share=0.0)
    per_epoch = pairs.train.height // 16
    settings = TrainingSettings(epochs=3, scheduler="constant", **FAST)
    two = train_encoder(base, pairs, settings.model_copy(update={"epochs": 2}), tmp_path / "two")
    monkeypatch.setattr(CosentLoss, "forward", BreaksAt(2 * per_epoch + 1, CosentLoss.forward))
    result = train_encoder(base, pairs, settings, tmp_path / "three")
    assert result.stop_reason == StopReason.NAN_LOSS
    assert result.best_step == 2 * per_epoch
    assert result.num_steps == 2 * per_epoch + 1
    assert result.improved
    assert math.isnan(result.dev_best)
    kept, expected = weights(result.folder), weights(two.folder)
    assert all(torch.equal(kept[name], expected[name]) for name in expected)


def test_without_dev_rows_and_checkpoints_a_nan_is_an_error(
    base: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(CosentLoss, "forward", lambda *_: torch.tensor(math.nan, requires_grad=True))
    with pytest.raises(DivergedError, match=r"there was no checkpoint before: lower learning_rate \(0.002\)"):
        train_encoder(base, toy_labels(LabelKind.SCORED_PAIRS, dev_share=0.0), TrainingSettings(**FAST), tmp_path)


def test_gains_below_the_least_improvement_do_not_count(base: str, pairs: LabelSet, tmp_path: Path) -> None:
    scores = iter([0.1, 0.15, 0.18, 0.19, 0.19])
    settings = TrainingSettings(epochs=4, early_stopping_patience=2, min_improvement=0.1, **FAST)
    result = train_encoder(base, pairs, settings, tmp_path, evaluate_dev=lambda _: next(scores))
    assert result.stop_reason is StopReason.EARLY_STOPPING
    assert result.num_steps == 3 * (pairs.train.height // 16)
    assert not result.improved
    assert result.dev_best == 0.1


def killed_in(step: int) -> Callable[[TrainingProgress], None]:
    def progress(told: TrainingProgress) -> None:
        if told.step == step and told.loss is not None:
            raise KeyboardInterrupt

    return progress


def test_a_resumed_run_knows_the_best_checkpoint_and_for_how_long_nothing_was_better(
    base: str, pairs: LabelSet, tmp_path: Path
) -> None:
    """The best checkpoint is of the killed run; one more bad evaluation after the resuming ends the training."""
    per_epoch = pairs.train.height // 16
    settings = TrainingSettings(epochs=9, early_stopping_patience=3, **FAST)
    whole_scores = iter([0.1, 0.5, 0.9, 0.3, 0.2, 0.4])
    whole = train_encoder(base, pairs, settings, tmp_path / "whole", evaluate_dev=lambda _: next(whole_scores))
    uri, scores = str(tmp_path / "store"), iter([0.1, 0.5, 0.9, 0.3, 0.2])
    with pytest.raises(KeyboardInterrupt):
        train_encoder(
            base, pairs, settings, tmp_path / "killed", evaluate_dev=lambda _: next(scores), checkpoints_uri=uri,
            on_progress=killed_in(4 * per_epoch + 2),
        )  # fmt: skip
    shutil.rmtree(tmp_path / "killed")
    rest = iter([0.1, 0.4])
    resumed = train_encoder(
        base, pairs, settings, tmp_path / "resumed", evaluate_dev=lambda _: next(rest), checkpoints_uri=uri
    )
    for result in (whole, resumed):
        assert result.stop_reason is StopReason.EARLY_STOPPING
        assert result.dev_best == 0.9
        assert result.best_step == 2 * per_epoch
        assert result.num_steps == 5 * per_epoch
    expected, actual = weights(whole.folder), weights(resumed.folder)
    assert all(torch.equal(actual[name], expected[name]) for name in expected)


def test_other_known_objects_are_another_run(base: str, tmp_path: Path) -> None:
    rows = toy_rows(LabelKind.SCORED_PAIRS).with_columns(
        pl.Series("object", ["a", "a", "b", "b"] * 30), pl.lit("train").alias("split")
    )
    labels = make_label_set(rows, LabelKind.SCORED_PAIRS, LabelSettings(near_duplicate_similarity=1.0))
    settings, uri = TrainingSettings(max_steps=2, **FAST), str(tmp_path / "store")
    first, second, again = (
        train_encoder(
            base, labels, settings, tmp_path / str(number), checkpoints_uri=uri, known_objects=frozenset(objects)
        )
        for number, objects in enumerate(("a", "b", "a"))
    )
    assert first.checkpoints_uri == again.checkpoints_uri != second.checkpoints_uri
    one, two = weights(first.folder), weights(second.folder)
    assert not all(torch.equal(one[name], two[name]) for name in one)


def test_small_steps_that_add_up_to_an_improvement_do_not_stop_training(
    base: str, pairs: LabelSet, tmp_path: Path
) -> None:
    """Each step is below `min_improvement`; two of them together are above it."""
    scores = iter([0.1, 0.50, 0.56, 0.62, 0.68, 0.74, 0.80, 0.80, 0.80])
    settings = TrainingSettings(epochs=8, early_stopping_patience=2, min_improvement=0.1, **FAST)
    result = train_encoder(base, pairs, settings, tmp_path, evaluate_dev=lambda _: next(scores))
    assert result.dev_best == 0.80
    assert result.stop_reason is StopReason.COMPLETED or result.num_steps >= 7 * (pairs.train.height // 16)


def test_a_resumed_run_knows_the_last_improvement_that_counted() -> None:
    first = EarlyStopping(3, 0.1)
    arguments: Any = (None, None, None)
    for value in (0.5, 0.55):
        first.check_metric_value(*arguments, value)
    resumed = EarlyStopping.from_state(first.state())
    assert resumed.last_counted == 0.5
    assert resumed.early_stopping_patience_counter == 1
    resumed.check_metric_value(*arguments, 0.61)
    assert resumed.last_counted == 0.61
    assert resumed.early_stopping_patience_counter == 0

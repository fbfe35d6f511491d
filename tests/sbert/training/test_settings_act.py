"""Every setting of the optimizer, of what is trained and of where curves go reaches the training."""

import math
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
import transformers
from transformers.integrations import integration_utils

from sbert.encoder.engine.dtype import ComputeDtype
from sbert.encoder.sentence_encoder import SentenceEncoder
from sbert.labels.label_kinds import LabelKind
from sbert.labels.label_set import LabelSet
from sbert.training import train as training
from sbert.training import training_run
from sbert.training.classifier import SentenceClassifier
from sbert.training.result import TrainingResult
from sbert.training.settings import ContinualSettings, Objective, TrackerKind, TrainingSettings
from sbert.training.train import train_encoder
from sbert.training.trainer import EncoderTrainer
from tests.support.toy_training import FAST, TEXTS, toy_labels, weights

PLAIN: dict[str, Any] = {
    **FAST,
    "optimizer": "sgd", "momentum": 0.0, "weight_decay": 0.0, "warmup_ratio": 0.0, "scheduler": "constant", "dropout": 0.0,
    "max_grad_norm": 0.0, "learning_rate": 0.01,
}  # fmt: skip
"""A step that is rate x gradient, nothing else."""


@pytest.fixture(scope="module")
def pairs() -> LabelSet:
    return toy_labels(LabelKind.SCORED_PAIRS, dev_share=0.0)


@pytest.fixture(scope="module")
def classes() -> LabelSet:
    return toy_labels(LabelKind.CLASSES, dev_share=0.0)


@pytest.fixture
def trainers(monkeypatch: pytest.MonkeyPatch) -> list[EncoderTrainer]:
    """Every trainer that is made."""
    made: list[EncoderTrainer] = []

    class Kept(EncoderTrainer):
        def __init__(self, *arguments: Any, **options: Any) -> None:
            super().__init__(*arguments, **options)
            made.append(self)

    monkeypatch.setattr(training, "EncoderTrainer", Kept)
    return made


def moved(base: str, result: TrainingResult) -> dict[str, torch.Tensor]:
    """Return how far each tensor of the base was moved, where it was."""
    before, after = weights(base), weights(result.folder)
    return {name: after[name] - before[name] for name in before if not torch.equal(after[name], before[name])}


def length(tensors: dict[str, torch.Tensor]) -> float:
    return math.sqrt(sum(float(each.double().square().sum()) for each in tensors.values()))


def rates(result: TrainingResult) -> list[float]:
    return [point.values["learning_rate"] for point in result.history if "learning_rate" in point.values]


@pytest.mark.parametrize("optimizer", ["adamw", "sgd"])
def test_the_optimizer_has_groups_for_decay_and_for_fresh_heads(
    optimizer: str, base: str, classes: LabelSet, tmp_path: Path, trainers: list[EncoderTrainer]
) -> None:
    settings = TrainingSettings(
        objective=Objective.CROSS_ENTROPY, max_steps=1, scheduler="constant", weight_decay=0.37, momentum=0.7,
        head_learning_rate=0.5, **{**FAST, "optimizer": optimizer, "learning_rate": 0.25},
    )  # fmt: skip
    train_encoder(base, classes, settings, tmp_path)
    [trainer] = trainers
    assert trainer.optimizer is not None
    inner: Any = getattr(trainer.optimizer, "optimizer", trainer.optimizer)
    assert type(inner) is (torch.optim.AdamW if optimizer == "adamw" else torch.optim.SGD)
    assert trainer.model is not None
    names = {id(each): name for name, each in trainer.model.named_parameters()}
    options_by_name = {
        names[id(each)]: (group["weight_decay"], group["lr"], group.get("momentum"))
        for group in inner.param_groups
        for each in group["params"]
    }
    momentum = 0.7 if optimizer == "sgd" else None
    for name, options in options_by_name.items():
        decay = 0.37 if name.endswith(".weight") and "LayerNorm" not in name else 0.0
        assert options == (decay, 0.5 if name.startswith("loss.classifier.") else 0.25, momentum), name
    assert {
        "loss.classifier.weight",
        "encoder.transformer.encoder.layer.0.attention.self.query.weight",
    } <= options_by_name.keys()


def test_weight_decay_shrinks_weights(base: str, pairs: LabelSet, tmp_path: Path) -> None:
    settings = TrainingSettings(max_steps=1, **PLAIN)
    without = weights(train_encoder(base, pairs, settings, tmp_path / "0").folder)
    decaying = settings.model_copy(update={"weight_decay": 0.5})
    with_decay = weights(train_encoder(base, pairs, decaying, tmp_path / "1").folder)
    name = "encoder.layer.0.attention.self.query.weight"
    torch.testing.assert_close(with_decay[name], without[name] - 0.01 * 0.5 * weights(base)[name])
    assert torch.equal(with_decay[name.replace("weight", "bias")], without[name.replace("weight", "bias")])


SHARES = {
    "linear": [(10 - step) / 8 for step in range(2, 10)],
    "cosine": [0.5 * (1 + math.cos(math.pi * (step - 2) / 8)) for step in range(2, 10)],
    "constant_with_warmup": [1.0] * 8,
}


@pytest.mark.parametrize("scheduler", SHARES)
def test_the_learning_rate_rises_in_the_warmup_and_falls_as_the_scheduler_says(
    scheduler: Any, base: str, pairs: LabelSet, tmp_path: Path
) -> None:
    settings = TrainingSettings(max_steps=10, **{**PLAIN, "scheduler": scheduler, "warmup_ratio": 0.2})
    result = train_encoder(base, pairs, settings, tmp_path)
    np.testing.assert_allclose(rates(result), 0.01 * np.array([0.0, 0.5, *SHARES[scheduler]]), rtol=1e-6, atol=1e-9)


def test_without_warmup_and_constant_the_rate_is_one(base: str, pairs: LabelSet, tmp_path: Path) -> None:
    assert rates(train_encoder(base, pairs, TrainingSettings(max_steps=3, **PLAIN), tmp_path)) == [0.01] * 3


def test_gradients_are_clipped_at_their_norm(base: str, pairs: LabelSet, tmp_path: Path) -> None:
    settings = TrainingSettings(max_steps=1, **PLAIN)
    whole = train_encoder(base, pairs, settings, tmp_path / "whole")
    norm = next(point.values["grad_norm"] for point in whole.history if "grad_norm" in point.values)
    assert norm > 0.2
    assert length(moved(base, whole)) == pytest.approx(0.01 * norm, rel=1e-3)
    clipped = train_encoder(base, pairs, settings.model_copy(update={"max_grad_norm": 0.1}), tmp_path / "clipped")
    assert length(moved(base, clipped)) == pytest.approx(0.01 * 0.1, rel=1e-3)


def test_a_step_is_the_mean_of_its_batches(base: str, pairs: LabelSet, tmp_path: Path) -> None:
    """One step of two batches; the same two batches one by one, at so low a rate that the second sees the same weights."""
    low = {**PLAIN, "learning_rate": 1e-4, "objective": Objective.COSINE}
    both = train_encoder(base, pairs, TrainingSettings(max_steps=1, gradient_accumulation=2, **low), tmp_path / "both")
    single = train_encoder(base, pairs, TrainingSettings(max_steps=2, **low), tmp_path / "single")
    assert both.num_tokens == single.num_tokens
    once, twice = moved(base, both), moved(base, single)
    name = "encoder.layer.1.output.dense.weight"
    torch.testing.assert_close(2 * once[name], twice[name], rtol=0.05, atol=2e-7)
    epoch = train_encoder(base, pairs, TrainingSettings(epochs=1, gradient_accumulation=2, **low), tmp_path / "epoch")
    assert epoch.num_steps == math.ceil(pairs.train.height // 16 / 2)


def test_frozen_embeddings_stay_as_they_are(base: str, pairs: LabelSet, tmp_path: Path) -> None:
    result = train_encoder(base, pairs, TrainingSettings(max_steps=2, freeze="embeddings", **FAST), tmp_path)
    changed = moved(base, result)
    assert {name.split(".")[0] for name in changed} == {"encoder"}
    assert {name.split(".")[2] for name in changed} == {"0", "1"}


def test_all_but_the_head_stays_as_it_is(base: str, classes: LabelSet, tmp_path: Path) -> None:
    settings = TrainingSettings(
        objective=Objective.CROSS_ENTROPY, freeze="all_but_head", epochs=8, head_learning_rate=0.05, **FAST
    )
    result = train_encoder(base, classes, settings, tmp_path)
    assert moved(base, result) == {}
    predicted = SentenceClassifier.load(result.folder).predict(classes.train["text"])
    right = [ours == true for ours, true in zip(predicted, classes.train["label"], strict=True)]
    assert sum(right) / len(right) > 0.3  # chance is 0.1


def test_distillation_beside_the_objective_holds_vectors_back(base: str, pairs: LabelSet, tmp_path: Path) -> None:
    before = SentenceEncoder.from_pretrained(base, device="cpu", compute_dtype=ComputeDtype.FLOAT32).encode(TEXTS)
    distances = []
    for weight in (0.0, 1000.0):
        settings = TrainingSettings(epochs=3, dropout=0.0, continual=ContinualSettings(distill_weight=weight), **FAST)
        folder = train_encoder(base, pairs, settings, tmp_path / str(weight)).folder
        after = SentenceEncoder.from_pretrained(folder, device="cpu", compute_dtype=ComputeDtype.FLOAT32).encode(TEXTS)
        distances.append(float(np.linalg.norm(after - before)))
    assert distances[1] < 0.6 * distances[0]


def test_curves_go_to_the_trackers_named(
    base: str, pairs: LabelSet, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    curves: dict[str, list[float]] = {"wandb": [], "mlflow": []}

    def tracker(name: str) -> type[transformers.TrainerCallback]:
        class Tracker(transformers.TrainerCallback):
            def on_log(self, *_: Any, logs: dict[str, float], **__: Any) -> None:
                curves[name] += [logs["loss"]] if "loss" in logs else []

        return Tracker

    monkeypatch.setattr("importlib.util.find_spec", lambda name: name)
    for name in curves:
        monkeypatch.setitem(integration_utils.INTEGRATION_TO_CALLBACK, name, tracker(name))
    settings = TrainingSettings(max_steps=3, trackers=(TrackerKind.WANDB, TrackerKind.MLFLOW), **FAST)
    result = train_encoder(base, pairs, settings, tmp_path)
    losses = [point.values["loss"] for point in result.history if "loss" in point.values]
    assert len(losses) == 3
    assert curves == {"wandb": losses, "mlflow": losses}


def test_one_process_uses_one_accelerator(
    base: str, pairs: LabelSet, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Trainer would split a batch over all that it sees along the first axis of each tensor, which is not rows here."""
    real = transformers.TrainingArguments.__post_init__

    def sees_two(arguments: Any) -> None:
        real(arguments)
        arguments._n_gpu = 2

    class Refused(torch.nn.DataParallel[torch.nn.Module]):
        def __init__(self, *_: Any, **__: Any) -> None:
            raise AssertionError("DataParallel")

    monkeypatch.setattr(transformers.TrainingArguments, "__post_init__", sees_two)
    monkeypatch.setattr(torch.nn, "DataParallel", Refused)
    assert train_encoder(base, pairs, TrainingSettings(max_steps=1, **FAST), tmp_path).num_steps == 1


@pytest.mark.parametrize(
    ("has_units", "asked", "expected"),
    [(True, None, True), (False, None, False), (True, False, False), (False, True, True)],
)
def test_the_transformer_computes_in_bfloat16_where_the_device_has_units_for_it_or_settings_say_so(
    has_units: bool,
    asked: bool | None,
    expected: bool,
    base: str,
    pairs: LabelSet,
    trainers: list[EncoderTrainer],
    monkeypatch: pytest.MonkeyPatch,
    tmp_path: Path,
) -> None:
    monkeypatch.setattr(training_run, "has_fast_bfloat16", lambda device: has_units)
    train_encoder(base, pairs, TrainingSettings(**{**PLAIN, "max_steps": 1, "bf16": asked}), tmp_path)
    [trainer] = trainers
    module, seen = trainer._module, []
    layer = next(each for each in module.encoder.modules() if isinstance(each, torch.nn.Linear))
    layer.register_forward_hook(lambda *given: seen.append(given[2].dtype))
    module([torch.tensor([[101, 7, 102]])], [None], torch.tensor([0, 0]), 2, torch.tensor([0.5]))
    assert seen == [torch.bfloat16 if expected else torch.float32]

"""Training as a whole, on tiny random encoders."""

import itertools
import json
import math
import os
import subprocess
import sys
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from safetensors.torch import load_file
from sentence_transformers import SentenceTransformer

from sbert.encoder import ComputeDtype, SentenceEncoder
from sbert.errors import DivergedError, SettingsError, TooFewLabelsError, TrainingError
from sbert.labels import LabelKind, LabelSet
from sbert.training import (
    AdapterKind,
    AdapterSettings,
    ContinualSettings,
    NegativesSettings,
    Objective,
    StopReason,
    TrackerKind,
    TrainingProgress,
    TrainingSettings,
    train_encoder,
)
from sbert.training.classifier import SentenceClassifier
from sbert.training.dev import default_dev_metric
from sbert.training.losses import CosentLoss
from tests.sbert.training.toy import toy_labels
from tests.tiny_models import save_tiny

FAST: dict[str, Any] = {"batch_size": 16, "learning_rate": 2e-3, "bf16": False}
TEXTS = ["how do i reset my password", "the cat sat on mat", "a train to hamburg is late"]


@pytest.fixture(scope="module")
def base(tmp_path_factory: pytest.TempPathFactory) -> str:
    return save_tiny(tmp_path_factory.mktemp("base"))


@pytest.fixture(scope="module")
def pairs() -> LabelSet:
    return toy_labels(LabelKind.SCORED_PAIRS)


def weights(folder: str | Path) -> dict[str, torch.Tensor]:
    return load_file(Path(folder, "model.safetensors"))


def test_training_improves_the_dev_metric_and_says_how(base: str, pairs: LabelSet, tmp_path: Path) -> None:
    told: list[TrainingProgress] = []
    settings = TrainingSettings(epochs=8, early_stopping_patience=None, **{**FAST, "learning_rate": 5e-3})
    result = train_encoder(base, pairs, settings, tmp_path, on_progress=told.append)
    assert result.stop_reason is StopReason.COMPLETED
    assert result.improved
    encoder = SentenceEncoder.from_pretrained(result.folder, device="cpu", compute_dtype=ComputeDtype.FLOAT32)
    assert default_dev_metric(pairs)(encoder) == pytest.approx(result.dev_best, abs=1e-3)
    devs = [point.values["dev"] for point in result.history if "dev" in point.values]
    assert len(devs) > 3
    assert max(devs) == pytest.approx(result.dev_best)
    assert all(math.isfinite(point.values["loss"]) for point in result.history if "loss" in point.values)
    assert [each.step for each in told] == sorted(each.step for each in told)
    assert told[-1].num_steps == 8 * (pairs.train.height // 16)
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
def test_every_objective_trains(
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
    settings = TrainingSettings(objective=Objective.CROSS_ENTROPY, epochs=25, head_learning_rate=1e-2, **FAST)
    result = train_encoder(base, labels, settings, tmp_path)
    classifier = SentenceClassifier.load(result.folder)
    truth = labels.train["label"].to_list()
    right = [found == true for found, true in zip(classifier.predict(labels.train["text"]), truth, strict=True)]
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


def test_same_seed_same_weights_other_seed_others(base: str, tmp_path: Path) -> None:
    pairs, found = toy_labels(LabelKind.SCORED_PAIRS, dev_share=0.0), []
    for number, seed in enumerate((1, 1, 2)):
        settings = TrainingSettings(max_steps=3, early_stopping_patience=None, seed=seed, **FAST)
        found.append(weights(train_encoder(base, pairs, settings, tmp_path / str(number)).folder))
    assert all(torch.equal(found[0][name], found[1][name]) for name in found[0])
    assert not all(torch.equal(found[0][name], found[2][name]) for name in found[0])


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


@pytest.mark.parametrize("kind", [AdapterKind.LORA, AdapterKind.ADALORA])
def test_adapters_train_few_weights_and_are_merged(
    kind: AdapterKind, base: str, pairs: LabelSet, tmp_path: Path
) -> None:
    seen: list[np.ndarray] = []

    def metric(encoder: SentenceEncoder) -> float:
        seen.append(encoder.encode(TEXTS))
        return float(len(seen))

    settings = TrainingSettings(
        epochs=2, adapter=AdapterSettings(kind=kind, rank=2, alpha=8), **{**FAST, "learning_rate": 2e-2}
    )
    result = train_encoder(base, pairs, settings, tmp_path, evaluate_dev=metric)
    assert result.num_trainable < 0.25 * result.num_parameters
    saved, before = weights(result.folder), weights(base)
    assert saved.keys() == before.keys()
    changed = {name for name in saved if not torch.equal(saved[name], before[name])}
    assert changed
    assert all(name.endswith(".weight") and "embeddings" not in name and "LayerNorm" not in name for name in changed)
    merged = SentenceEncoder.from_pretrained(result.folder, device="cpu", compute_dtype=ComputeDtype.FLOAT32)
    np.testing.assert_allclose(merged.encode(TEXTS), seen[-1], atol=1e-4)
    assert not np.allclose(seen[-1], seen[0], atol=1e-2)


def test_prompt_tuning_becomes_words_of_the_vocabulary(base: str, pairs: LabelSet, tmp_path: Path) -> None:
    adapter = AdapterSettings(kind=AdapterKind.PROMPT, num_virtual_tokens=4)
    scores = iter([0.1, 0.9])
    settings = TrainingSettings(epochs=1, adapter=adapter, **{**FAST, "learning_rate": 0.1})
    result = train_encoder(base, pairs, settings, tmp_path, evaluate_dev=lambda _: next(scores))
    assert result.num_trainable == 4 * 32
    saved, before = weights(result.folder), weights(base)
    words = "embeddings.word_embeddings.weight"
    num_words = len(before[words])
    assert len(saved[words]) == num_words + 4
    assert torch.equal(saved[words][:num_words], before[words])
    assert all(torch.equal(saved[name], before[name]) for name in before if name != words)
    encoder = SentenceEncoder.from_pretrained(result.folder, device="cpu", compute_dtype=ComputeDtype.FLOAT32)
    ids = encoder.tokenize(["the cat"]).input_ids.tolist()
    assert ids[1:5] == [num_words, num_words + 1, num_words + 2, num_words + 3]
    theirs = SentenceTransformer(result.folder, device="cpu").encode(TEXTS)
    np.testing.assert_allclose(encoder.encode(TEXTS), theirs, atol=1e-5)
    assert not np.allclose(theirs, SentenceTransformer(base, device="cpu").encode(TEXTS), atol=1e-2)
    with pytest.raises(TrainingError, match="prompt-tuned before"):
        train_encoder(result.folder, pairs, settings, tmp_path / "again")


def test_prefix_tuning_is_refused(base: str, pairs: LabelSet, tmp_path: Path) -> None:
    settings = TrainingSettings(adapter=AdapterSettings(kind=AdapterKind.PREFIX), **FAST)
    with pytest.raises(TrainingError, match="no weight of the encoder can hold"):
        train_encoder(base, pairs, settings, tmp_path)


def test_frozen_layers_stay_as_they_are(base: str, pairs: LabelSet, tmp_path: Path) -> None:
    settings = TrainingSettings(max_steps=2, freeze="layers", freeze_layers=1, early_stopping_patience=None, **FAST)
    scores = iter([0.1, 0.9])
    result = train_encoder(base, pairs, settings, tmp_path, evaluate_dev=lambda _: next(scores))
    saved, before = weights(result.folder), weights(base)
    changed = {name for name in saved if not torch.equal(saved[name], before[name])}
    assert changed
    assert all(name.startswith("encoder.layer.1.") for name in changed)


def test_more_frozen_layers_than_there_are(base: str, pairs: LabelSet, tmp_path: Path) -> None:
    with pytest.raises(TrainingError, match="freeze_layers is 5, the transformer has 2 layers"):
        train_encoder(base, pairs, TrainingSettings(freeze="layers", freeze_layers=5), tmp_path)


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
        TrainingError, match=r"ranking learns from pairs or triplets or nli, the labels are scored_pairs"
    ):
        train_encoder(base, pairs, TrainingSettings(objective=Objective.RANKING), tmp_path)
    with pytest.raises(SettingsError, match="mined for pairs, the labels are scored_pairs"):
        train_encoder(base, pairs, TrainingSettings(negatives=NegativesSettings(per_anchor=1)), tmp_path)
    with pytest.raises(TooFewLabelsError, match=r"none of the .* train rows is new"):
        train_encoder(base, pairs, TrainingSettings(), tmp_path, known_objects=frozenset({""}))


SCRIPT = """
import os, signal, sys
from sbert.labels import LabelKind
from sbert.training import TrainingSettings, train_encoder
from tests.sbert.training.toy import toy_labels

base, out, checkpoints, die_at = sys.argv[1:5]
def progress(told):
    if told.step == int(die_at):
        os.kill(os.getpid(), signal.SIGKILL)
settings = TrainingSettings(epochs=3, batch_size=16, learning_rate=2e-3, bf16=False, evaluations_per_epoch=2,
                            dropout=float(sys.argv[7]), early_stopping_patience=None, objective=sys.argv[5])
result = train_encoder(base, toy_labels(LabelKind(sys.argv[6]), dev_share=0.0), settings, out, checkpoints_uri=checkpoints or None,
                       on_progress=progress)
if int(os.environ.get("RANK", "0")) == 0:
    import json
    losses = [[point.step, point.values["loss"]] for point in result.history if "loss" in point.values]
    print(json.dumps({"folder": result.folder, "steps": result.num_steps, "tokens": result.num_tokens, "losses": losses}))
"""


def run_script(folder: Path, *arguments: str, processes: int = 1) -> subprocess.CompletedProcess[str]:
    script = folder / "script.py"
    script.write_text(SCRIPT)
    command = [sys.executable, str(script)]
    if processes > 1:
        command = [
            sys.executable, "-m", "torch.distributed.run", "--standalone", f"--nproc-per-node={processes}", str(script)
        ]  # fmt: skip
    environment = {
        **os.environ,
        "PYTHONPATH": str(Path.cwd()),
        "OMP_NUM_THREADS": "1",
        "TOKENIZERS_PARALLELISM": "false",
    }
    return subprocess.run(
        [*command, *arguments], env=environment, capture_output=True, text=True, timeout=240, check=False
    )


@pytest.mark.s3
def test_killed_and_resumed_is_bit_equal_to_unkilled(base: str, s3_bucket: str, tmp_path: Path) -> None:
    """SIGKILL in the middle of an epoch; the resumed run works in another folder and only has the object store."""
    whole = run_script(tmp_path, base, str(tmp_path / "whole"), "", "-1", "cosent", "scored_pairs", "0.1")
    assert whole.returncode == 0, whole.stderr[-2000:]
    uri = f"{s3_bucket}/checkpoints"
    killed = run_script(tmp_path, base, str(tmp_path / "killed"), uri, "9", "cosent", "scored_pairs", "0.1")
    assert killed.returncode == -9
    resumed = run_script(tmp_path, base, str(tmp_path / "resumed"), uri, "-1", "cosent", "scored_pairs", "0.1")
    assert resumed.returncode == 0, resumed.stderr[-2000:]
    expected, found = json.loads(whole.stdout), json.loads(resumed.stdout)
    assert found["losses"] == expected["losses"]
    assert found["tokens"] < expected["tokens"]  # it did not begin again
    first, second = weights(expected["folder"]), weights(found["folder"])
    assert all(torch.equal(first[name], second[name]) for name in first)


def test_two_processes_have_the_loss_curve_of_one(base: str, tmp_path: Path) -> None:
    """In-batch negatives come from both processes, so the loss is that of the whole batch; without dropout no chance."""
    one = run_script(tmp_path, base, str(tmp_path / "one"), "", "-1", "ranking", "pairs", "0.0")
    two = run_script(tmp_path, base, str(tmp_path / "two"), "", "-1", "ranking", "pairs", "0.0", processes=2)
    assert one.returncode == 0, one.stderr[-2000:]
    assert two.returncode == 0, two.stderr[-2000:]
    expected, found = json.loads(one.stdout), json.loads(two.stdout.strip().splitlines()[-1])
    assert len(found["losses"]) == len(expected["losses"]) > 10
    np.testing.assert_allclose(found["losses"], expected["losses"], rtol=1e-3, atol=1e-4)
    one_vectors, two_vectors = (
        SentenceEncoder.from_pretrained(each["folder"], device="cpu", compute_dtype=ComputeDtype.FLOAT32).encode(TEXTS)
        for each in (expected, found)
    )
    np.testing.assert_allclose(one_vectors, two_vectors, atol=2e-3)

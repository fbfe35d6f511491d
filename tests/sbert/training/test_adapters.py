"""Training a part of the weights: adapters and freezing."""

from pathlib import Path

import numpy as np
import pytest
import torch
from sentence_transformers import SentenceTransformer

from sbert.encoder.engine.dtype import ComputeDtype
from sbert.encoder.sentence_encoder import SentenceEncoder
from sbert.errors import TrainingError
from sbert.labels.label_set import LabelSet
from sbert.training.settings import AdapterKind, AdapterSettings, TrainingSettings
from sbert.training.train import train_encoder
from tests.support.toy_training import FAST, TEXTS, weights


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


def test_freezing_more_layers_than_there_are_is_refused(base: str, pairs: LabelSet, tmp_path: Path) -> None:
    with pytest.raises(TrainingError, match="freeze_layers is 5, but the transformer has 2 layers"):
        train_encoder(base, pairs, TrainingSettings(freeze="layers", freeze_layers=5), tmp_path)

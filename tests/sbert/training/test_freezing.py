"""Freezing: the weights of an encoder that are trained, whatever its architecture calls them."""

from pathlib import Path

import numpy as np
import pytest

from sbert.encoder.sentence_encoder import SentenceEncoder
from sbert.labels.label_kinds import LabelKind
from sbert.training.freezing import LAYER, prepare_encoder
from sbert.training.settings import TrainingSettings
from sbert.training.train import train_encoder
from tests.support.tiny_models import ARCHITECTURES, save_tiny, tiny_encoder
from tests.support.toy_training import FAST, TEXTS, toy_labels


@pytest.mark.parametrize("kind", ARCHITECTURES)
def test_embeddings_and_first_layers_are_frozen_in_every_architecture(kind: str) -> None:
    encoder = tiny_encoder(kind)
    prepare_encoder(encoder, TrainingSettings(freeze="layers", freeze_layers=1, **FAST))
    trained = {name for name, parameter in encoder.transformer.named_parameters() if parameter.requires_grad}
    words = encoder.transformer.get_input_embeddings()
    assert not words.weight.requires_grad
    assert {match[1] for name in trained if (match := LAYER.search(name))} == {"1"}


def test_a_t5_learns(tmp_path: Path) -> None:
    base = save_tiny(tmp_path / "base", "t5")
    result = train_encoder(base, toy_labels(LabelKind.PAIRS), TrainingSettings(max_steps=3, **FAST), tmp_path / "out")
    before, after = (
        SentenceEncoder.from_pretrained(each, device="cpu").encode(TEXTS) for each in (base, result.folder)
    )
    assert np.isfinite(after).all()
    assert np.abs(after - before).max() > 1e-4

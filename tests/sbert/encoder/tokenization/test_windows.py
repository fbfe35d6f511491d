"""Long texts are cut into windows, whose vectors are averaged by their numbers of tokens."""

from pathlib import Path

import numpy as np
import pytest
import torch

from sbert.encoder.sentence_encoder import SentenceEncoder
from sbert.encoder.tokenization.window_settings import WindowSettings
from sbert.errors import SettingsError
from tests.support.tiny_models import WORDS, save_tiny


def test_windows_average_long_texts_and_leave_short_ones(tmp_path: Path) -> None:
    encoder = SentenceEncoder.from_pretrained(save_tiny(tmp_path), max_seq_length=12, device="cpu")
    long = " ".join(WORDS[:30])
    windows = WindowSettings(stride=2)
    tokens = encoder.tokenize(["red", long, "blue cat"], windows=windows)
    assert not tokens.truncated.any()
    assert tokens.lengths.max() <= 12
    vectors = encoder.encode(["red", long, "blue cat"], windows=windows)
    np.testing.assert_allclose(vectors[[0, 2]], encoder.encode(["red", "blue cat"]), atol=1e-6)
    # By hand: ids without [CLS] and [SEP], windows of 10 that advance by 8.
    body = encoder._tokenizer.encode(long).ids[1:-1]
    parts = [body[first : first + 10] for first in range(0, max(len(body) - 2, 1), 8)]
    cls, sep = encoder._tokenizer.encode("").ids
    with torch.inference_mode():
        means = [encoder(torch.tensor([[cls, *part, sep]]))[0].numpy() for part in parts]
    expected = np.average(means, axis=0, weights=[len(part) + 2 for part in parts])
    np.testing.assert_allclose(vectors[1], expected / np.linalg.norm(expected), atol=1e-5)


def test_a_stride_without_room_is_refused(tmp_path: Path) -> None:
    encoder = SentenceEncoder.from_pretrained(save_tiny(tmp_path), max_seq_length=8)
    with pytest.raises(SettingsError, match=r"windows of 8 tokens .* stride of 6 leave 0 new tokens"):
        encoder.encode([" ".join(WORDS)], windows=WindowSettings(stride=6))

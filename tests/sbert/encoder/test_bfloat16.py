"""bfloat16 through torch gives the neighbours of float32: the default of devices with units for it, where there are no kernels."""

import numpy as np
import pytest
import torch

from sbert.encoder.engine.dtype import ComputeDtype
from sbert.encoder.engine.kernel_targets import NATIVE_VARIABLE
from sbert.encoder.engine.packed import PackedRunner
from sbert.encoder.sentence_encoder import SentenceEncoder
from tests.benchmarks.encode import overlap_at_10


def test_packed_bfloat16_keeps_vectors_and_neighbours(
    sample_texts: list[str], peer_vectors: np.ndarray, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv(NATIVE_VARIABLE, "0")
    encoder = SentenceEncoder.from_pretrained(device="cpu", compute_dtype=ComputeDtype.BFLOAT16)
    assert encoder.selected_runner.name == "packed"
    runner = encoder.selected_runner.runner
    assert isinstance(runner, PackedRunner)
    assert next(encoder.transformer.parameters()).dtype is torch.bfloat16
    vectors = encoder.encode(sample_texts)
    assert vectors.shape == peer_vectors.shape
    assert np.einsum("nd,nd->n", vectors, peer_vectors).min() >= 0.999
    assert overlap_at_10(vectors, peer_vectors) >= 0.98

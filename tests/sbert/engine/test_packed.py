"""The packed path on a device that is not the CPU; what it computes is tested in test_choice and test_encoder."""

import numpy as np
import pytest
import torch

from sbert.engine.packed import PackedRunner
from sbert.engine.weights import read_weights
from sbert.pooling import Pooling, PoolingMode
from tests.tiny_models import ARCHITECTURES, tiny_encoder

META = torch.device("meta")
"""A device with shapes and types but no values: what mixes devices or asks for a value, and so would wait, fails there."""


@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16, torch.float16])
@pytest.mark.parametrize("kind", [kind for kind in ARCHITECTURES if kind != "modernbert"])  # that one runs padded
@pytest.mark.parametrize("mode", PoolingMode)
def test_nothing_is_left_on_the_cpu_and_nothing_waits(kind: str, mode: PoolingMode, dtype: torch.dtype) -> None:
    encoder = tiny_encoder(kind)
    tokens = encoder.tokenize(["red blue", "green " * 9, "cat"], prompt="the ")
    encoder.to(META)
    encoder.transformer.to(dtype)
    weights = read_weights(encoder.transformer)
    assert weights is not None
    pooling = Pooling(encoder.dim, (mode,), include_prompt=False).to(META)
    runner = PackedRunner(weights, pooling, encoder.layers, pad_id=1, device=META)
    for batch in runner.cut(tokens, np.arange(3), 64):
        vectors = runner.run(tokens, batch)
        assert (vectors.device, vectors.dtype) == (META, torch.float32)
        assert vectors.shape == (len(batch.sequences), encoder.dim)

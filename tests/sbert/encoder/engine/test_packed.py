"""The packed path on a device that is not the CPU; what it computes is tested in test_choice and test_encoder."""

from typing import Any

import numpy as np
import pytest
import torch
from torch.utils._python_dispatch import TorchDispatchMode
from torch.utils._pytree import tree_leaves

from sbert.encoder.engine.packed import PackedRunner
from sbert.encoder.engine.weights import read_weights
from sbert.encoder.pooling import Pooling, PoolingMode
from tests.support.tiny_models import ARCHITECTURES, tiny_encoder

COPIES = {torch.ops.aten._to_copy.default, torch.ops.aten.copy_.default}


class OnOneDevice(TorchDispatchMode):
    """Lets no operation but a copy take a tensor of the CPU; torch itself lets an embedding do so here."""

    def __torch_dispatch__(self, function: Any, _types: Any, args: Any = (), kwargs: Any = None) -> Any:
        tensors = [each for each in tree_leaves((args, kwargs)) if isinstance(each, torch.Tensor) and each.dim()]
        if function not in COPIES and any(each.device == META for each in tensors):
            assert {each.device for each in tensors} == {META}, function
        return function(*args, **(kwargs or {}))


META = torch.device("meta")
"""A device with shapes and types but no values: what mixes devices or asks for a value, and so would wait, fails there."""


PADDED = {"modernbert", "t5"}
"""Architectures that only the padded runner computes."""


@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16, torch.float16])
@pytest.mark.parametrize("kind", [kind for kind in ARCHITECTURES if kind not in PADDED])
@pytest.mark.parametrize("mode", PoolingMode)
def test_packed_tokens_stay_on_the_device_and_nothing_waits(kind: str, mode: PoolingMode, dtype: torch.dtype) -> None:
    encoder = tiny_encoder(kind)
    tokens = encoder.tokenize(["red blue", "green " * 9, "cat"], prompt="the ")
    encoder.to(META)
    encoder.transformer.to(dtype)
    weights = read_weights(encoder.transformer)
    assert weights is not None
    pooling = Pooling(encoder.dim, (mode,), include_prompt=False).to(META)
    runner = PackedRunner(weights, pooling, encoder.layers, pad_id=1, device=META)
    for batch in runner.cut(tokens, np.arange(3), 64):
        with OnOneDevice():
            vectors = runner.run(tokens, batch)
        assert vectors.device == META
        assert vectors.dtype == torch.float32
        assert vectors.shape == (len(batch.sequences), encoder.dim)

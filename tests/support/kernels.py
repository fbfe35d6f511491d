"""Random encoders for the compiled kernels, the vectors that torch computes from them, and the compiler that kernels need."""

import functools
import os
import subprocess
from dataclasses import replace

import numpy as np
import pytest
import torch
import transformers
from torch import nn

from sbert.encoder.engine.compiled import Kernels
from sbert.encoder.engine.dtype import ComputeDtype, value_dtype
from sbert.encoder.engine.kernel_targets import ALL_UNITS, ProcessorUnits
from sbert.encoder.engine.native import NativeRunner, why_kernels_cannot
from sbert.encoder.engine.packed import PackedRunner
from sbert.encoder.engine.rounding import GROUP, round_layers
from sbert.encoder.engine.weights import EncoderWeights, read_weights
from sbert.encoder.pooling import Pooling, PoolingMode
from sbert.encoder.tokenization.token_ids import TokenizedTexts
from sbert.runtime.compiler import find_compiler

VOCABULARY, PLACES = 200, 512
KINDS = {units.name: units for units in ALL_UNITS}
Size = tuple[int, int, int, int]
"""Values, heads, values of intermediate layers, layers."""


def compiler_that_knows(units: ProcessorUnits) -> list[str]:
    """Return the command of a compiler that knows a processor's units, or skip the test.

    The compiler is asked about AMX with an option of its own. If the kernels' options were wrong, tests must fail.
    """
    compiler = find_compiler()
    asked = ["-mamx-bf16", "-E", "-x", "c++", "-", "-o", os.devnull]
    if compiler is None or (
        units.has_tiles and subprocess.run([*compiler, *asked], input=b"", capture_output=True, check=False).returncode
    ):
        pytest.skip(
            f"there is no C++ compiler that knows {units.needs}: install GCC 11, Clang 12 or later, or name one in CXX"
        )
    return compiler


def fitting(kernels: Kernels, size: Size) -> Size:
    """Return the size, or the next one that the kernels can compute: integers come in groups of 128."""
    hidden, heads, inner, layers = size
    if type_of_kernels(kernels) is not ComputeDtype.INT8:
        return size
    up = -hidden % GROUP + hidden
    return up, up * heads // hidden, -inner % GROUP + inner, layers


def make_model(
    size: Size, activation: str = "gelu", sharpness: float = 1.0, places: int = PLACES
) -> transformers.BertModel:
    """A random BERT whose weights are bfloat16 numbers; sharper ones look at few tokens."""
    hidden, heads, inner, layers = size
    torch.manual_seed(hidden + inner)
    config = transformers.BertConfig(
        vocab_size=VOCABULARY, hidden_size=hidden, num_attention_heads=heads, intermediate_size=inner,
        num_hidden_layers=layers, max_position_embeddings=places, hidden_act=activation, pad_token_id=0,
        attn_implementation="eager",
    )  # fmt: skip
    model = transformers.BertModel(config, add_pooling_layer=False).eval()
    with torch.no_grad():
        for name, parameter in model.named_parameters():
            if "LayerNorm" not in name:
                parameter.copy_(torch.randn_like(parameter) / hidden**0.5)
            if "query" in name or "key" in name:
                parameter.mul_(sharpness)
            parameter.copy_(parameter.bfloat16())
    return model


def type_of_kernels(kernels: Kernels) -> ComputeDtype:
    assert kernels.units is not None
    return kernels.units.dtype


def weights_in(dtype: ComputeDtype, model: transformers.BertModel) -> EncoderWeights:
    """Return the weights of a float32 model in a type; those of int8 are rounded."""
    plain = read_weights(model)
    assert plain is not None
    weights = read_weights(model.to(value_dtype(dtype)))
    assert weights is not None
    return replace(weights, rounded=round_layers(plain) if dtype is ComputeDtype.INT8 else None)


def make_runner(kernels: Kernels, model: transformers.BertModel) -> NativeRunner:
    weights = weights_in(type_of_kernels(kernels), model)
    assert why_kernels_cannot(weights) is None
    return NativeRunner(kernels, weights, Pooling(model.config.hidden_size, (PoolingMode.MEAN,)), nn.ModuleList())


def random_ids(lengths: list[int]) -> np.ndarray:
    return np.random.default_rng(sum(lengths)).integers(1, VOCABULARY, sum(lengths)).astype(np.int32)


def plain_vectors(model: transformers.BertModel, ids_T: np.ndarray, lengths: list[int]) -> torch.Tensor:
    """Token vectors, sequence by sequence."""
    with torch.inference_mode():
        parts = torch.from_numpy(ids_T.astype(np.int64)).split(lengths)
        return torch.cat([model(input_ids=part[None]).last_hidden_state[0].double() for part in parts if len(part)])


class KeptTokens(Pooling):
    """Keeps the token vectors that it is given."""

    def pool_tokens(
        self, x_TH: torch.Tensor, owner_T: torch.Tensor, positions_T: torch.Tensor, num: int
    ) -> torch.Tensor:
        self.kept = x_TH.double()
        return torch.zeros(num, x_TH.shape[1])


def packed_vectors(weights: EncoderWeights, ids_T: np.ndarray, lengths: list[int]) -> torch.Tensor:
    """Token vectors from the runner that computes through torch, sequence by sequence."""
    pooling = KeptTokens(weights.words.shape[1], (PoolingMode.MEAN,))
    runner = PackedRunner(weights, pooling, nn.ModuleList(), pad_id=0, device=weights.words.device)
    parts: list[torch.Tensor] = []
    for ids in np.split(ids_T, np.cumsum(lengths)[:-1]):
        tokens = TokenizedTexts(
            ids, np.array([0, len(ids)]), np.zeros(1, np.int64), np.array([len(ids)], np.int32), np.zeros(1, np.bool_)
        )
        for batch in runner.cut(tokens, np.arange(1), PLACES) if len(ids) else []:
            with torch.inference_mode():
                runner.run(tokens, batch)
            is_token, vectors_LH = batch.tokens >= 0, torch.empty(len(ids), pooling.dim, dtype=torch.float64)
            vectors_LH[batch.tokens[is_token]] = pooling.kept[torch.from_numpy(is_token)]
            parts.append(vectors_LH)
    return torch.cat(parts)


@functools.cache
def reference_vectors(
    dtype: ComputeDtype | None, size: Size, lengths: tuple[int, ...], activation: str = "gelu", sharpness: float = 1.0
) -> torch.Tensor:
    """Token vectors from torch in a type, or the exact ones without one. They are kept for the kernels of all kinds."""
    ids_T, model = random_ids(list(lengths)), make_model(size, activation, sharpness)
    if dtype is ComputeDtype.INT8:
        return packed_vectors(weights_in(dtype, model), ids_T, list(lengths))
    return plain_vectors(
        model.to(torch.float64 if dtype is None else getattr(torch, dtype.value)), ids_T, list(lengths)
    )

"""Run the BERT family through our own compiled kernels (`kernels/`): one call computes a batch's token vectors.

Legend of shapes: T tokens of a batch, H hidden size, B sequences; O outputs and I inputs of a linear layer.
"""

import ctypes
import math
from collections.abc import Iterator
from typing import Any

import numpy as np
import numpy.typing as npt
import torch
from torch import Tensor, nn

from sbert.encoder.engine.compiled import Kernels
from sbert.encoder.engine.dtype import ComputeDtype
from sbert.encoder.engine.kernel_targets import ProcessorUnits
from sbert.encoder.engine.packing import PackedBatch, lay_end_to_end
from sbert.encoder.engine.rounding import GROUP, LARGEST_INPUT, LARGEST_VALUE_INPUT
from sbert.encoder.engine.sharing import Sharing
from sbert.encoder.engine.weights import EncoderWeights, LayerWeights, RoundedLayer, RoundedWeight
from sbert.encoder.pooling import Pooling, PoolingMode
from sbert.encoder.tokenization.token_ids import TokenizedTexts

__all__ = ["NativeRunner", "why_kernels_cannot"]

Ints = npt.NDArray[np.int64]

BLOCK = 32
HEAD_SIZES = (32, 64)
BATCH_COST = 8
"""Cost of a batch beside that of its tokens: 10 tokens take as long as 18 of a large batch."""
BYTES_AT_ONCE = 4
"""Bytes of integers that one instruction multiplies and adds up for each output."""
MOST_AT_ONCE = 64
"""Batches at once. Python's global lock is held for less than a hundredth of the time of a batch."""
ERRORS = {2: "a sequence is longer than the encoder has positions for", 3: "a token id is not in the vocabulary"}


class _Linear(ctypes.Structure):
    _fields_ = [(name, ctypes.c_void_p) for name in ("weight", "bias", "scales")]


class _Norm(ctypes.Structure):
    _fields_ = [(name, ctypes.c_void_p) for name in ("scale", "shift")]


class _Layer(ctypes.Structure):
    _fields_ = [
        *((name, _Linear) for name in ("qkv", "out", "up", "down", "values")),
        *((name, _Norm) for name in ("attention_norm", "output_norm")),
    ]


class _Model(ctypes.Structure):
    _fields_ = [
        *((name, ctypes.c_int64) for name in ("num_layers", "hidden", "inner", "num_heads")),
        *((name, ctypes.c_int64) for name in ("vocabulary", "num_places", "uses_relu")),
        ("norm_eps", ctypes.c_double),
        ("words", ctypes.c_void_p),
        ("positions", ctypes.c_void_p),
        ("embedding_norm", _Norm),
        ("layers", ctypes.POINTER(_Layer)),
    ]


def why_kernels_cannot(weights: EncoderWeights) -> str | None:
    """Return why the kernels cannot compute an encoder; None when they can."""
    hidden, device = weights.words.shape[1], weights.words.device.type
    head = hidden // weights.num_heads
    inner = {layer.up[0].shape[0] for layer in weights.layers}
    reasons = {
        f"it computes on {device}": device != "cpu",
        f"it computes in {type_of(weights)}": type_of(weights) is ComputeDtype.FLOAT16,
        "its values are not float32": type_of(weights) is ComputeDtype.INT8
        and weights.words.dtype is not torch.float32,
        "it has relative positions": weights.relative_bias is not None,
        f"its activation is {weights.activation}": weights.activation not in {"gelu", "relu"},
        f"its heads have {head} values": head not in HEAD_SIZES or head * weights.num_heads != hidden,
        f"its intermediate layers have {sorted(inner)} values": len(inner) != 1 or any(size % BLOCK for size in inner),
    }
    return next((reason for reason, holds in reasons.items() if holds), None)


def type_of(weights: EncoderWeights) -> ComputeDtype:
    """Return the type that an encoder computes in."""
    if weights.rounded is not None:
        return ComputeDtype.INT8
    return ComputeDtype(str(weights.words.dtype).removeprefix("torch."))


class NativeRunner:
    """Runs an encoder of the BERT family on packed tokens, on a CPU with AMX, AVX-512 or AVX2."""

    def __init__(self, kernels: Kernels, weights: EncoderWeights, pooling: Pooling, layers: nn.ModuleList) -> None:
        """Copy the weights into the layout of the kernels. Later changes of the model have no effect here."""
        assert kernels.library is not None
        assert kernels.units is not None
        self._encode, self._units = kernels.library.sbert_encode, kernels.units
        self.sharing = Sharing(MOST_AT_ONCE, BATCH_COST)
        self._dtype = weights.words.dtype
        self._hidden = weights.words.shape[1]
        self._pooling, self._modules = pooling, layers
        self._kept: list[Any] = []  # the tensors that the pointers point to
        self._model = self._describe(weights)

    def cut(
        self, tokens: TokenizedTexts, sequences: Ints, token_budget: int, num_at_once: int = 1
    ) -> Iterator[PackedBatch]:
        """Yield the batches of the given sequences, longest first."""
        begins, lengths = tokens.offsets[sequences], tokens.lengths[sequences]
        yield from lay_end_to_end(begins, lengths, sequences, token_budget, num_at_once)

    def run(self, tokens: TokenizedTexts, batch: PackedBatch) -> Tensor:
        """Return the vectors of a batch, shape (B, dim), float32. As many threads compute it as torch may use in this one.

        Raises:
            IndexError: when an id is not in the vocabulary, or a sequence is longer than the encoder's positions.
            RuntimeError: when memory cannot be allocated.
        """
        ids_T, lengths_B = tokens.input_ids[batch.tokens], tokens.lengths[batch.sequences]
        skipped = 0 if self._pooling.include_prompt else tokens.num_prompt_tokens
        if self._pooling.modes == (PoolingMode.MEAN,):
            vectors_BD = self.means(ids_T, lengths_B, skipped)
        else:
            num = len(lengths_B)
            owner_T, positions_T = torch.from_numpy(batch.owner), torch.from_numpy(batch.positions)
            owner_T = owner_T.masked_fill(positions_T < skipped, num)
            vectors_BD = self._pooling.pool_tokens(self.token_vectors(ids_T, lengths_B), owner_T, positions_T, num)
        for module in self._modules:
            vectors_BD = module(vectors_BD)
        return vectors_BD

    def token_vectors(self, ids_T: npt.NDArray[np.integer], lengths_B: Ints) -> Tensor:
        """Return the last layer's vectors of sequences that lie end to end, shape (T, H), in the type of the kernels."""
        vectors_TH = torch.empty(len(ids_T), self._hidden, dtype=self._dtype)
        self._call(ids_T, lengths_B, 0, vectors_TH.data_ptr(), None)
        return vectors_TH

    def means(self, ids_T: npt.NDArray[np.integer], lengths_B: Ints, skipped: int = 0) -> Tensor:
        """Return the mean of each sequence's token vectors from token `skipped` on, shape (B, H), float32."""
        means_BH = torch.empty(len(lengths_B), self._hidden)
        self._call(ids_T, lengths_B, skipped, None, means_BH.data_ptr())
        return means_BH

    def _call(
        self, ids_T: npt.NDArray[np.integer], lengths_B: Ints, skipped: int, vectors: int | None, means: int | None
    ) -> None:
        ids_T = np.ascontiguousarray(ids_T, dtype=np.int32)
        lengths_B = np.ascontiguousarray(lengths_B, dtype=np.int64)
        assert int(lengths_B.sum()) == len(ids_T)
        outcome = self._encode(
            ctypes.byref(self._model),
            ctypes.c_void_p(ids_T.ctypes.data),
            ctypes.c_void_p(lengths_B.ctypes.data),
            ctypes.c_int64(len(lengths_B)),
            ctypes.c_int64(self._units.group_tokens),
            ctypes.c_int64(min(torch.get_num_threads(), self._hidden // BLOCK)),
            ctypes.c_int64(skipped),
            ctypes.c_void_p(vectors),
            ctypes.c_void_p(means),
        )
        if outcome in ERRORS:
            raise IndexError(ERRORS[outcome])
        if outcome:
            raise RuntimeError("can't allocate memory for the layers of an encoder")

    def _describe(self, weights: EncoderWeights) -> _Model:
        rounded = weights.rounded or [None] * len(weights.layers)
        layers = (_Layer * len(weights.layers))(
            *(
                _Layer(*linears, *(self._norm(*pair) for pair in (layer.attention_norm, layer.output_norm)))
                for layer, linears in zip(weights.layers, map(self._linears, weights.layers, rounded), strict=True)
            )
        )
        return _Model(
            num_layers=len(weights.layers),
            hidden=self._hidden,
            inner=weights.layers[0].up[0].shape[0],
            num_heads=weights.num_heads,
            vocabulary=len(weights.words),
            num_places=len(weights.positions),
            uses_relu=weights.activation == "relu",
            norm_eps=weights.norm_eps,
            words=self._keep(weights.words),
            positions=self._keep(weights.positions),
            embedding_norm=self._norm(*weights.embedding_norm),
            layers=layers,
        )

    def _linears(self, layer: LayerWeights, rounded: RoundedLayer | None) -> list[_Linear]:
        if rounded is None:
            return [*(self._linear(*pair) for pair in (layer.qkv, layer.out, layer.up, layer.down)), _Linear()]
        bias_O = layer.qkv[1]
        hidden = len(bias_O) // 3
        return [
            self._rounded_linear(rounded.query_key, bias_O[: 2 * hidden]),
            self._rounded_linear(rounded.out, layer.out[1]),
            self._rounded_linear(rounded.up, layer.up[1]),
            self._rounded_linear(rounded.down, layer.down[1]),
            self._rounded_linear(rounded.values, bias_O[2 * hidden :]),
        ]

    def _linear(self, weight_OI: Tensor, bias_O: Tensor) -> _Linear:
        pair = 1 if self._dtype is torch.float32 else 2
        return _Linear(self._keep(lay_out(weight_OI, self._units, pair)), self._keep(bias_O.float()), None)

    def _rounded_linear(self, weight: RoundedWeight, bias_O: Tensor) -> _Linear:
        at_once = BYTES_AT_ONCE // weight.integers_OI.element_size()
        integers, scales = lay_out(weight.integers_OI, self._units, at_once), lay_out_scales(weight, self._units)
        return _Linear(self._keep(integers), self._keep(bias_O.float()), self._keep(scales))

    def _norm(self, scale_H: Tensor, shift_H: Tensor) -> _Norm:
        return _Norm(self._keep(scale_H.float()), self._keep(shift_H.float()))

    def _keep(self, tensor: Tensor) -> int:
        self._kept.append(tensor.contiguous())
        return int(self._kept[-1].data_ptr())


def lay_out(weight_OI: Tensor, units: ProcessorUnits, at_once: int) -> Tensor:
    """Return a weight in the layout of the kernels.

    For AMX it has tiles of 16 pairs of inputs times 16 outputs, two tiles beside each other. For other units it has panels:
    all inputs, as many `at_once` as one instruction multiplies for each output, times a few outputs.
    """
    num_outputs, num_inputs = weight_OI.shape
    if units.has_tiles:
        tiles = weight_OI.reshape(num_outputs // 32, 2, 16, num_inputs // 32, 16, 2)
        return tiles.permute(0, 3, 1, 4, 2, 5).contiguous()
    panels = weight_OI.reshape(num_outputs // units.panel, units.panel, num_inputs // at_once, at_once)
    return panels.permute(0, 2, 1, 3).contiguous()


def lay_out_scales(weight: RoundedWeight, units: ProcessorUnits) -> Tensor:
    """Return what a panel has for each group of inputs: the outputs' scales, and the sums of their weights.

    The kernels rotate inputs without dividing by the norm of the matrix, so the scales are divided by it. They know one
    scale of inputs, that of 8 bits, so the scales of weights for inputs of 12 bits are smaller.
    """
    num_outputs, num_groups = weight.scales_OG.shape
    scales_OG = weight.scales_OG / math.sqrt(GROUP)
    sums_OG = weight.integers_OI.view(num_outputs, num_groups, GROUP).sum(2) * scales_OG
    if weight.integers_OI.dtype is torch.int16:
        scales_OG = scales_OG * (LARGEST_INPUT / LARGEST_VALUE_INPUT)
    both_OG2 = torch.stack([scales_OG, sums_OG], dim=2)
    return both_OG2.view(-1, units.panel, num_groups, 2).permute(0, 2, 3, 1).contiguous()

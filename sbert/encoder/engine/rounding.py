"""Round weights and inputs of linear layers to integers, most of 8 bits.

Inputs are rounded while an encoder computes, for each token in groups of 128 values: value = scale * integer + least,
with integers from 0 to 255. Weights are rounded once, for each output in the same groups: value = scale * integer, with
integers from -127 to 127. For the layer that makes the values of attention, inputs go to 4095 and weights to 2047:
rounding this twelfth of all weights to 8 bits would add half to the error.

Inputs and weights are rotated by a Hadamard matrix before, as in Ashkboos et al. 2024, "QuaRot": it spreads a few large
values over the group, so that the step between two integers stays small. A rotation of both sides does not change their
product. A sum of 128 products of such integers is exact in 32 bits, and that of 8-bit integers also in float32.

Legend of shapes: O outputs and I inputs of a linear layer, G groups of inputs, T tokens.
"""

import functools
import math

import torch
from torch import Tensor, nn

from sbert.encoder.engine.weights import EncoderWeights, LayerWeights, RoundedLayer, RoundedWeight, read_weights
from sbert.errors import SettingsError

__all__ = [
    "GROUP",
    "LARGEST_INPUT",
    "LARGEST_VALUE_INPUT",
    "round_inputs",
    "round_layers",
    "round_transformer",
    "why_no_rounding",
]

GROUP = 128
"""Values that share a scale."""
LARGEST_WEIGHT, LARGEST_INPUT = 127, 255
"""The largest integers, but for the layer that makes the values of attention."""
LARGEST_VALUE_WEIGHT, LARGEST_VALUE_INPUT = 2047, 4095
"""The largest integers of the layer that makes the values of attention."""


def why_no_rounding(weights: EncoderWeights) -> str | None:
    """Return why an encoder cannot compute in integers; None when it can."""
    sizes = sorted({weights.words.shape[1], *(layer.up[0].shape[0] for layer in weights.layers)})
    odd = [size for size in sizes if size % GROUP]
    return f"layers of {odd[0]} values are no multiple of {GROUP}" if odd else None


def round_layers(weights: EncoderWeights) -> tuple[RoundedLayer, ...]:
    """Return the rounded weights of an encoder, whose own weights are best float32."""
    return tuple(_round_layer(layer) for layer in weights.layers)


def round_transformer(transformer: nn.Module, name: str) -> tuple[RoundedLayer, ...]:
    """Return the rounded weights of a Hugging Face encoder, which messages call `name`.

    Raises:
        SettingsError: when it cannot compute in 8-bit integers.
    """
    weights = read_weights(transformer)
    why_not = "it is not of the BERT family" if weights is None else why_no_rounding(weights)
    if weights is None or why_not is not None:
        raise SettingsError(f"{name} cannot compute in int8 ({why_not}): choose bfloat16 or float32")
    return round_layers(weights)


def _round_layer(layer: LayerWeights) -> RoundedLayer:
    weight_OI = layer.qkv[0]
    return RoundedLayer(
        query_key=_round_weight(weight_OI[: len(weight_OI) // 3 * 2]),
        values=_round_weight(weight_OI[len(weight_OI) // 3 * 2 :], LARGEST_VALUE_WEIGHT),
        out=_round_weight(layer.out[0]),
        up=_round_weight(layer.up[0]),
        down=_round_weight(layer.down[0]),
    )


def _round_weight(weight_OI: Tensor, largest: int = LARGEST_WEIGHT) -> RoundedWeight:
    rotated_OGV = _rotate(weight_OI.detach().float())
    scales_OG1 = rotated_OGV.abs().amax(2, keepdim=True) / largest
    integers_OGV = (rotated_OGV / _not_zero(scales_OG1)).round_()
    dtype = torch.int8 if largest == LARGEST_WEIGHT else torch.int16
    return RoundedWeight(integers_OGV.to(dtype).reshape(weight_OI.shape), scales_OG1.squeeze(2))


def round_inputs(x_TI: Tensor) -> tuple[Tensor, Tensor, Tensor]:
    """Return the integers of inputs, shape (T, G, 128), their scales and least values, each (T, G, 1); all float32."""
    rotated_TGV = _rotate(x_TI.float())
    least_TG1, most_TG1 = torch.aminmax(rotated_TGV, dim=2, keepdim=True)
    scales_TG1 = (most_TG1 - least_TG1) / LARGEST_INPUT
    return ((rotated_TGV - least_TG1) / _not_zero(scales_TG1)).round_(), scales_TG1, least_TG1


def _not_zero(scales: Tensor) -> Tensor:
    """Return scales to divide by: values that are all equal have the scale 0."""
    return torch.where(scales > 0, scales, torch.ones_like(scales))


def _rotate(x_NI: Tensor) -> Tensor:
    """Return rotated values in groups, shape (N, G, 128)."""
    rotated: Tensor = x_NI.reshape(len(x_NI), -1, GROUP) @ _rotation().to(x_NI.device)
    return rotated


@functools.cache
def _rotation() -> Tensor:
    """Return the Hadamard matrix of order 128 (Sylvester 1867), divided by its norm: a rotation that is its own inverse."""
    matrix = torch.ones(1, 1)
    while len(matrix) < GROUP:
        matrix = torch.cat([torch.cat([matrix, matrix], 1), torch.cat([matrix, -matrix], 1)])
    return matrix / math.sqrt(GROUP)

"""Linear layers in 8-bit integers where there are no kernels for them: nearly the same vectors, slower than float32."""

import torch
from torch import Tensor

from sbert.encoder.engine.linear import Linear, PlainLinear, make_linear
from sbert.encoder.engine.rounding import GROUP, round_inputs
from sbert.encoder.engine.weights import LayerWeights, RoundedLayer, RoundedWeight

__all__ = ["IntegerLinear", "make_linears"]


class IntegerLinear(PlainLinear):
    """A linear layer that rounds its inputs, on any device. Products are in float32."""

    def __init__(self, weight: RoundedWeight, bias: Tensor) -> None:
        """Create a layer from a rounded weight, on the device of the bias."""
        num_outputs, num_groups = weight.scales_OG.shape
        integers_OGV = weight.integers_OI.view(num_outputs, num_groups, GROUP)
        weight_OI = (integers_OGV * weight.scales_OG[:, :, None]).flatten(1)
        self._linear = make_linear(weight_OI.to(bias.device), bias.float())

    def __call__(self, x_TH: Tensor) -> Tensor:
        """Return x W' + b, in the type of x."""
        integers_TGV, scales_TG1, least_TG1 = round_inputs(x_TH)
        return self._linear((integers_TGV * scales_TG1 + least_TG1).flatten(1)).to(x_TH.dtype)


class JoinedLinear(PlainLinear):
    """Linear layers of the same inputs, whose outputs lie beside each other."""

    def __init__(self, *parts: Linear) -> None:
        """Join layers."""
        self._parts = parts

    def __call__(self, x_TH: Tensor) -> Tensor:
        """Return the outputs of all layers, the first layer's first."""
        return torch.cat([part(x_TH) for part in self._parts], dim=1)


def make_linears(layer: LayerWeights, rounded: RoundedLayer | None) -> tuple[Linear, Linear, Linear, Linear]:
    """Return the linear layers of a transformer layer: query, key and value; output of attention; up; down."""
    if rounded is None:
        return make_linear(*layer.qkv), make_linear(*layer.out), make_linear(*layer.up), make_linear(*layer.down)
    weight_OI, bias_O = layer.qkv
    first = len(bias_O) // 3 * 2
    # The kernels round the layer of values to 12 bits, which changes next to nothing.
    return (
        JoinedLinear(IntegerLinear(rounded.query_key, bias_O[:first]), make_linear(weight_OI[first:], bias_O[first:])),
        IntegerLinear(rounded.out, layer.out[1]),
        IntegerLinear(rounded.up, layer.up[1]),
        IntegerLinear(rounded.down, layer.down[1]),
    )

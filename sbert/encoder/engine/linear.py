"""Linear layers fused with the operation that follows: bias, activation or residual.

On a CPU oneDNN uses weights in its own layout. With weights that are converted once (prepacked), a bfloat16 layer is several
times as fast as ``torch.nn.functional.linear``, which converts them at every call. ``torch.compile`` with frozen weights
produces the same operations, after a minute of compilation.
"""

from typing import Any, Protocol

import torch
from torch import Tensor
from torch.nn import functional

__all__ = ["ACTIVATIONS", "Linear", "PlainLinear", "PrepackedLinear", "can_prepack", "make_linear"]

ACTIVATIONS: dict[str, tuple[str, str]] = {
    "gelu": ("gelu", "none"),
    "gelu_new": ("gelu", "tanh"),
    "gelu_pytorch_tanh": ("gelu", "tanh"),
    "relu": ("relu", ""),
}
"""Activations by their names in Hugging Face configurations, as oneDNN's name and variant."""
TYPICAL_TOKENS = 4_096


class Linear(Protocol):
    """A linear layer on T tokens."""

    def __call__(self, x_TH: Tensor) -> Tensor:
        """Return x W' + b, shape (T, out)."""
        ...

    def activated(self, x_TH: Tensor, activation: str) -> Tensor:
        """Return activation(x W' + b)."""
        ...

    def added(self, x_TH: Tensor, residual_TH: Tensor) -> Tensor:
        """Return x W' + b + residual."""
        ...


class PlainLinear:
    """A linear layer on any device."""

    def __init__(self, weight: Tensor, bias: Tensor) -> None:
        """Create a layer from a weight of shape (out, in), which is used as it is."""
        self._weight, self._bias = weight, bias

    def __call__(self, x_TH: Tensor) -> Tensor:
        """Return x W' + b."""
        return functional.linear(x_TH, self._weight, self._bias)

    def activated(self, x_TH: Tensor, activation: str) -> Tensor:
        """Return activation(x W' + b)."""
        name, variant = ACTIVATIONS[activation]
        hidden_TI = self(x_TH)
        return functional.relu(hidden_TI) if name == "relu" else functional.gelu(hidden_TI, approximate=variant)

    def added(self, x_TH: Tensor, residual_TH: Tensor) -> Tensor:
        """Return x W' + b + residual."""
        return self(x_TH).add_(residual_TH)


class PrepackedLinear:
    """A linear layer on a CPU, with weights in oneDNN's layout."""

    def __init__(self, weight: Tensor, bias: Tensor) -> None:
        """Create a layer from a weight of shape (out, in), which is converted."""
        self._weight = torch.ops.mkldnn._reorder_linear_weight(weight.contiguous(), TYPICAL_TOKENS)
        self._bias = bias
        self._operation: Any = torch.ops.mkldnn._linear_pointwise

    def __call__(self, x_TH: Tensor) -> Tensor:
        """Return x W' + b."""
        result: Tensor = self._operation(x_TH, self._weight, self._bias, "none", [], "")
        return result

    def activated(self, x_TH: Tensor, activation: str) -> Tensor:
        """Return activation(x W' + b)."""
        name, variant = ACTIVATIONS[activation]
        result: Tensor = self._operation(x_TH, self._weight, self._bias, name, [], variant)
        return result

    def added(self, x_TH: Tensor, residual_TH: Tensor) -> Tensor:
        """Return x W' + b + residual."""
        result: Tensor = self._operation.binary(x_TH, residual_TH, self._weight, self._bias, "add")
        return result


def can_prepack(dtype: torch.dtype, device: torch.device) -> bool:
    """Return whether this build of torch has oneDNN's layouts for a type on this machine."""
    if device.type != "cpu" or not torch.backends.mkldnn.is_available():  # type: ignore[no-untyped-call]
        return False
    if not hasattr(torch.ops.mkldnn, "_linear_pointwise"):
        return False
    if dtype is torch.bfloat16:
        return bool(torch.ops.mkldnn._is_mkldnn_bf16_supported())
    if dtype is torch.float16:
        return bool(torch.ops.mkldnn._is_mkldnn_fp16_supported())
    return dtype is torch.float32


def make_linear(weight: Tensor, bias: Tensor) -> Linear:
    """Return the fastest layer for the weights' type and device."""
    kind = PrepackedLinear if can_prepack(weight.dtype, weight.device) else PlainLinear
    return kind(weight, bias)

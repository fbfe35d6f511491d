"""The modules that may follow pooling, as sentence-transformers stores them: Dense and Normalize."""

import torch
from torch import Tensor, nn

from sbert.errors import ModelError

__all__ = ["Dense", "Normalize"]

ACTIVATIONS: dict[str, type[nn.Module]] = {
    "torch.nn.modules.activation.Tanh": nn.Tanh,
    "torch.nn.modules.linear.Identity": nn.Identity,
    "torch.nn.modules.activation.ReLU": nn.ReLU,
    "torch.nn.modules.activation.GELU": nn.GELU,
    "torch.nn.modules.activation.SiLU": nn.SiLU,
    "torch.nn.modules.activation.Sigmoid": nn.Sigmoid,
}


class Dense(nn.Module):
    """A linear layer and an activation."""

    def __init__(self, in_features: int, out_features: int, *, bias: bool = True, activation: str) -> None:
        """Prepare.

        Raises:
            ModelError: when `activation` is not one of `ACTIVATIONS`.
        """
        super().__init__()
        if activation not in ACTIVATIONS:
            raise ModelError(f"dense layer has activation {activation!r}, known are {', '.join(sorted(ACTIVATIONS))}")
        self.in_features, self.out_features = in_features, out_features
        self.activation_name = activation
        self.linear = nn.Linear(in_features, out_features, bias=bias)
        self.activation = ACTIVATIONS[activation]()

    def forward(self, vectors_BD: Tensor) -> Tensor:
        """Give vectors of shape (B, out_features)."""
        return self.activation(self.linear(vectors_BD))  # type: ignore[no-any-return]


class Normalize(nn.Module):
    """Scale vectors to unit length."""

    def forward(self, vectors_BD: Tensor) -> Tensor:
        """Give vectors of the same shape and of length 1."""
        return torch.nn.functional.normalize(vectors_BD, p=2, dim=1)

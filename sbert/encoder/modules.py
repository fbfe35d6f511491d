"""The modules that may follow pooling: Dense, LayerNorm, Normalize and Truncate.

All but Truncate are modules of sentence-transformers. Truncate stands for the field ``truncate_dim`` of a model folder.
"""

import torch
from torch import Tensor, nn

from sbert.errors import ModelError

__all__ = ["Dense", "LayerNorm", "Normalize", "Truncate", "describe_layer"]

ACTIVATIONS: dict[str, type[nn.Module]] = {
    "torch.nn.modules.activation.Tanh": nn.Tanh,
    "torch.nn.modules.linear.Identity": nn.Identity,
    "torch.nn.modules.activation.ReLU": nn.ReLU,
    "torch.nn.modules.activation.GELU": nn.GELU,
    "torch.nn.modules.activation.SiLU": nn.SiLU,
    "torch.nn.modules.activation.Sigmoid": nn.Sigmoid,
}


class Dense(nn.Module):
    """A linear layer and an activation, with or without a residual connection around both."""

    def __init__(
        self, in_features: int, out_features: int, *, bias: bool = True, activation: str, use_residual: bool = False
    ) -> None:
        """Create the layer with random weights.

        Args:
            in_features: values of an input vector.
            out_features: values of an output vector.
            bias: whether the linear layer adds a bias.
            activation: name of the activation's class, as sentence-transformers writes it.
            use_residual: add the input to the output, through a linear layer of its own if their sizes differ.

        Raises:
            ModelError: when `activation` is not one of `ACTIVATIONS`.
        """
        super().__init__()
        if activation not in ACTIVATIONS:
            raise ModelError(
                f"dense layer has activation {activation!r}, expected one of {', '.join(sorted(ACTIVATIONS))}"
            )
        self.in_features, self.out_features = in_features, out_features
        self.activation_name, self.use_residual = activation, use_residual
        self.linear = nn.Linear(in_features, out_features, bias=bias)
        self.activation = ACTIVATIONS[activation]()
        if use_residual and in_features != out_features:
            self.residual = nn.Linear(in_features, out_features, bias=False)

    def forward(self, vectors_BD: Tensor) -> Tensor:
        """Return vectors of shape (B, out_features)."""
        projected: Tensor = self.activation(self.linear(vectors_BD))
        if not self.use_residual:
            return projected
        return projected + (vectors_BD if self.in_features == self.out_features else self.residual(vectors_BD))


class LayerNorm(nn.Module):
    """Layer norm over the values of a vector."""

    def __init__(self, dimension: int) -> None:
        """Create the layer for vectors of `dimension` values."""
        super().__init__()
        self.dimension = dimension
        self.norm = nn.LayerNorm(dimension)

    def forward(self, vectors_BD: Tensor) -> Tensor:
        """Return vectors of the same shape."""
        return self.norm(vectors_BD)  # type: ignore[no-any-return]


class Normalize(nn.Module):
    """Scale vectors to unit length."""

    def forward(self, vectors_BD: Tensor) -> Tensor:
        """Return vectors of the same shape and of length 1."""
        return torch.nn.functional.normalize(vectors_BD, p=2, dim=1)


class Truncate(nn.Module):
    """Keep the first values of a vector (Kusupati et al. 2022, Matryoshka Representation Learning)."""

    def __init__(self, dimension: int) -> None:
        """Create the layer; `dimension` is the number of values to keep."""
        super().__init__()
        self.dimension = dimension

    def forward(self, vectors_BD: Tensor) -> Tensor:
        """Return vectors of shape (B, dimension)."""
        return vectors_BD[:, : self.dimension]


def describe_layer(layer: nn.Module) -> list[str | None]:
    """Return the part of an encoder's fingerprint about a layer, beside its weights and its size."""
    description = [type(layer).__name__, getattr(layer, "activation_name", None)]
    return [*description, "residual"] if isinstance(layer, Dense) and layer.use_residual else description

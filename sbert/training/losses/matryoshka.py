"""An objective applied to several dims at once."""

from torch import Tensor, nn
from torch.nn import functional

from sbert.errors import TrainingError

__all__ = ["MatryoshkaLoss"]


class MatryoshkaLoss(nn.Module):
    """L = sum over dims d of L'(u[:d] / |u[:d]|): the first values of a vector must do on their own.

    Source: Kusupati et al. 2022, Matryoshka Representation Learning, section 3, equation 1, all weights 1.
    """

    def __init__(self, inner: nn.Module, dims: tuple[int, ...], dim: int) -> None:
        """Wrap `inner`. `dims` should contain the full `dim`, which is not trained otherwise.

        Raises:
            TrainingError: when a dim is larger than the vectors, or `inner` has a classifier for vectors of one dim.
        """
        super().__init__()
        if not dims or max(dims) > dim or min(dims) < 1:
            raise TrainingError(
                f"matryoshka_dims are {list(dims)}, but the encoder's vectors have {dim} values: choose 1 to {dim}"
            )
        if any(True for _ in inner.parameters()):
            raise TrainingError(
                f"matryoshka_dims cannot be used with {type(inner).__name__}, whose classifier takes vectors of one dim: "
                "choose another objective"
            )
        self.inner = inner
        self.dims = tuple(sorted(set(dims), reverse=True))

    def forward(self, vectors: list[Tensor], labels: Tensor | list[Tensor] | None = None) -> Tensor:
        """Return the sum of the objective over all dims. In distillation `labels` are a teacher's whole vectors."""
        if isinstance(labels, list):  # unit length, like the vectors
            labels = [functional.normalize(part, dim=1) for part in labels]
        losses = [
            self.inner([functional.normalize(part[:, :size], dim=1) for part in vectors], labels) for size in self.dims
        ]
        return sum(losses[1:], losses[0])  # type: ignore[no-any-return]

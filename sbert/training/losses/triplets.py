"""Objectives with a margin between near and far.

Legend of shapes: B texts in a batch, D values in a vector.
"""

import torch
from torch import Tensor, nn
from torch.nn import functional

__all__ = ["BatchHardTripletLoss", "TripletLoss"]


class TripletLoss(nn.Module):
    """L = mean of max(0, |a - p| - |a - n| + margin), with Euclidean distances.

    Source: Reimers and Gurevych 2019, Sentence-BERT, section 3, "Triplet Objective Function" (margin 1).
    """

    def __init__(self, margin: float = 1.0) -> None:
        """Name the margin."""
        super().__init__()
        self.margin = margin

    def forward(self, vectors: list[Tensor], labels: Tensor | None = None) -> Tensor:  # noqa: ARG002  (one signature for all)
        """Return the loss of B triplets: vectors of anchors, positives, negatives."""
        anchors_BD, positives_BD, negatives_BD = vectors
        near_B = (anchors_BD - positives_BD).norm(dim=1)
        far_B = (anchors_BD - negatives_BD).norm(dim=1)
        return functional.relu(near_B - far_B + self.margin).mean()


class BatchHardTripletLoss(nn.Module):
    """L = mean over texts of max(0, farthest of its own class - nearest of another class + margin).

    Source: Hermans et al. 2017, In Defense of the Triplet Loss, section 2, equation 5.
    """

    def __init__(self, margin: float = 1.0) -> None:
        """Name the margin."""
        super().__init__()
        self.margin = margin

    def forward(self, vectors: list[Tensor], labels_B: Tensor) -> Tensor:
        """Return the loss of B texts; `labels_B` holds class numbers."""
        (vectors_BD,) = vectors
        squares_B = (vectors_BD * vectors_BD).sum(dim=1)
        squared_BB = (squares_B[:, None] + squares_B[None, :] - 2 * vectors_BD @ vectors_BD.T).clamp(min=0)
        # The square root has no gradient at 0: the distance of a text to an equal text must be 0 with gradient 0.
        is_zero_BB = squared_BB == 0
        distances_BB = torch.where(is_zero_BB, 0.0, (squared_BB + is_zero_BB * 1e-16).sqrt())
        same_BB = labels_B[:, None] == labels_B[None, :]
        itself_BB = torch.eye(len(labels_B), dtype=torch.bool, device=labels_B.device)
        farthest_B = (distances_BB * (same_BB & ~itself_BB)).amax(dim=1)
        beyond_B1 = distances_BB.amax(dim=1, keepdim=True)  # a nearest text exists also when all are of one class
        nearest_B = (distances_BB + beyond_B1 * same_BB).amin(dim=1)
        return functional.relu(farthest_B - nearest_B + self.margin).mean()

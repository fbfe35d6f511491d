"""The loss that keeps margins which the encoder had before training.

Legend of shapes: G made rows in a batch, D values in a vector.
"""

import torch
from torch import Tensor, nn
from torch.nn import functional

__all__ = ["RehearsalLoss"]

UNIT = 0.05
"""Difference of cosines that counts as one: the temperature of the objectives on cosines."""


class RehearsalLoss(nn.Module):
    """L = mean of max(0, (m_before - m_now) / 0.05)², with the margin m = cos(text, same) - cos(text, changed).

    Only a margin that became smaller costs something, so that nothing is taught which the encoder did not know. The target
    is the encoder itself before training: self-distillation (Li and Hoiem 2016, Learning without Forgetting, section 3,
    there with class probabilities), here of a margin, as in Hofstätter et al. 2020, Margin-MSE, section 3.2, but one-sided.
    """

    def forward(self, vectors: list[Tensor], teachers: list[Tensor]) -> Tensor:
        """Return the loss of G rows: vectors now and before of text, same and changed text, shape (G, D) each."""
        lost_G = (_margins(teachers) - _margins(vectors)) / UNIT
        return functional.relu(lost_G).square().mean()


def _margins(vectors: list[Tensor]) -> Tensor:
    text_GD, same_GD, changed_GD = vectors
    return torch.cosine_similarity(text_GD, same_GD) - torch.cosine_similarity(text_GD, changed_GD)

"""Objectives on texts with a class.

Legend of shapes: B texts in a batch, D values in a vector, C classes.
"""

import torch
from torch import Tensor, nn
from torch.nn import functional

__all__ = ["CrossEntropyLoss", "SupervisedContrastiveLoss"]


class SupervisedContrastiveLoss(nn.Module):
    """L = mean over i of -1/|P(i)| · sum over p in P(i) of log(exp(s_ip / t) / sum over a ≠ i of exp(s_ia / t)).

    P(i) are the other texts of i's class in the batch, s the cosine, t the temperature. A text that is alone in its class
    counts in the denominators only. Source: Khosla et al. 2020, Supervised Contrastive Learning, section 3.2.2, equation 2.
    """

    def __init__(self, temperature: float = 0.1) -> None:
        """Name the temperature."""
        super().__init__()
        self.temperature = temperature

    def forward(self, vectors: list[Tensor], labels_B: Tensor) -> Tensor:
        """Return the loss of B texts; `labels_B` holds class numbers."""
        unit_BD = functional.normalize(vectors[0], dim=1)
        scores_BB = unit_BD @ unit_BD.T / self.temperature
        itself_BB = torch.eye(len(labels_B), dtype=torch.bool, device=labels_B.device)
        log_shares_BB = scores_BB - scores_BB.masked_fill(itself_BB, float("-inf")).logsumexp(dim=1, keepdim=True)
        positive_BB = (labels_B[:, None] == labels_B[None, :]) & ~itself_BB
        num_positives_B = positive_BB.sum(dim=1)
        has_any_B = num_positives_B > 0
        mean_B = (log_shares_BB * positive_BB).sum(dim=1) / num_positives_B.clamp(min=1)
        return -(mean_B * has_any_B).sum() / has_any_B.sum().clamp(min=1)


class CrossEntropyLoss(nn.Module):
    """A linear classifier on the vector, trained with the encoder: L = cross-entropy of softmax(W s u + b) and the class.

    s is a fixed scale: logits of unit vectors and small weights would be too flat to learn from (Wang et al. 2017,
    NormFace, section 3.3, proposition 2).
    """

    def __init__(self, dim: int, num_classes: int, scale: float = 16.0) -> None:
        """Make a classifier for vectors of `dim` values."""
        super().__init__()
        self.scale = scale
        self.classifier = nn.Linear(dim, num_classes)

    def forward(self, vectors: list[Tensor], labels_B: Tensor) -> Tensor:
        """Return the loss of B texts; `labels_B` holds class numbers."""
        return functional.cross_entropy(self.classifier(self.scale * vectors[0]), labels_B)

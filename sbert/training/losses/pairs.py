"""Objectives on pairs of sentences with a score or a label.

Legend of shapes: B pairs in a batch, D values in a vector. u and v are the vectors of the two sentences.
"""

import torch
from torch import Tensor, nn
from torch.nn import functional

__all__ = ["AngleLoss", "CosentLoss", "CosineLoss", "SoftmaxLoss"]


class SoftmaxLoss(nn.Module):
    """Classification of a pair: L = cross-entropy of softmax(W [u; v; |u - v|] + b) and the label.

    Source: Reimers and Gurevych 2019, Sentence-BERT, section 3, "Classification Objective Function". The classifier is
    needed in training only.
    """

    def __init__(self, dim: int, num_labels: int) -> None:
        """Make a classifier for vectors of `dim` values."""
        super().__init__()
        self.classifier = nn.Linear(3 * dim, num_labels)

    def forward(self, vectors: list[Tensor], labels_B: Tensor) -> Tensor:
        """Return the loss of B pairs; `labels_B` holds class numbers."""
        u_BD, v_BD = vectors
        logits_BC = self.classifier(torch.cat([u_BD, v_BD, (u_BD - v_BD).abs()], dim=1))
        return functional.cross_entropy(logits_BC, labels_B)


class CosineLoss(nn.Module):
    """Regression of the cosine: L = mean of (cos(u, v) - score)².

    Source: Reimers and Gurevych 2019, Sentence-BERT, section 3, "Regression Objective Function".
    """

    def forward(self, vectors: list[Tensor], scores_B: Tensor) -> Tensor:
        """Return the loss of B pairs; `scores_B` lies in 0 … 1."""
        return functional.mse_loss(functional.cosine_similarity(vectors[0], vectors[1]), scores_B)


class CosentLoss(nn.Module):
    """Ranking of pairs by score: L = log(1 + sum over pairs i, j with score_i > score_j of exp((s_j - s_i) / t)).

    s is the cosine, t the temperature. Source: Huang et al. 2024, CoSENT, equation 6 (the same as Su 2022).
    """

    def __init__(self, temperature: float = 0.05) -> None:
        """Name the temperature."""
        super().__init__()
        self.temperature = temperature

    def similarity(self, u_BD: Tensor, v_BD: Tensor) -> Tensor:
        """Return s of each pair, shape (B,)."""
        return functional.cosine_similarity(u_BD, v_BD)

    def forward(self, vectors: list[Tensor], scores_B: Tensor) -> Tensor:
        """Return the loss of B pairs."""
        scaled_B = self.similarity(vectors[0], vectors[1]) / self.temperature
        differences_BB = scaled_B[None, :] - scaled_B[:, None]  # s_j - s_i
        wanted_BB = scores_B[:, None] > scores_B[None, :]
        terms = torch.cat([scaled_B.new_zeros(1), differences_BB[wanted_BB]])  # e^0 is the 1
        return torch.logsumexp(terms, dim=0)


class AngleLoss(CosentLoss):
    """CoSENT with an angle instead of the cosine, which saturates near ±1. Vectors are taken as complex numbers.

    u = a + bi and v = c + di with a, b and c, d the halves of the vectors; s = |sum of Re and Im of (u / v) · |v| / |u||.
    Source: Li and Li 2024, AoE: Angle-optimized Embeddings, section 3.3.
    """

    def similarity(self, u_BD: Tensor, v_BD: Tensor) -> Tensor:
        """Return s of each pair, shape (B,)."""
        a, b = u_BD.chunk(2, dim=1)
        c, d = v_BD.chunk(2, dim=1)
        squared_v_B1 = (c**2 + d**2).sum(dim=1, keepdim=True)
        real = (a * c + b * d) / squared_v_B1
        imaginary = (b * c - a * d) / squared_v_B1
        norm_u_B1 = (a**2 + b**2).sum(dim=1, keepdim=True).sqrt()
        ratio_B1 = norm_u_B1 / squared_v_B1.sqrt()
        return torch.cat([real / ratio_B1, imaginary / ratio_B1], dim=1).sum(dim=1).abs()

"""Objectives that tell a text's partner from the partners of others in the batch.

Legend of shapes: B anchors in a batch, D values in a vector, N candidates.
"""

import torch
from torch import Tensor, nn
from torch.nn import functional

__all__ = ["RankingLoss"]


class RankingLoss(nn.Module):
    """Multiple negatives ranking: L = mean over i of -log(exp(s_ii / t) / sum over j of exp(s_ij / t)).

    s_ij is the cosine of anchor i and candidate j; candidates are all positives of the batch, then all given negatives; t is
    the temperature. When symmetric, the same loss of positives looking for their anchors is averaged in. With the same text
    twice as anchor and positive, dropout alone making the difference, it is unsupervised SimCSE (Gao et al. 2021, SimCSE,
    section 3, equation 4, t = 0.05).

    Source: Henderson et al. 2017, Efficient Natural Language Response Suggestion, section 4.4; both directions: Günther et
    al. 2024, Jina Embeddings 2, section 5.1.
    """

    def __init__(self, temperature: float = 0.05, *, symmetric: bool = True) -> None:
        """Prepare."""
        super().__init__()
        self.temperature = temperature
        self.symmetric = symmetric

    def forward(self, vectors: list[Tensor], labels: Tensor | None = None) -> Tensor:  # noqa: ARG002  (one signature for all)
        """Give the loss of B anchors: vectors of anchors, of positives, and of any number of columns of negatives."""
        anchors_BD, positives_BD, *negatives = (functional.normalize(part, dim=1) for part in vectors)
        candidates_ND = torch.cat([positives_BD, *negatives])
        scores_BN = anchors_BD @ candidates_ND.T / self.temperature
        own_B = torch.arange(len(anchors_BD), device=anchors_BD.device)
        loss = functional.cross_entropy(scores_BN, own_B)
        if not self.symmetric:
            return loss
        return (loss + functional.cross_entropy(scores_BN[:, : len(own_B)].T, own_B)) / 2

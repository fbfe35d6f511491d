"""The objective that finds the partner of a text among the partners of other texts in the batch.

Legend of shapes: B anchors in a batch, D values in a vector, N candidates.
"""

from dataclasses import dataclass

import numpy as np
import numpy.typing as npt
import torch
from torch import Tensor, nn
from torch.nn import functional

__all__ = ["KnownPairs", "RankingLoss"]

PAIRS_AT_ONCE = 2**24
"""Pairs of anchor and candidate that are looked up at once: the look-up takes 16 bytes a pair."""


@dataclass(frozen=True)
class KnownPairs:
    """The pairs of anchor and positive that occur in the train rows."""

    keys: Tensor
    """Anchor x number of texts + positive, ascending."""
    num_texts: int

    @classmethod
    def of(cls, text_ids_NC: npt.NDArray[np.int64]) -> "KnownPairs":
        """Collect the pairs of the first two columns of N rows of text numbers."""
        num_texts = int(text_ids_NC.max()) + 1
        return cls(torch.from_numpy(np.unique(text_ids_NC[:, 0] * num_texts + text_ids_NC[:, 1])), num_texts)

    def not_negative(self, text_ids_BC: Tensor) -> Tensor:
        """Return where a candidate is not a negative of an anchor, shape (B, candidates).

        Candidates are the texts of all columns but the first, column after column. A row's own positive is not marked.
        """
        candidates_N = text_ids_BC[:, 1:].T.reshape(-1)
        keys = self.keys.to(text_ids_BC.device)
        marked_BN = torch.cat(
            [
                self._among(anchors_B1, candidates_N, keys)
                for anchors_B1 in torch.split(text_ids_BC[:, :1], max(1, PAIRS_AT_ONCE // len(candidates_N)))
            ]
        )
        own_B = torch.arange(len(text_ids_BC), device=marked_BN.device)
        marked_BN[own_B, own_B] = False
        return marked_BN

    def _among(self, anchors_B1: Tensor, candidates_N: Tensor, keys: Tensor) -> Tensor:
        wanted_BN = anchors_B1 * self.num_texts + candidates_N
        place_BN = torch.searchsorted(keys, wanted_BN).clamp(max=len(keys) - 1)
        return (keys[place_BN] == wanted_BN) | (candidates_N == anchors_B1)


class RankingLoss(nn.Module):
    """Multiple negatives ranking: L = mean over i of -log(exp(s_ii / t) / sum over j of exp(s_ij / t)).

    s_ij is the cosine of anchor i and candidate j, t the temperature. Candidates are all positives of the batch, then all
    given negatives. When symmetric, the loss is averaged with the loss of positives that look for their anchors. When anchor
    and positive are the same text and only dropout makes them differ, this is unsupervised SimCSE (Gao et al. 2021, SimCSE,
    section 3, equation 4, t = 0.05).

    A candidate that is not a negative of the anchor is not summed: the anchor's own text, or a positive of the anchor
    in any train row. With few answers to many questions nearly every batch holds such candidates.

    Source: Henderson et al. 2017, Efficient Natural Language Response Suggestion, section 4.4; both directions: Günther et
    al. 2024, Jina Embeddings 2, section 5.1.
    """

    def __init__(
        self, temperature: float = 0.05, *, symmetric: bool = True, known_pairs: KnownPairs | None = None
    ) -> None:
        """Name the temperature, the directions, and the pairs that must not be negatives."""
        super().__init__()
        self.temperature = temperature
        self.symmetric = symmetric
        self.known_pairs = known_pairs

    def forward(self, vectors: list[Tensor], labels: Tensor | None = None) -> Tensor:
        """Return the loss of B anchors.

        Args:
            vectors: of anchors, of positives, and of any number of columns of negatives.
            labels: the number of each text, shape (B, columns); None when no candidate is to be left out.
        """
        anchors_BD, positives_BD, *negatives = (functional.normalize(part, dim=1) for part in vectors)
        candidates_ND = torch.cat([positives_BD, *negatives])
        scores_BN = anchors_BD @ candidates_ND.T / self.temperature
        own_B = torch.arange(len(anchors_BD), device=anchors_BD.device)
        if self.known_pairs is not None and labels is not None:
            scores_BN = scores_BN.masked_fill(self.known_pairs.not_negative(labels), float("-inf"))
        loss = functional.cross_entropy(scores_BN, own_B)
        if not self.symmetric:
            return loss
        return (loss + functional.cross_entropy(scores_BN[:, : len(own_B)].T, own_B)) / 2

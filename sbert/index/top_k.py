"""The best rows of many queries, from blocks of rows: one matrix product a block, memory bounded by a block."""

from collections.abc import Callable

import numpy as np
import numpy.typing as npt
import torch

from sbert.vectors.precision import Float32

__all__ = ["NO_ROW", "TopK", "in_order"]

NO_ROW = -1
"""Number of a place that no row was found for."""
FEW_QUERIES = 16
"""Up to this number of queries a product reads memory faster than it computes, so a copy for torch would cost more."""
QUERIES_PER_PRODUCT = 1_024
ROWS_PER_PRODUCT = 8_192
"""A product of this size has 32 MiB of scores; larger ones are not faster."""

Int64 = npt.NDArray[np.int64]
Added = Callable[[slice, slice], Float32]
"""Returns what is added to the products of some queries with some rows of a block: shape (queries, rows)."""


class TopK:
    """The k rows of the greatest inner product with each of Q queries, among all blocks so far.

    Of rows with equal scores any may be kept.
    """

    def __init__(self, queries_QD: Float32, k: int) -> None:
        """Begin without rows."""
        self._queries_QD = np.ascontiguousarray(queries_QD, np.float32)
        self._k = k
        self.scores_QK: Float32 = np.full((len(queries_QD), k), -np.inf, np.float32)
        """Scores, in no order; minus infinity where no row was found."""
        self.numbers_QK: Int64 = np.full((len(queries_QD), k), NO_ROW, np.int64)
        """Numbers of the rows, in the order of the scores."""

    def add(self, vectors_ND: Float32, numbers_N: Int64, added: Added | None = None) -> None:
        """Compare N rows with every query.

        Args:
            vectors_ND: vectors of the rows, shape (N, dim).
            numbers_N: number of each row, by which it is found again.
            added: another part of the scores, such as that of words; None where the products are the scores.
        """
        for first in range(0, len(vectors_ND), ROWS_PER_PRODUCT):
            part_ND, numbers = vectors_ND[first : first + ROWS_PER_PRODUCT], numbers_N[first : first + ROWS_PER_PRODUCT]
            if len(self._queries_QD) <= FEW_QUERIES:
                every = slice(0, len(self._queries_QD))
                scores_QN = torch.from_numpy(self._queries_QD @ part_ND.T)
                self._keep(every, _with(scores_QN, added, every, first), numbers)
                continue
            rows_ND = torch.from_numpy(
                np.require(part_ND, np.float32, "W")
            )  # a copy of Arrow's memory, which is read-only
            for start in range(0, len(self._queries_QD), QUERIES_PER_PRODUCT):
                queries = slice(start, min(start + QUERIES_PER_PRODUCT, len(self._queries_QD)))
                scores_QN = torch.from_numpy(self._queries_QD[queries]) @ rows_ND.T
                self._keep(queries, _with(scores_QN, added, queries, first), numbers)

    def merge(self, scores_QN: Float32, numbers_QN: Int64) -> None:
        """Add rows that another search found, shape (Q, N); places without a row have the number `NO_ROW`."""
        scores = np.concatenate([self.scores_QK, np.where(numbers_QN == NO_ROW, -np.inf, scores_QN)], axis=1)
        numbers = np.concatenate([self.numbers_QK, numbers_QN], axis=1)
        best = np.argpartition(-scores, self._k - 1, axis=1)[:, : self._k]
        self.scores_QK = np.take_along_axis(scores, best, axis=1)
        self.numbers_QK = np.take_along_axis(numbers, best, axis=1)

    def _keep(self, queries: slice, scores_QN: torch.Tensor, numbers_N: Int64) -> None:
        """Keep rows that score above the worst row kept so far. Most queries gain nothing from a late block."""
        gaining = np.flatnonzero(scores_QN.amax(dim=1).numpy() > self.scores_QK[queries].min(axis=1))
        if not len(gaining):
            return
        gaining_GN = scores_QN if len(gaining) == len(scores_QN) else scores_QN[torch.from_numpy(gaining)]
        best = torch.topk(gaining_GN, min(self._k, scores_QN.shape[1]), dim=1, sorted=False)
        rows = gaining + queries.start
        scores = np.concatenate([self.scores_QK[rows], best.values.numpy()], axis=1)
        numbers = np.concatenate([self.numbers_QK[rows], numbers_N[best.indices.numpy()]], axis=1)
        places = np.argpartition(-scores, self._k - 1, axis=1)[:, : self._k]
        self.scores_QK[rows] = np.take_along_axis(scores, places, axis=1)
        self.numbers_QK[rows] = np.take_along_axis(numbers, places, axis=1)


def _with(scores_QN: torch.Tensor, added: Added | None, queries: slice, first: int) -> torch.Tensor:
    """Add the other part of the scores of the rows from `first`."""
    if added is not None:
        scores_QN += torch.from_numpy(added(queries, slice(first, first + scores_QN.shape[1])))
    return scores_QN


def in_order(scores_QK: Float32, numbers_QK: Int64) -> tuple[Float32, Int64]:
    """Return scores and numbers of each query, best first; of equal scores the smaller number comes first."""
    order = np.lexsort((numbers_QK, -scores_QK), axis=1)
    return np.take_along_axis(scores_QK, order, axis=1), np.take_along_axis(numbers_QK, order, axis=1)

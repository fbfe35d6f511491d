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

CANDIDATES_PER_PLACE = 8
"""A block with more better scores than this for each kept place, such as the first, is reduced to its best k by sorting."""

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
        every = np.arange(len(self._queries_QD))
        self._take_over(every, np.where(numbers_QN == NO_ROW, -np.inf, scores_QN), numbers_QN)

    def _keep(self, queries: slice, scores_QN: torch.Tensor, numbers_N: Int64) -> None:
        """Keep each score above the worst score that was kept so far. A late block has few of them."""
        worst_Q = torch.from_numpy(self.scores_QK[queries].min(axis=1))
        is_better_QN = (scores_QN > worst_Q[:, None]).numpy()
        num_better = np.count_nonzero(is_better_QN)
        if num_better > CANDIDATES_PER_PLACE * self.scores_QK[queries].size:
            best = torch.topk(scores_QN, min(self._k, scores_QN.shape[1]), dim=1, sorted=False)
            gaining = np.arange(len(scores_QN))
            scores, numbers = best.values.numpy(), numbers_N[best.indices.numpy()]
        elif num_better:
            gaining, scores, numbers = _candidates(is_better_QN, scores_QN.numpy(), numbers_N)
        else:
            return
        self._take_over(gaining + queries.start, scores, numbers)

    def _take_over(self, rows: Int64, scores_GC: Float32, numbers_GC: Int64) -> None:
        """Merge C candidates into the kept rows of each of G queries."""
        scores = np.concatenate([self.scores_QK[rows], scores_GC], axis=1)
        numbers = np.concatenate([self.numbers_QK[rows], numbers_GC], axis=1)
        places = np.argpartition(-scores, self._k - 1, axis=1)[:, : self._k]
        self.scores_QK[rows] = np.take_along_axis(scores, places, axis=1)
        self.numbers_QK[rows] = np.take_along_axis(numbers, places, axis=1)


def _candidates(
    is_better_QN: npt.NDArray[np.bool_], scores_QN: Float32, numbers_N: Int64
) -> tuple[Int64, Float32, Int64]:
    """Return the queries with candidates; scores and numbers of these, shape (G, C), filled up with `NO_ROW`."""
    queries, columns = np.divmod(np.flatnonzero(is_better_QN), scores_QN.shape[1])
    gaining, firsts, counts = np.unique(queries, return_index=True, return_counts=True)
    at = np.repeat(np.arange(len(gaining)), counts), np.arange(len(queries)) - np.repeat(firsts, counts)
    scores_GC = np.full((len(gaining), counts.max()), -np.inf, np.float32)
    numbers_GC = np.full(scores_GC.shape, NO_ROW, np.int64)
    scores_GC[at] = scores_QN[queries, columns]
    numbers_GC[at] = numbers_N[columns]
    return gaining, scores_GC, numbers_GC


def _with(scores_QN: torch.Tensor, added: Added | None, queries: slice, first: int) -> torch.Tensor:
    """Add the other part of the scores of the rows from `first`."""
    if added is not None:
        scores_QN += torch.from_numpy(added(queries, slice(first, first + scores_QN.shape[1])))
    return scores_QN


def in_order(scores_QK: Float32, numbers_QK: Int64) -> tuple[Float32, Int64]:
    """Return scores and numbers of each query, best first; of equal scores the smaller number comes first."""
    order = np.lexsort((numbers_QK, -scores_QK), axis=1)
    return np.take_along_axis(scores_QK, order, axis=1), np.take_along_axis(numbers_QK, order, axis=1)

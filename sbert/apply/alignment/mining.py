"""Mine translations among two sets of vectors: the ratio margin in both directions, then one partner for each row.

Some sentences are near to everything. So the cosine of a pair is divided by the mean cosine of both rows to their k nearest
rows of the other side (Artetxe and Schwenk 2019, "Margin-based Parallel Corpus Mining", equation 2 with the ratio margin).
Candidates are the k nearest rows in both directions. The pair with the greatest margin is taken first, then the next pair
whose rows are both free.
"""

from collections.abc import Callable, Iterable
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from sbert.apply.alignment.checks import NoMatch, SentenceFacts, failed_checks
from sbert.index.top_k import NO_ROW, Int64, TopK, in_order
from sbert.vectors.precision import Float32

__all__ = ["Alignment", "Blocks", "align_vectors", "in_memory"]

QUERIES_PER_PASS = 16_384
LEAST_MEAN = 0.01
"""Least mean cosine that is divided by: a division by almost zero would make any pair look good."""

Blocks = Callable[[], Iterable[Float32]]
"""Reads the unit vectors of one side, a block at a time, always in the same order."""


@dataclass(frozen=True)
class Alignment:
    """The partner of each of N left rows."""

    partner_N: Int64
    """Number of the right row, or `NO_ROW`."""
    cosine_N: Float32
    """Cosine of the pair; for a row without partner, the cosine of its best candidate."""
    margin_N: Float32
    """Ratio margin of the pair; for a row without partner, the margin of its best candidate."""
    reason_N: npt.NDArray[np.object_]
    """Reason that a row has no partner; None for a row that has one."""


def in_memory(vectors_ND: Float32, block_rows: int = 16_384) -> Blocks:
    """Return vectors that are in memory in blocks."""
    return lambda: (vectors_ND[first : first + block_rows] for first in range(0, len(vectors_ND), block_rows))


def align_vectors(
    left: Blocks,
    right: Blocks,
    sides: tuple[SentenceFacts, SentenceFacts],
    ranks: tuple[Int64, Int64],
    *,
    k: int,
    min_margin: float,
    max_length_ratio: float,
) -> Alignment:
    """Return the partner of each left row.

    It costs two times N x M products, and memory of 24 k bytes for each row.

    Args:
        left: vectors of the N left rows.
        right: vectors of the M right rows.
        sides: the properties of both sides that the checks compare.
        ranks: a place for each row of both sides that does not depend on how it was read; decides between equal margins.
        k: nearest rows that give the mean.
        min_margin: least ratio margin of a pair.
        max_length_ratio: see `failed_checks`.
    """
    num = len(sides[0].lengths)
    ours, theirs = _nearest(left, right, k), _nearest(right, left, k)
    rows_P, columns_P, cosine_P = _candidates(ours, theirs)
    means = _means(ours[0]), _means(theirs[0])
    margin_P = cosine_P / ((means[0][rows_P] + means[1][columns_P]) / 2)
    order = np.lexsort((ranks[1][columns_P], ranks[0][rows_P], -margin_P))
    failed = failed_checks(*sides, rows_P, columns_P, max_length_ratio) | {NoMatch.MARGIN: margin_P < min_margin}
    reason_P = np.full(len(order), NoMatch.TAKEN, np.object_)  # the reason of a pair that passes, but is not chosen
    for reason, fails in reversed(failed.items()):  # the first check that fails is the reason
        reason_P[fails] = reason
    passes_P = ~np.logical_or.reduce(list(failed.values()))
    aligned = _one_to_one(order[passes_P[order]], rows_P, columns_P)
    reason_P[aligned] = None
    shown_N = _first_pairs(order, rows_P, num)
    shown_N[rows_P[aligned]] = aligned
    partner_N = np.full(num, NO_ROW, np.int64)
    partner_N[rows_P[aligned]] = columns_P[aligned]
    cosine_N, margin_N = np.zeros(num, np.float32), np.zeros(num, np.float32)
    reason_N = np.full(num, NoMatch.TAKEN, np.object_)
    with_pair = np.flatnonzero(shown_N != NO_ROW)  # none is found if the other table has no rows
    pairs = shown_N[with_pair]
    cosine_N[with_pair], margin_N[with_pair], reason_N[with_pair] = cosine_P[pairs], margin_P[pairs], reason_P[pairs]
    return Alignment(partner_N, cosine_N, margin_N, reason_N)


def _first_pairs(order: Int64, rows_P: Int64, num: int) -> Int64:
    """Return the best pair of each left row, or `NO_ROW`."""
    first_N = np.full(num, NO_ROW, np.int64)
    rows, places = np.unique(rows_P[order], return_index=True)
    first_N[rows] = order[places]
    return first_N


def _one_to_one(pairs: Int64, rows_P: Int64, columns_P: Int64) -> Int64:
    """Return the pairs whose rows are both free when their turn comes."""
    taken_rows: set[int] = set()
    taken_columns: set[int] = set()
    kept_pairs = []
    for pair, row, column in zip(pairs.tolist(), rows_P[pairs].tolist(), columns_P[pairs].tolist(), strict=True):
        if row not in taken_rows and column not in taken_columns:
            taken_rows.add(row)
            taken_columns.add(column)
            kept_pairs.append(pair)
    return np.array(kept_pairs, np.int64)


def _nearest(queries: Blocks, rows: Blocks, k: int) -> tuple[Float32, Int64]:
    """Return scores and numbers of the k nearest rows of each query, best first."""
    scores, numbers = [np.zeros((0, k), np.float32)], [np.zeros((0, k), np.int64)]
    for block in queries():
        for first in range(0, len(block), QUERIES_PER_PASS):
            best = TopK(block[first : first + QUERIES_PER_PASS], k)
            count = 0
            for vectors_ND in rows():
                best.add(vectors_ND, np.arange(count, count + len(vectors_ND), dtype=np.int64))
                count += len(vectors_ND)
            ordered = in_order(best.scores_QK, best.numbers_QK)
            scores.append(ordered[0])
            numbers.append(ordered[1])
    return np.concatenate(scores), np.concatenate(numbers)


def _means(scores_NK: Float32) -> Float32:
    is_found = np.isfinite(scores_NK)
    means: Float32 = np.where(is_found, scores_NK, 0).sum(1) / np.maximum(is_found.sum(1), 1)
    return np.maximum(means, np.float32(LEAST_MEAN))


def _candidates(ours: tuple[Float32, Int64], theirs: tuple[Float32, Int64]) -> tuple[Int64, Int64, Float32]:
    """Return the pairs that either side names, each once: left rows, right rows, cosines."""
    named: list[Int64] = []
    scores: list[Float32] = []
    for is_left, (scores_QK, numbers_QK) in ((True, ours), (False, theirs)):
        query, rank = np.nonzero(numbers_QK != NO_ROW)
        candidate = numbers_QK[query, rank]
        named.append(np.stack([query, candidate] if is_left else [candidate, query], axis=1))
        scores.append(scores_QK[query, rank])
    pairs, first = np.unique(np.concatenate(named), axis=0, return_index=True)
    return pairs[:, 0], pairs[:, 1], np.concatenate(scores)[first]

"""Recall of an index: the share of the true ten nearest rows that it finds, with the interval of that share."""

import numpy as np
import numpy.typing as npt

from sbert.index.top_k import NO_ROW, Int64
from sbert.table.vector_segments import MeasuredRecall
from sbert.vectors.precision import Float32

__all__ = ["NEIGHBOURS", "measure_recall", "sample_positions"]

NEIGHBOURS = 10
TIE = 1e-6
"""Scores that differ by less than this share count as equal."""
RESAMPLES = 2_000


def sample_positions(num_rows: int, num_wanted: int) -> Int64:
    """Return positions of rows to use as queries, drawn without replacement, the same ones every time."""
    drawn = np.random.default_rng(num_rows).choice(num_rows, min(num_wanted, num_rows), replace=False)
    return np.sort(drawn).astype(np.int64)


def measure_recall(
    own_Q: Int64,
    exact: tuple[Float32, Int64],
    approximate: tuple[Float32, Int64],
) -> MeasuredRecall:
    """Return recall@10 (Aumüller et al. 2020, "ANN-Benchmarks", section 2.1), with the interval from resampled queries.

    A row that is found counts when its exact score is at least that of the tenth exact neighbour, so that ties are not
    misses. The row that a query was taken from is not its neighbour.

    Args:
        own_Q: number of the row that each query is; `NO_ROW` for queries that are no row.
        exact: scores and numbers of the best rows by exact search, best first, at least 11 a query where there are as many.
        approximate: the same by the index, with exact scores.
    """
    shares = np.ones(len(own_Q))
    for query, own in enumerate(own_Q.tolist()):
        is_other = (exact[1][query] != own) & (exact[1][query] != NO_ROW)
        best = exact[0][query][is_other][:NEIGHBOURS]
        if len(best):
            threshold = best[-1] - TIE * abs(best[-1])
            is_hit = (approximate[1][query] != own) & (approximate[1][query] != NO_ROW)
            is_hit &= approximate[0][query] >= threshold
            shares[query] = min(1.0, is_hit.sum() / len(best))
    return _with_interval(shares)


def _with_interval(shares: npt.NDArray[np.float64]) -> MeasuredRecall:
    if not len(shares):
        return MeasuredRecall(value=1.0, low=0.0, high=1.0, num_queries=0)
    draws = np.random.default_rng(0).integers(0, len(shares), (RESAMPLES, len(shares)))
    low, high = np.quantile(shares[draws].mean(axis=1), [0.025, 0.975])
    return MeasuredRecall(
        value=round(float(shares.mean()), 6),
        low=round(float(low), 6),
        high=round(float(high), 6),
        num_queries=len(shares),
    )

"""Put rankings of the same rows together, and make the best rows differ from each other."""

from collections.abc import Sequence

import numpy as np

from sbert.index.top_k import NO_ROW, Int64
from sbert.vectors.precision import Float32
from sbert.vectors.unit import unit_rows

__all__ = ["diversify", "fuse_rankings"]


def fuse_rankings(
    rankings: Sequence[Int64], weights: Sequence[float], k: int, constant: float
) -> tuple[Float32, Int64]:
    """Return scores and numbers of the k best rows of each query by reciprocal rank fusion, best first, shape (Q, k).

    A row gets ``weight / (constant + rank)`` from each ranking that holds it (Cormack, Clarke and Büttcher 2009, "Reciprocal
    Rank Fusion outperforms Condorcet"). Of rows with equal scores the smaller number comes first.

    Args:
        rankings: for each ranking the row numbers of every query, best first, shape (Q, any); `NO_ROW` where there is none.
        weights: weight of each ranking.
        k: rows a query.
        constant: how little the first ranks count more than later ones.
    """
    num_queries = len(rankings[0])
    scores_QK = np.full((num_queries, k), -np.inf, np.float32)
    numbers_QK = np.full((num_queries, k), NO_ROW, np.int64)
    for query in range(num_queries):
        parts = [ranking[query][ranking[query] != NO_ROW] for ranking in rankings]
        rows, places = np.unique(np.concatenate(parts), return_inverse=True)
        gains = [weight / (constant + 1 + np.arange(len(part))) for part, weight in zip(parts, weights, strict=True)]
        scores = np.bincount(places, np.concatenate(gains), len(rows))
        best = np.lexsort((rows, -scores))[:k]
        scores_QK[query, : len(best)], numbers_QK[query, : len(best)] = scores[best], rows[best]
    return scores_QK, numbers_QK


def diversify(relevance_C: Float32, vectors_CD: Float32, k: int, diversity: float) -> Int64:
    """Return the places of up to k rows by maximal marginal relevance, in the order in which they are chosen.

    The next row is the one with the greatest ``(1 - diversity) * relevance - diversity * similarity``, where the similarity
    is that to the most similar row chosen before (Carbonell and Goldstein 1998, "The Use of MMR").

    Args:
        relevance_C: relevance of C rows for the query.
        vectors_CD: vectors of the rows, shape (C, dim).
        k: rows to choose.
        diversity: 0 keeps the order of relevance, 1 looks at the similarity alone.
    """
    unit_CD = unit_rows(vectors_CD)
    similarity_C = np.zeros(len(relevance_C), np.float32)
    left_C = np.ones(len(relevance_C), np.bool_)
    picked: list[int] = []
    while len(picked) < min(k, len(relevance_C)):
        gain_C = np.where(left_C, (1 - diversity) * relevance_C - diversity * similarity_C, -np.inf)
        best = int(gain_C.argmax())
        new_C = unit_CD @ unit_CD[best]
        similarity_C = new_C if not picked else np.maximum(similarity_C, new_C)
        left_C[best] = False
        picked.append(best)
    return np.array(picked, np.int64)

"""Exact nearest rows by blocks of matrix products, with memory bounded by two blocks."""

from collections.abc import Iterable

import numpy as np
import numpy.typing as npt

__all__ = ["Candidates", "nearest_in_blocks"]

Candidates = list[tuple[tuple[str, str], float]]
"""Keys (source, id) with their cosine."""


def nearest_in_blocks(
    queries_QD: npt.NDArray[np.float32],
    k: int,
    blocks: Iterable[tuple[list[tuple[str, str]], npt.NDArray[np.float32]]],
) -> list[Candidates]:
    """Return up to k rows of the greatest inner product for each query, in no particular order.

    Args:
        queries_QD: Q unit vectors, shape (Q, dim).
        k: rows a query.
        blocks: the rows: keys and unit vectors of shape (rows, dim), a block at a time.
    """
    num_queries = len(queries_QD)
    scores_QK = np.full((num_queries, 0), -np.inf, np.float32)
    keys_QK = np.empty((num_queries, 0), np.object_)
    for keys, vectors_ND in blocks:
        if not keys:
            continue
        block_scores = queries_QD @ vectors_ND.T
        block_keys = np.empty(len(keys), np.object_)
        block_keys[:] = keys
        if len(keys) > k:
            best = np.argpartition(block_scores, len(keys) - k, axis=1)[:, -k:]
            block_scores = np.take_along_axis(block_scores, best, axis=1)
            chosen_keys = block_keys[best]
        else:
            chosen_keys = np.broadcast_to(block_keys, block_scores.shape)
        scores_QK = np.concatenate([scores_QK, block_scores], axis=1)
        keys_QK = np.concatenate([keys_QK, chosen_keys], axis=1)
        if scores_QK.shape[1] > k:
            best = np.argpartition(scores_QK, scores_QK.shape[1] - k, axis=1)[:, -k:]
            scores_QK = np.take_along_axis(scores_QK, best, axis=1)
            keys_QK = np.take_along_axis(keys_QK, best, axis=1)
    return [
        [(key, float(score)) for key, score in zip(keys, scores, strict=True)]
        for keys, scores in zip(keys_QK, scores_QK, strict=True)
    ]

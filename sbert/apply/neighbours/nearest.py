"""The nearest rows of many rows by the exact kernel of search, with the keys of the rows that were found."""

from collections.abc import Iterable

import numpy as np
import pyarrow as pa

from sbert.index.top_k import NO_ROW, TopK
from sbert.vectors.precision import Float32

__all__ = ["Candidates", "Key", "keys_of", "nearest_in_blocks"]

Key = tuple[str, str]
"""Source and id of a row."""
Candidates = list[tuple[Key, float]]
"""Rows with their cosine."""


def keys_of(rows: pa.Table | pa.RecordBatch) -> list[Key]:
    """Return the keys of rows."""
    return list(zip(rows.column("source").to_pylist(), rows.column("id").to_pylist(), strict=True))


def nearest_in_blocks(queries_QD: Float32, k: int, blocks: Iterable[tuple[pa.Table, Float32]]) -> list[Candidates]:
    """Return up to k rows of the greatest inner product for each query, in no particular order.

    Args:
        queries_QD: Q unit vectors, shape (Q, dim).
        k: rows a query.
        blocks: the rows: columns ``source`` and ``id``, and unit vectors of shape (rows, dim), a block at a time.
    """
    best = TopK(queries_QD, k)
    keys: dict[int, Key] = {}
    first = 0
    for rows, vectors_ND in blocks:
        best.add(vectors_ND, np.arange(first, first + len(rows), dtype=np.int64))
        entered = np.unique(best.numbers_QK[best.numbers_QK >= first])
        keys |= zip(entered.tolist(), keys_of(rows.take(pa.array(entered - first))), strict=True)
        first += len(rows)
    return [
        [(keys[number], score) for number, score in zip(numbers, scores, strict=True) if number != NO_ROW]
        for numbers, scores in zip(best.numbers_QK.tolist(), best.scores_QK.tolist(), strict=True)
    ]

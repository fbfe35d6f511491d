"""The nearest rows of many rows by the exact kernel of search, with the keys of the rows that were found."""

from collections.abc import Collection, Iterable, Sequence
from typing import Any, TypeVar

import numpy as np
import pyarrow as pa

from sbert.index.top_k import NO_ROW, TopK
from sbert.vectors.precision import Float32

__all__ = ["Candidates", "Key", "keys_of", "nearest_in_blocks", "updated_list"]

Key = tuple[str, str]
"""Source and id of a row."""
Candidates = list[tuple[Key, float]]
"""Rows with their cosine."""
Found = TypeVar("Found", bound=tuple[Any, ...])
"""A row that was found: its key, its score, and whatever else is known of it."""


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


def updated_list(before: Sequence[Found], joined: Sequence[Found], left: Collection[Key], k: int) -> list[Found] | None:
    """Return the k best rows after rows joined and left, or None if a new search is needed.

    A row that is not in the list before is at most as near as the last of a full list. So the merged list is exact when at
    least as many joined rows are as near as that last one as rows of the list left.

    Args:
        before: the k best rows before, the best first; fewer if there were fewer.
        joined: the k best of the rows that joined, in any order.
        left: keys of the rows that left. A row that changed left and joined.
        k: rows of a list.
    """
    stayed = [candidate for candidate in before if candidate[0] not in left]
    num_nearer = sum(candidate[1] >= before[-1][1] for candidate in joined) if before else 0
    if len(before) == k and num_nearer < len(before) - len(stayed):
        return None
    return sorted([*stayed, *joined], key=lambda candidate: (-candidate[1], candidate[0]))[:k]

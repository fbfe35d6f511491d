"""An open segment: an inverted file that proposes rows, and the rows' own vectors, which decide.

The inverted file holds short codes, so it is small, quick and slightly wrong. The rows that it proposes are compared with
the query by the vectors as the table stores them. The vectors are mapped into memory.
"""

from pathlib import Path
from typing import Any

import numpy as np

from sbert.index.inverted_file import InvertedFile
from sbert.index.segment_cache import local_file
from sbert.index.top_k import Int64
from sbert.runtime.cpus import available_cpus
from sbert.storage.files import join
from sbert.table.vector_segments import INDEX_FOLDER, SegmentRecord
from sbert.vectors.precision import Float32, Precision, StoredVectors, restore, stored_dtype

__all__ = ["Segment", "map_vectors", "num_proposed"]

FEW_QUERIES = 8
"""Up to this number of queries, threads cost more than they save."""
GATHERED_BYTES = 64 * 2**20
"""Vectors of proposed rows that are compared at once."""
EXTRA_PROPOSED = 118
"""Least number of rows that are proposed beyond those asked for: codes rank neighbours less exactly than vectors."""


def num_proposed(k: int) -> int:
    """Return the rows that a segment proposes for a query that asks for `k`."""
    return k + max(EXTRA_PROPOSED, k // 2)


def map_vectors(path: Path, dim: int, precision: Precision, num_rows: int, *, write: bool = False) -> StoredVectors:
    """Map the vectors of a segment into memory."""
    mode: Any = "w+" if write else "r"
    if precision is Precision.FLOAT32:
        return np.memmap(path, np.float32, mode, shape=(num_rows, dim))
    return np.memmap(path, stored_dtype(dim, precision), mode, shape=(num_rows,))


class Segment:
    """A segment that can be searched; threads may share it."""

    def __init__(self, lists: InvertedFile, stored: StoredVectors) -> None:
        """Search an inverted file whose positions are the places of vectors in `stored`."""
        self._lists = lists
        self._stored = stored

    @classmethod
    def open(cls, table_uri: str, record: SegmentRecord) -> "Segment":
        """Map a segment into memory, from a local copy if the table is in object storage.

        Raises:
            TableError: a file is damaged.
            MissingError, StorageError: a file cannot be read.
        """
        lists_path, vectors_path = (
            local_file(join(table_uri, INDEX_FOLDER), record.lists.name, file) for file in record.files
        )
        stored = map_vectors(vectors_path, record.dim, record.precision, record.num_rows)
        return cls(InvertedFile.open(lists_path), stored)

    def propose(self, queries_QD: Float32, count: int, probes: int) -> Int64:
        """Return positions of up to `count` rows near each query, shape (Q, count), -1 where there are fewer.

        Args:
            queries_QD: the queries.
            count: rows a query.
            probes: lists that a query looks into.
        """
        threads = 1 if len(queries_QD) <= FEW_QUERIES else available_cpus()
        return self._lists.propose(queries_QD, count, probes, threads=threads)

    def scores(self, queries_QD: Float32, positions_QC: Int64) -> Float32:
        """Return the exact inner products of queries and rows, shape (Q, C); position -1 gives minus infinity."""
        scores_QC = np.empty(positions_QC.shape, np.float32)
        step = max(1, GATHERED_BYTES // max(1, 4 * queries_QD.shape[1] * positions_QC.shape[1]))
        for first in range(0, len(queries_QD), step):
            part = slice(first, first + step)
            vectors_QCD = restore(self._stored[np.maximum(positions_QC[part], 0).reshape(-1)])
            vectors_QCD = vectors_QCD.reshape(*positions_QC[part].shape, -1)
            scores_QC[part] = np.matmul(vectors_QCD, queries_QD[part, :, None])[:, :, 0]
        scores_QC[positions_QC < 0] = -np.inf
        return scores_QC

    def stored(self, positions: Int64 | slice) -> StoredVectors:
        """Return the vectors of rows as the table stores them."""
        return self._stored[positions]

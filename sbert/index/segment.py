"""An open segment: a graph that proposes rows, and the rows' own vectors, which decide.

The graph (HNSW, Malkov and Yashunin 2018, by usearch) holds vectors of 8 bits, so it is small, quick and slightly wrong. The
best of the rows that it proposes are compared with the query by the vectors as the table stores them. Both files are mapped
into memory: opening reads nothing.
"""

from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from sbert.index.segment_cache import local_file
from sbert.index.top_k import Int64
from sbert.runtime.cpus import available_cpus
from sbert.storage.files import join
from sbert.table.vector_segments import INDEX_FOLDER, SegmentRecord
from sbert.vectors.precision import Float32, Precision, StoredVectors, restore, stored_dtype

if TYPE_CHECKING:
    from usearch.index import Index

__all__ = ["Segment", "make_graph", "map_vectors", "num_candidates"]

FEW_QUERIES = 8
"""Up to this number of queries, threads cost more than they save."""
QUERIES_PER_BLOCK = 256
EXTRA_CANDIDATES = 22


def num_candidates(k: int) -> int:
    """Return the rows that a graph proposes for a query that asks for `k`."""
    return k + max(EXTRA_CANDIDATES, k // 2)


def make_graph(dim: int, *, normalized: bool, connectivity: int, expansion_add: int) -> "Index":
    """Return an empty graph; vectors that are not normalized are compared by inner product, in 16 bits."""
    from usearch.index import Index  # here: a search without an index does not wait for it

    return Index(
        ndim=dim,
        metric="cos" if normalized else "ip",
        dtype="i8" if normalized else "bf16",
        connectivity=connectivity,
        expansion_add=expansion_add,
        enable_key_lookups=False,
    )


def map_vectors(path: Path, dim: int, precision: Precision, num_rows: int, *, write: bool = False) -> StoredVectors:
    """Map the vectors of a segment into memory."""
    mode: Any = "w+" if write else "r"
    if precision is Precision.FLOAT32:
        return np.memmap(path, np.float32, mode, shape=(num_rows, dim))
    return np.memmap(path, stored_dtype(dim, precision), mode, shape=(num_rows,))


class Segment:
    """A segment that can be searched; threads may share it."""

    def __init__(self, graph: "Index", stored: StoredVectors) -> None:
        """Search a graph whose keys are the places of vectors in `stored`."""
        self._graph = graph
        self._stored = stored

    @classmethod
    def open(cls, table_uri: str, record: SegmentRecord) -> "Segment":
        """Map a segment into memory, from a local copy if the table is in object storage.

        Raises:
            TableError: a file is damaged.
            MissingError, StorageError: a file cannot be read.
        """
        graph_path, vectors_path = (
            local_file(join(table_uri, INDEX_FOLDER), record.graph.name, file) for file in record.files
        )
        graph = make_graph(
            record.dim,
            normalized=record.normalized,
            connectivity=record.connectivity,
            expansion_add=record.expansion_add,
        )
        graph.view(str(graph_path))
        return cls(graph, map_vectors(vectors_path, record.dim, record.precision, record.num_rows))

    def propose(self, queries_QD: Float32, count: int, expansion: int) -> Int64:
        """Return positions of up to `count` rows near each query, shape (Q, count), -1 where there are fewer.

        Args:
            queries_QD: the queries.
            count: rows a query.
            expansion: candidates that a query looks at in the graph.
        """
        wanted = min(count, len(self._graph))
        self._graph.expansion_search = max(expansion, wanted)  # type: ignore[misc]
        threads = 1 if len(queries_QD) <= FEW_QUERIES else available_cpus()
        matches = self._graph.search(np.ascontiguousarray(queries_QD), wanted, threads=threads)
        keys = np.asarray(matches.keys).reshape(len(queries_QD), -1).astype(np.int64)
        counts = np.atleast_1d(getattr(matches, "counts", keys.shape[1]))  # of one query, usearch returns what there is
        keys[np.arange(keys.shape[1]) >= counts[:, None]] = -1
        positions = np.full((len(queries_QD), count), -1, np.int64)
        positions[:, : keys.shape[1]] = keys
        return positions

    def scores(self, queries_QD: Float32, positions_QC: Int64) -> Float32:
        """Return the exact inner products of queries and rows, shape (Q, C); position -1 gives minus infinity."""
        scores_QC = np.empty(positions_QC.shape, np.float32)
        for first in range(0, len(queries_QD), QUERIES_PER_BLOCK):
            part = slice(first, first + QUERIES_PER_BLOCK)
            vectors_QCD = restore(self._stored[np.maximum(positions_QC[part], 0).reshape(-1)])
            vectors_QCD = vectors_QCD.reshape(*positions_QC[part].shape, -1)
            scores_QC[part] = np.matmul(vectors_QCD, queries_QD[part, :, None])[:, :, 0]
        scores_QC[positions_QC < 0] = -np.inf
        return scores_QC

    def stored(self, positions: Int64 | slice) -> StoredVectors:
        """Return the vectors of rows as the table stores them."""
        return self._stored[positions]

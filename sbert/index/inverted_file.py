"""An inverted file: lists of rows around centroids, so that a query looks into some lists instead of all rows.

Rows join the list of their nearest centroid, and a query looks into the lists of the centroids that are nearest to it
(Jégou, Douze and Schmid 2011, "Product quantization for nearest neighbor search"; by faiss). A list holds short codes in
place of vectors. Its scores are approximate, so the caller compares the rows that it proposes exactly.
"""

import math
from collections.abc import Iterator
from contextlib import contextmanager
from enum import StrEnum
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from sbert.index.top_k import Int64
from sbert.vectors.precision import Float32

if TYPE_CHECKING:
    import faiss

__all__ = ["ROWS_PER_CENTROID", "InvertedFile", "RowCodes", "codes_of", "num_lists_of"]

FEW_ROWS = 4_096
"""Up to this number of rows, one list of 8-bit vectors is quick enough."""
ROWS_PER_LIST = 8
"""Rows that a list holds at least, on average."""
ROWS_PER_CENTROID = 32
"""Rows that a centroid is fitted to, on average."""
ITERATIONS = 6
"""Iterations of k-means; more change the recall by less than its interval."""
QUERIES_PER_BLOCK = 2_048
"""Queries that are compared with the centroids at once, which takes 12 bytes for each list that a query looks into."""


class RowCodes(StrEnum):
    """What a list holds for each row."""

    PRODUCT = "product"
    """4 bits for each pair of values, by a product quantizer; a processor compares 32 rows at a time (André et al. 2015)."""
    SCALAR = "scalar"
    """8 bits for each value: four times as large, slower, more exact."""


def num_lists_of(num_rows: int, list_factor: float) -> int:
    """Return the lists for some rows: `list_factor` times the root of their number, but one for few rows."""
    return 1 if num_rows <= FEW_ROWS else min(math.ceil(list_factor * math.sqrt(num_rows)), num_rows // ROWS_PER_LIST)


def codes_of(num_rows: int, dim: int) -> tuple[RowCodes, ...]:
    """Return the codes to try for some rows, the smallest first."""
    return (RowCodes.SCALAR,) if num_rows <= FEW_ROWS or dim % 2 else (RowCodes.PRODUCT, RowCodes.SCALAR)


class InvertedFile:
    """Lists of rows around centroids; threads may search it at the same time."""

    def __init__(self, index: "faiss.IndexIVF") -> None:
        """Search an index of faiss whose ids are positions of rows."""
        self._index = index

    @classmethod
    def fit(cls, sample_SD: Float32, num_lists: int, codes: RowCodes) -> "InvertedFile":
        """Return an empty inverted file whose centroids and codes fit a sample of rows.

        One thread does it. Fitting has many thousands of small steps, and where other work has the processors, two threads
        wait for each other at each: 28 s in place of 1 for 6,000 rows.

        Args:
            sample_SD: the sample, shape (S, dim), at least `num_lists` rows.
            num_lists: centroids.
            codes: what a list holds for each row.
        """
        import faiss  # here: a search without an index does not wait for it

        dim = sample_SD.shape[1]
        made = f"PQ{dim // 2}x4fs" if codes is RowCodes.PRODUCT else "SQ8"
        index: Any = faiss.index_factory(dim, f"IVF{num_lists},{made}", faiss.METRIC_INNER_PRODUCT)
        index.cp.niter = ITERATIONS
        index.cp.min_points_per_centroid = 1  # no warning of fewer rows than the library would like
        index.cp.max_points_per_centroid = ROWS_PER_CENTROID
        with _threads(1):
            index.train(np.ascontiguousarray(sample_SD))
        return cls(index)

    @classmethod
    def open(cls, path: Path) -> "InvertedFile":
        """Open an inverted file. Codes of 8 bits are mapped into memory; product codes, 0.1 GB for 1,000,000 rows, are read.

        Raises:
            RuntimeError: the file is not readable.
        """
        import faiss

        index: Any = faiss.read_index(str(path), faiss.IO_FLAG_MMAP_IFC)
        return cls(index)

    @property
    def num_lists(self) -> int:
        """Lists, filled or not."""
        return int(self._index.nlist)

    def add(self, vectors_ND: Float32, *, threads: int) -> None:
        """Add rows; their positions go on from those that are there."""
        with _threads(threads):
            self._index.add(np.ascontiguousarray(vectors_ND))

    def save(self, path: Path) -> None:
        """Write it into a file."""
        import faiss

        faiss.write_index(self._index, str(path))

    def propose(self, queries_QD: Float32, count: int, probes: int, *, threads: int) -> Int64:
        """Return positions of up to `count` rows near each query, shape (Q, count), -1 where there are fewer.

        Args:
            queries_QD: the queries.
            count: rows a query.
            probes: lists that a query looks into.
            threads: threads to use.
        """
        import faiss

        asked = faiss.SearchParametersIVF()
        asked.nprobe = min(probes, self.num_lists)
        positions_QC = np.empty((len(queries_QD), count), np.int64)
        with _threads(threads):
            for first in range(0, len(queries_QD), QUERIES_PER_BLOCK):
                block = np.ascontiguousarray(queries_QD[first : first + QUERIES_PER_BLOCK])
                positions_QC[first : first + len(block)] = self._index.search(block, count, params=asked)[1]
        return positions_QC


@contextmanager
def _threads(number: int) -> Iterator[None]:
    """Let faiss use a number of threads. It shares this setting with torch, so the one before is set again."""
    import faiss

    before = faiss.omp_get_max_threads()
    faiss.omp_set_num_threads(number)
    try:
        yield
    finally:
        faiss.omp_set_num_threads(before)

"""The distinct texts of a table in the order of their hashes, with vectors and texts in scratch files.

Memory holds about 50 bytes for each text: its hash, counts and places. Vectors are mapped from this machine's cache
(`sbert.table.unit_vectors`). Texts lie in a scratch folder. Both are read a block at a time.

For each vector of length 1 the folder has a short form of it: the first coordinates in an orthonormal basis, and the
length of the rest. By the inequality of Cauchy and Schwarz the inner product of two short forms is at least the cosine, so
pairs whose short forms are below a threshold need no further look, in any basis. The basis is that of principal
components, in which few pairs are left.
"""

import mmap
from collections.abc import Iterator
from contextlib import closing
from functools import lru_cache
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import polars as pl
import pyarrow as pa

from sbert.rows.text_differences import TextFacts, text_facts
from sbert.table.delta import Table
from sbert.table.shard_file import open_shard
from sbert.table.table_shard import TableShard
from sbert.table.text_index import HASH_BYTES, Hashes, hash_matrix
from sbert.table.unit_vectors import UnitVectors
from sbert.vectors.precision import Float32

__all__ = ["DistinctTexts", "sorted_hashes"]

ROWS_PER_READ = 16_384
SHORT_DIM = 64
FACTS_IN_MEMORY = 10_000
PAIRS_AT_ONCE = 16_384
ROWS_PER_WRITE = 65_536
"""Short forms that are gathered before they are written (16 MiB)."""

Ints = npt.NDArray[np.int64]
Ranks = npt.NDArray[np.int32]


class SortedHashes:
    """Distinct hashes in ascending order; the place of a text among them is its rank."""

    def __init__(self, hashes: Hashes) -> None:
        """Sort hashes, shape (rows, 16); of equal ones one stays."""
        high, low = _halves(hashes)
        order = np.lexsort((low, high))
        high, low = high[order], low[order]
        is_first = np.ones(len(order), np.bool_)
        is_first[1:] = (high[1:] != high[:-1]) | (low[1:] != low[:-1])
        self._high, self._low = high[is_first], low[is_first]

    def __len__(self) -> int:
        return len(self._high)

    def ranks(self, hashes: Hashes) -> Ints:
        """Return the rank of each hash, -1 for an unknown one."""
        high, low = _halves(hashes)
        if not len(self):
            return np.full(len(high), -1, np.int64)
        at = np.searchsorted(self._high, high).astype(np.int64)
        last = len(self) - 1
        while True:  # of hashes with equal first halves the next one is tried
            there = np.minimum(at, last)
            is_wrong = (self._high[there] == high) & (self._low[there] != low) & (at <= last)
            if not is_wrong.any():
                break
            at[is_wrong] += 1
        there = np.minimum(at, last)
        is_known = (at <= last) & (self._high[there] == high) & (self._low[there] == low)
        return np.where(is_known, at, -1)

    def places(self, hashes: Hashes) -> Ints:
        """Return for each hash the number of known hashes whose first half is smaller."""
        return np.searchsorted(self._high, _halves(hashes)[0]).astype(np.int64)

    def hashes(self, ranks: Ints) -> Hashes:
        """Return the hashes of ranks, shape (ranks, 16)."""
        both = np.stack([self._high[ranks], self._low[ranks]], axis=1).astype(">u8")
        return both.view(np.uint8).reshape(len(ranks), HASH_BYTES)


def _halves(hashes: Hashes) -> tuple[npt.NDArray[np.uint64], npt.NDArray[np.uint64]]:
    """Return both halves as numbers that sort as the bytes do."""
    both = np.ascontiguousarray(hashes).view(">u8").astype(np.uint64)
    return both[:, 0].copy(), both[:, 1].copy()


def read_columns(table: Table, columns: list[str]) -> Iterator[pa.RecordBatch]:
    """Read columns of all rows of a version in blocks."""
    for shard in table.shards():
        yield from read_shard(table, shard, columns)


def read_shard(table: Table, shard: TableShard, columns: list[str]) -> Iterator[pa.RecordBatch]:
    """Read columns of a shard in blocks."""
    if shard.num_rows:
        with open_shard(table.shard_uri(shard.name)) as parquet:
            yield from parquet.iter_batches(batch_size=ROWS_PER_READ, columns=columns)


def sorted_hashes(table: Table) -> tuple[SortedHashes, Ranks]:
    """Return the distinct hashes of a version, and the rank of each row's text, in the order of `read_columns`."""
    parts = [np.array(hash_matrix(batch.column(0))) for batch in read_columns(table, ["text_hash"])]
    every = np.concatenate(parts) if parts else np.zeros((0, HASH_BYTES), np.uint8)
    hashes = SortedHashes(every)
    return hashes, hashes.ranks(every).astype(np.int32)


class DistinctTexts:
    """Vectors and texts by rank. Close it, and remove its folder, when done."""

    def __init__(
        self, table: Table, hashes: SortedHashes, row_ranks: Ranks, folder: Path, text_column: str | None
    ) -> None:
        """Map vectors, and write short forms, and texts if `text_column` is given, to files in `folder`.

        Args:
            table: the version.
            hashes: its distinct hashes.
            row_ranks: the rank of each row's text, as `sorted_hashes` returns them.
            folder: for the files.
            text_column: kept column with the texts.
        """
        self.hashes = hashes
        self._dim = table.encoder.dim
        self.short_dim = min(SHORT_DIM, self._dim - 1) + 1
        self._basis_DS: Float32 | None = None
        self._full = UnitVectors.open(table)
        self._places = np.zeros(len(hashes), np.int32 if len(self._full) < 2**31 else np.int64)
        self._short = _Matrix(folder / "short", len(hashes), self.short_dim)
        self._starts = np.zeros(len(hashes), np.int64)
        self._lengths = np.zeros(len(hashes), np.int32)
        self._texts_path = folder / "texts"
        self._copy(table, row_ranks, text_column)
        self._texts = self._texts_path.open("rb")
        self.facts_of = lru_cache(FACTS_IN_MEMORY)(self._facts)

    def __len__(self) -> int:
        return len(self.hashes)

    def close(self) -> None:
        """Close the files."""
        self._texts.close()
        self.facts_of.cache_clear()

    def short(self, first: int, last: int) -> Float32:
        """Return the short forms of the ranks from `first` up to, not including, `last`."""
        return self._short.slice(first, last)

    def short_at(self, ranks: Ints) -> Float32:
        """Return the short forms of ranks."""
        return self._short.take(ranks)

    def shorten(self, unit_ND: Float32) -> Float32:
        """Return the short forms of vectors of length 1, shape (N, short_dim)."""
        if self._basis_DS is None:
            self._basis_DS = _principal_basis(unit_ND, self.short_dim - 1)
        first_NS = unit_ND @ self._basis_DS
        rest = _squares(unit_ND) - _squares(first_NS)
        return np.concatenate([first_NS, np.sqrt(np.maximum(rest, 0))[:, None].astype(np.float32)], axis=1)

    def cosines(self, left: Ints, right: Ints) -> npt.NDArray[np.float64]:
        """Return the cosine of each pair of ranks; the same pair gives the same value in every run."""
        values = np.empty(len(left), np.float64)
        for first in range(0, len(left), PAIRS_AT_ONCE):
            part = slice(first, first + PAIRS_AT_ONCE)
            low, high = np.minimum(left[part], right[part]), np.maximum(left[part], right[part])
            values[part] = np.einsum("nd,nd->n", self._vectors(low), self._vectors(high), dtype=np.float64)
        if len(left) > PAIRS_AT_ONCE:
            self._full.release()
        return np.round(values, 6)

    def release(self) -> None:
        """Give back the memory of blocks that were read."""
        self._full.release()
        self._short.release()

    def _vectors(self, ranks: Ints) -> Float32:
        return self._full.take(self._places[ranks])

    def _facts(self, rank: int) -> TextFacts:
        self._texts.seek(int(self._starts[rank]))
        return text_facts(self._texts.read(int(self._lengths[rank])).decode())

    def _copy(self, table: Table, row_ranks: Ranks, text_column: str | None) -> None:
        is_there = np.zeros(len(self), np.bool_)
        begin = end = num_mapped = 0
        with self._texts_path.open("wb") as texts, closing(_RowBuffer(self._short)) as short:
            for shard, first, count, column in _blocks(table, text_column):
                ranks = row_ranks[begin : begin + count].astype(np.int64)
                begin += count
                is_new = np.zeros(count, np.bool_)
                is_new[np.unique(ranks, return_index=True)[1]] = True
                is_new &= ~is_there[ranks]
                if not is_new.any():
                    continue
                num_mapped += count
                if num_mapped >= ROWS_PER_WRITE:
                    self._full.release()
                    num_mapped = 0
                start = self._full.starts[shard] + first
                rows = np.flatnonzero(is_new)
                unit_ND = self._full.rows(start, start + count)
                ranks = ranks[rows]
                is_there[ranks] = True
                self._places[ranks] = start + rows
                short.write(ranks, self.shorten(unit_ND if len(rows) == count else unit_ND[rows]))
                if column is not None:
                    end = self._write_texts(texts, end, ranks, column if len(rows) == count else column.take(rows))
        self._full.release()

    def _write_texts(self, file: Any, end: int, ranks: Ints, column: pa.Array) -> int:
        texts = pl.Series(column).cast(pl.String).fill_null("")
        lengths = texts.str.len_bytes().to_numpy().astype(np.int64)
        self._starts[ranks] = end + np.cumsum(lengths) - lengths
        self._lengths[ranks] = lengths
        file.write("".join(texts.to_list()).encode())
        return end + int(lengths.sum())


def _blocks(table: Table, text_column: str | None) -> Iterator[tuple[str, int, int, pa.Array | None]]:
    """Return the rows of a version in blocks: shard, number of the first row in it, number of rows, and their texts."""
    for shard in table.shards():
        if text_column is None:
            for first in range(0, shard.num_rows, ROWS_PER_READ):
                yield shard.name, first, min(ROWS_PER_READ, shard.num_rows - first), None
            continue
        first = 0
        for batch in read_shard(table, shard, [text_column]):
            yield shard.name, first, len(batch), batch.column(0)
            first += len(batch)


class _RowBuffer:
    """Gathers rows for a matrix in a file. Many rows in their order touch each page once; few rows touch nearly as many."""

    def __init__(self, matrix: "_Matrix") -> None:
        self._matrix = matrix
        self._rows: list[Ints] = []
        self._values: list[Float32] = []
        self._num_rows = 0

    def write(self, rows: Ints, values_RD: Float32) -> None:
        self._rows.append(rows)
        self._values.append(values_RD)
        self._num_rows += len(rows)
        if self._num_rows >= ROWS_PER_WRITE:
            self.close()

    def close(self) -> None:
        """Write what was gathered."""
        if self._rows:
            rows = np.concatenate(self._rows)
            order = np.argsort(rows)
            self._matrix.write(rows[order], np.concatenate(self._values)[order])
        self._rows, self._values, self._num_rows = [], [], 0


class _Matrix:
    """A float32 matrix in a file: rows are written in any order, and read without staying in memory."""

    def __init__(self, path: Path, num_rows: int, dim: int) -> None:
        self._map: Any = np.memmap(path, np.float32, "w+", shape=(max(num_rows, 1), dim))

    def write(self, rows: Ints, values_RD: Float32) -> None:
        self._map[rows] = values_RD
        self.release()

    def slice(self, first: int, last: int) -> Float32:
        return np.array(self._map[first:last])

    def take(self, rows: Ints) -> Float32:
        taken: Float32 = self._map[rows]
        return np.asarray(taken)

    def release(self) -> None:
        """Take the pages of the file out of this process; they stay in the system's cache."""
        self._map._mmap.madvise(mmap.MADV_DONTNEED)


def _squares(values_ND: Float32) -> npt.NDArray[np.float64]:
    squares: npt.NDArray[np.float64] = np.einsum("nd,nd->n", values_ND, values_ND, dtype=np.float64)
    return squares


def _principal_basis(unit_ND: Float32, num_columns: int) -> Float32:
    """Return an orthonormal basis of the directions with the most length, shape (dim, num_columns)."""
    _, vectors = np.linalg.eigh(unit_ND.T.astype(np.float64) @ unit_ND)
    return np.ascontiguousarray(vectors[:, ::-1][:, :num_columns]).astype(np.float32)

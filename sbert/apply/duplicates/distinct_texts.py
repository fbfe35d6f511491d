"""The distinct texts of a table in the order of their hashes, with vectors and texts in scratch files.

Memory holds about 50 bytes for each text: its hash, counts and places. Vectors and texts lie in a scratch folder and are
read a block at a time.

Beside each vector of length 1 the folder has a short form of it: the first coordinates in an orthonormal basis, and the
length of the rest. By the inequality of Cauchy and Schwarz the inner product of two short forms is at least the cosine, so
pairs whose short forms are below a threshold need no further look, in any basis. The basis is that of principal
components, in which few pairs are left.
"""

import mmap
from collections.abc import Iterator
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
from sbert.table.shards import vector_matrix, vector_names
from sbert.table.text_index import HASH_BYTES, Hashes, hash_matrix
from sbert.vectors.precision import Float32
from sbert.vectors.unit import unit_rows

__all__ = ["DistinctTexts", "sorted_hashes"]

ROWS_PER_READ = 16_384
SHORT_DIM = 64
FACTS_IN_MEMORY = 10_000
PAIRS_AT_ONCE = 16_384

Ints = npt.NDArray[np.int64]


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
        if shard.num_rows:
            with open_shard(table.shard_uri(shard.name)) as parquet:
                yield from parquet.iter_batches(batch_size=ROWS_PER_READ, columns=columns)


def sorted_hashes(table: Table) -> tuple[SortedHashes, Ints]:
    """Return the distinct hashes of a version, and the number of rows of each text."""
    parts = [np.array(hash_matrix(batch.column(0))) for batch in read_columns(table, ["text_hash"])]
    every = np.concatenate(parts) if parts else np.zeros((0, HASH_BYTES), np.uint8)
    hashes = SortedHashes(every)
    return hashes, np.bincount(hashes.ranks(every), minlength=len(hashes)).astype(np.int64)


class DistinctTexts:
    """Vectors and texts by rank. Close it, and remove its folder, when done."""

    def __init__(self, table: Table, hashes: SortedHashes, folder: Path, text_column: str | None) -> None:
        """Copy vectors, and texts if `text_column` is given, to files in `folder`."""
        self.hashes = hashes
        self._dim = table.encoder.dim
        self.short_dim = min(SHORT_DIM, self._dim - 1) + 1
        self._basis_DS: Float32 | None = None
        self._full = _AppendedRows(folder / "vectors", len(hashes), self._dim)
        self._short = _Matrix(folder / "short", len(hashes), self.short_dim)
        self._starts = np.zeros(len(hashes), np.int64)
        self._lengths = np.zeros(len(hashes), np.int32)
        self._texts_path = folder / "texts"
        self._copy(table, text_column)
        self._texts = self._texts_path.open("rb")
        self.facts_of = lru_cache(FACTS_IN_MEMORY)(self._facts)

    def __len__(self) -> int:
        return len(self.hashes)

    def close(self) -> None:
        """Close the files."""
        self._texts.close()
        self._full.close()
        self.facts_of.cache_clear()

    def short(self, first: int, last: int) -> Float32:
        """Return the short forms of the ranks from `first` up to, not including, `last`."""
        return self._short.slice(first, last)

    def short_at(self, ranks: Ints) -> Float32:
        """Return the short forms of ranks."""
        return self._short.take(ranks)

    def shorten(self, vectors_ND: Float32) -> Float32:
        """Return the short forms of vectors, shape (N, short_dim)."""
        unit_ND = unit_rows(vectors_ND)
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
            values[part] = np.einsum("nd,nd->n", self._full.take(low), self._full.take(high), dtype=np.float64)
        if len(left) > PAIRS_AT_ONCE:
            self._full.release()
        return np.round(values, 6)

    def release(self) -> None:
        """Give back the memory of blocks that were read."""
        self._full.release()
        self._short.release()

    def _facts(self, rank: int) -> TextFacts:
        self._texts.seek(int(self._starts[rank]))
        return text_facts(self._texts.read(int(self._lengths[rank])).decode())

    def _copy(self, table: Table, text_column: str | None) -> None:
        info = table.encoder
        columns = ["text_hash", *vector_names(info.precision), *([text_column] if text_column else [])]
        is_there = np.zeros(len(self), np.bool_)
        end = 0
        with self._texts_path.open("wb") as texts:
            for batch in read_columns(table, columns):
                ranks = self.hashes.ranks(hash_matrix(batch.column("text_hash")))
                is_new = np.zeros(len(ranks), np.bool_)
                is_new[np.unique(ranks, return_index=True)[1]] = True
                is_new &= ~is_there[ranks]
                if not is_new.any():
                    continue
                ranks = ranks[is_new]
                is_there[ranks] = True
                first_rows = batch if is_new.all() else batch.filter(pa.array(is_new))
                unit_ND = unit_rows(vector_matrix(first_rows, info.dim, info.precision))
                self._full.write(ranks, unit_ND)
                self._short.write(ranks, self.shorten(unit_ND))
                if text_column:
                    end = self._write_texts(texts, end, ranks, first_rows.column(text_column))

    def _write_texts(self, file: Any, end: int, ranks: Ints, column: pa.Array) -> int:
        texts = pl.Series(column).cast(pl.String).fill_null("")
        lengths = texts.str.len_bytes().to_numpy().astype(np.int64)
        self._starts[ranks] = end + np.cumsum(lengths) - lengths
        self._lengths[ranks] = lengths
        file.write("".join(texts.to_list()).encode())
        return end + int(lengths.sum())


class _AppendedRows:
    """Rows of a float32 matrix in a file, in the order in which they were written: that costs least."""

    def __init__(self, path: Path, num_rows: int, dim: int) -> None:
        self._path, self._dim = path, dim
        self._file = path.open("wb")
        self._places = np.zeros(num_rows, np.int32)
        self._num_written = 0
        self._map: Any = None

    def write(self, rows: Ints, values_RD: Float32) -> None:
        self._places[rows] = np.arange(self._num_written, self._num_written + len(rows))
        self._num_written += len(rows)
        self._file.write(np.ascontiguousarray(values_RD, np.float32).data)

    def take(self, rows: Ints) -> Float32:
        if self._map is None:
            self._file.close()
            self._map = np.memmap(self._path, np.float32, "r", shape=(self._num_written, self._dim))
        return np.asarray(self._map[self._places[rows]], np.float32)

    def close(self) -> None:
        self._file.close()

    def release(self) -> None:
        """Take the pages of the file out of this process; they stay in the system's cache."""
        if self._map is not None:
            self._map._mmap.madvise(mmap.MADV_DONTNEED)


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

"""The rows of one version of a table by number, from 0 in the order of its shards: their vectors and columns."""

from collections.abc import Iterator, Sequence
from contextlib import closing
from typing import NamedTuple

import numpy as np
import polars as pl
import pyarrow as pa
import pyarrow.parquet as pq

from sbert.index.row_filter import RowFilter
from sbert.index.top_k import Int64
from sbert.runtime.prefetch import prefetch
from sbert.table.delta import Table
from sbert.table.shard_file import open_shard
from sbert.table.shards import stored_vectors, vector_names
from sbert.table.table_shard import TableShard
from sbert.vectors.precision import Float32, StoredVectors, restore

__all__ = ["RowRange", "VectorBlock", "VersionRows"]

ROWS_PER_READ = 16_384
BLOCKS_AHEAD = 2


class RowRange(NamedTuple):
    """Rows with consecutive numbers."""

    first: int
    stop: int
    """The number after the last."""


class VectorBlock(NamedTuple):
    """Vectors of some rows."""

    numbers_N: Int64
    stored: StoredVectors
    """Vectors, as the table stores them."""

    @property
    def vectors_ND(self) -> Float32:  # noqa: N802  (a shape)
        """The vectors as float32, shape (N, dim)."""
        return restore(self.stored)


class VersionRows:
    """Numbers of the rows of a version. Memory does not depend on the number of rows."""

    def __init__(self, table: Table) -> None:
        """Read the list of shards."""
        self.table = table
        self.shards: Sequence[TableShard] = [shard for shard in table.shards() if shard.num_rows]
        self.starts: Int64 = np.cumsum([0, *(shard.num_rows for shard in self.shards)], dtype=np.int64)
        """Number of the first row of each shard, then the number of all rows."""

    def __len__(self) -> int:
        return int(self.starts[-1])

    def _placed(self) -> list[tuple[TableShard, int]]:
        """Return each shard with the number of its first row."""
        return list(zip(self.shards, self.starts[:-1].tolist(), strict=True))

    @property
    def everything(self) -> list[RowRange]:
        """All rows as ranges."""
        return [RowRange(0, len(self))] if len(self) else []

    def vectors(self, ranges: Sequence[RowRange]) -> Iterator[VectorBlock]:
        """Read the vectors of ranges, in blocks; a thread reads ahead.

        Raises:
            StorageError, TableError: a shard cannot be read.
        """
        if ranges:
            with closing(prefetch(self._blocks(ranges), BLOCKS_AHEAD)) as blocks:
                yield from blocks

    def vectors_at(self, numbers: Int64) -> Iterator[VectorBlock]:
        """Read the vectors of the rows with these numbers, ascending; only row groups that hold one of them are read."""
        for shard, start in self._placed():
            yield from self._chosen_of_shard(shard, start, _inside(numbers, [RowRange(start, start + shard.num_rows)]))

    def matching(self, row_filter: RowFilter) -> Int64:
        """Return the numbers of the rows that satisfy a filter, ascending.

        Raises:
            StorageError: storage refuses.
        """
        parts = [row_filter.rows_of_shard(shard.name) + start for shard, start in self._placed()]
        return np.concatenate([np.zeros(0, np.int64), *parts])

    def columns(self, numbers: Int64, names: Sequence[str]) -> pl.DataFrame:
        """Read columns of the rows with these numbers, in their order; only row groups that hold one of them are read.

        Raises:
            StorageError, TableError: a shard cannot be read.
        """
        wanted, places = np.unique(numbers, return_inverse=True)
        schema = pa.schema([self.table.arrow_schema.field(name) for name in names])
        parts = [schema.empty_table()]
        for shard, start in self._placed():
            first, stop = np.searchsorted(wanted, [start, start + shard.num_rows])
            if first < stop:
                parts += self._rows_of_shard(shard, wanted[first:stop] - start, schema)
        frame = pl.from_arrow(pa.concat_tables(parts))
        assert isinstance(frame, pl.DataFrame)
        return frame[places]

    def row_groups(self, shard: int) -> list[RowRange]:
        """Return the row groups of the shard at a place in `shards`, as ranges of row numbers."""
        with open_shard(self.table.shard_uri(self.shards[shard].name)) as parquet:
            return [RowRange(first, stop) for _, first, stop in _row_groups(parquet, int(self.starts[shard]))]

    def _blocks(self, ranges: Sequence[RowRange]) -> Iterator[VectorBlock]:
        for shard, start in self._placed():
            inside = _overlaps(ranges, start, start + shard.num_rows)
            if inside:
                yield from self._blocks_of_shard(shard, start, inside)

    def _blocks_of_shard(self, shard: TableShard, start: int, ranges: Sequence[RowRange]) -> Iterator[VectorBlock]:
        info = self.table.encoder
        columns = vector_names(info.precision)
        with open_shard(self.table.shard_uri(shard.name)) as parquet:
            for group, at, end in _row_groups(parquet, start):
                inside = _overlaps(ranges, at, end)
                if not inside:
                    continue
                first = at
                for batch in parquet.iter_batches(batch_size=ROWS_PER_READ, row_groups=[group], columns=columns):
                    for part in _overlaps(inside, first, first + batch.num_rows):
                        rows = batch.slice(part.first - first, part.stop - part.first)
                        numbers = np.arange(part.first, part.stop, dtype=np.int64)
                        yield VectorBlock(numbers, stored_vectors(rows, info.dim, info.precision))
                    first += batch.num_rows

    def _chosen_of_shard(self, shard: TableShard, start: int, numbers: Int64) -> Iterator[VectorBlock]:
        """Read the vectors of the rows of a shard with these numbers, a row group at a time."""
        info = self.table.encoder
        columns = vector_names(info.precision)
        if not len(numbers):
            return
        with open_shard(self.table.shard_uri(shard.name)) as parquet:
            for group, at, end in _row_groups(parquet, start):
                wanted = _inside(numbers, [RowRange(at, end)])
                if len(wanted):
                    rows = parquet.read_row_group(group, columns=columns).take(pa.array(wanted - at))
                    yield VectorBlock(wanted, stored_vectors(rows, info.dim, info.precision))

    def _rows_of_shard(self, shard: TableShard, rows: Int64, schema: pa.Schema) -> list[pa.Table]:
        """Read columns of the rows of a shard with these numbers, counted from the first row of the shard."""
        parts = []
        with open_shard(self.table.shard_uri(shard.name)) as parquet:
            for group, at, end in _row_groups(parquet, 0):
                first, stop = np.searchsorted(rows, [at, end])
                if first < stop:
                    read = parquet.read_row_group(group, columns=schema.names)
                    parts.append(read.take(pa.array(rows[first:stop] - at)).select(schema.names).cast(schema))
        return parts


def _overlaps(ranges: Sequence[RowRange], first: int, stop: int) -> list[RowRange]:
    """Return the parts of ranges between two numbers."""
    return [
        RowRange(max(part.first, first), min(part.stop, stop))
        for part in ranges
        if part.first < stop and part.stop > first
    ]


def _inside(numbers: Int64, ranges: Sequence[RowRange]) -> Int64:
    """Return the numbers, ascending, that lie in one of the ranges."""
    parts = [slice(*np.searchsorted(numbers, part)) for part in ranges]
    return np.concatenate([numbers[:0], *(numbers[part] for part in parts)])


def _row_groups(parquet: pq.ParquetFile, start: int) -> Iterator[tuple[int, int, int]]:
    """Yield the row groups of a shard: place, number of the first row, and the number after the last."""
    for group in range(parquet.num_row_groups):
        stop = start + parquet.metadata.row_group(group).num_rows
        yield group, start, stop
        start = stop

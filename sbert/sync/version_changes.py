"""Find the rows in which two versions of a table differ.

The log tells which shards joined and which left; only their rows can differ. A first pass over these shards compares the
rows by hash (`row_comparison`), each side in a thread of its own. It leaves out the vectors, which are most of the bytes. A
second pass compares the vectors where some rows are equal in all else. A last pass reads the rows that changed, unless they
are still in memory. Memory is bounded, and rows that were merely rewritten into another shard are not changes.
"""

from collections.abc import Callable, Iterable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from functools import partial
from typing import Self

import numpy as np
import pyarrow as pa

from sbert.errors import TableError
from sbert.storage.files import list_names
from sbert.sync.row_comparison import Places, RowComparison, RowDifferences
from sbert.sync.row_hashes import KEY_NAMES, row_hashes, vector_hashes
from sbert.sync.table_rows import num_rows_of
from sbert.table.delta import Table
from sbert.table.record_file import Keys
from sbert.table.shard_file import open_shard
from sbert.table.table_shard import TableShard

__all__ = ["VersionChanges"]

FLOAT_BYTES = 4
ROWS_PER_READ = 16_384
VECTORS_PER_READ_BYTES = 2**25
"""Long vectors make fewer rows of a block, whatever their dim: several blocks are in memory at once."""
KEPT_BYTES = 2**26
"""Joining rows up to this size stay in memory, so that those that changed need no second read."""


class VersionChanges:
    """The changes from one version of a table to another. Use as a context manager, which compares and holds rows."""

    def __init__(self, before: Table, after: Table) -> None:
        """Find the shards that left and joined.

        Raises:
            TableError: shards that are needed were vacuumed.
        """
        self.before = before
        self.after = after
        self._left = _difference(before, after)
        self._joined = _difference(after, before)
        _check_there(before, [*self._left, *self._joined])
        self.encoder_changed = before.encoder.fingerprint != after.encoder.fingerprint
        self._are_all_new = self.encoder_changed or before.arrow_schema != after.arrow_schema
        self._kept_blocks: list[pa.RecordBatch] | None = None if self._are_all_new else []
        self._num_kept_bytes = 0
        self._upserts: Places
        self._deletes: Places

    def __enter__(self) -> Self:
        with ThreadPoolExecutor(1, thread_name_prefix="left") as pool:
            differences = self._compared_without_vectors(pool)
            self._deletes = differences.extra
            if self._are_all_new:  # another encoder or other columns
                self._upserts = np.arange(self._num_joined)
            else:
                stale = self._with_other_vectors(pool) if differences.num_alike else differences.stale
                self._upserts = np.union1d(differences.missing, np.union1d(differences.stale, stale))
        return self

    def __exit__(self, *_: object) -> None:
        self._kept_blocks = None

    @property
    def num_shards_read(self) -> int:
        """Shards that left or joined."""
        return len(self._left) + len(self._joined)

    @property
    def num_upserts(self) -> int:
        """Rows to insert or replace."""
        return len(self._upserts)

    @property
    def num_deletes(self) -> int:
        """Keys to remove."""
        return len(self._deletes)

    def upserts(self) -> Iterator[pa.Table]:
        """Read the rows to insert or replace, with the table's columns."""
        if self._kept_blocks is None:
            return _rows_at(self.after, self._joined, self._upserts, self.after.arrow_schema.names)
        return _taken(self._kept_blocks, self._upserts)

    def deletes(self) -> Iterator[pa.Table]:
        """Read the keys to remove: columns ``id`` and ``source``."""
        return _rows_at(self.before, self._left, self._deletes, KEY_NAMES)

    def _compared_without_vectors(self, pool: ThreadPoolExecutor) -> RowDifferences:
        columns = [name for name in self.after.arrow_schema.names if name != "embedding"]
        compared = KEY_NAMES if self._are_all_new else columns
        return self._compared(pool, self._joined_batches(compared), compared, row_hashes)

    def _with_other_vectors(self, pool: ThreadPoolExecutor) -> Places:
        """Return the joining rows whose vector differs from that of their row before."""
        columns = [*KEY_NAMES, "embedding"]
        blocks = self._kept_blocks
        joined = _batches(self.after, self._joined, columns) if blocks is None else _of_columns(blocks, columns)
        return self._compared(pool, joined, columns, partial(vector_hashes, dim=self.after.encoder.dim)).stale

    def _compared(
        self,
        pool: ThreadPoolExecutor,
        joined: Iterator[pa.RecordBatch],
        columns: list[str],
        hashes: Callable[[pa.RecordBatch], tuple[Keys, Keys]],
    ) -> RowDifferences:
        """Compare the joining rows with the columns of the leaving ones, by `hashes` of keys and of content."""
        with RowComparison() as rows:
            left = pool.submit(_add_hashes, rows.add_copy_rows, hashes, _batches(self.before, self._left, columns))
            _add_hashes(rows.add_table_rows, hashes, joined)
            left.result()
            self._num_joined = rows.num_table_rows
            return rows.differences()

    def _joined_batches(self, columns: list[str]) -> Iterator[pa.RecordBatch]:
        """Read the joining rows: all columns while they are few enough to stay in memory, else `columns`."""
        for shard in self._joined:
            is_kept = self._kept_blocks is not None
            batches = _batches(self.after, [shard], self.after.arrow_schema.names if is_kept else columns)
            if is_kept:
                batches = self._kept(batches)
            yield from _of_columns(batches, columns)

    def _kept(self, batches: Iterable[pa.RecordBatch]) -> Iterator[pa.RecordBatch]:
        """Keep blocks of joining rows on their way, or none when they are too large."""
        for batch in batches:
            self._num_kept_bytes += batch.nbytes
            if self._num_kept_bytes > KEPT_BYTES:
                self._kept_blocks = None
            elif self._kept_blocks is not None:
                self._kept_blocks.append(batch)
            yield batch


def _difference(table: Table, other: Table) -> list[TableShard]:
    names = {shard.name for shard in other.shards()}
    return [shard for shard in table.shards() if shard.name not in names]


def _check_there(table: Table, shards: Sequence[TableShard]) -> None:
    files = list_names(table.uri) if shards else {}
    missing = [shard.name for shard in shards if shard.name not in files]
    if missing:
        raise TableError(
            f"{table.uri}: {len(missing)} of the {len(shards)} shards that hold the changes are gone (vacuumed; first: "
            f"{missing[0]}): load your index anew from the newest version, then read the changes from that version on"
        )


def _batches(table: Table, shards: Sequence[TableShard], columns: list[str]) -> Iterator[pa.RecordBatch]:
    rows_per_read = min(ROWS_PER_READ, max(1, VECTORS_PER_READ_BYTES // (FLOAT_BYTES * table.encoder.dim)))
    for shard in shards:
        uri = table.shard_uri(shard.name)
        with open_shard(uri) as parquet:
            yield from parquet.iter_batches(batch_size=rows_per_read, columns=columns)


def _of_columns(batches: Iterable[pa.RecordBatch], columns: list[str]) -> Iterator[pa.RecordBatch]:
    """Yield rows with those of `columns` that they have: a shard of another writer may lack one that was added later."""
    for batch in batches:
        yield batch.select([name for name in columns if name in batch.schema.names])


def _rows_at(table: Table, shards: Sequence[TableShard], places: Places, columns: list[str]) -> Iterator[pa.Table]:
    """Yield the rows of shards at `places`, which ascend; only shards that hold some are read."""
    first = 0
    for shard in shards:
        num_rows = num_rows_of(table, shard)
        low, high = np.searchsorted(places, [first, first + num_rows])
        if low < high:
            yield from _taken(_batches(table, [shard], columns), places[low:high] - first)
        first += num_rows


def _taken(batches: Iterable[pa.RecordBatch], places: Places) -> Iterator[pa.Table]:
    """Yield the rows of a stream at `places`, which ascend and differ."""
    first = 0
    for batch in batches:
        low, high = np.searchsorted(places, [first, first + batch.num_rows])
        rows = pa.Table.from_batches([batch])
        if high - low == batch.num_rows:
            yield rows
        elif low < high:
            yield rows.take(pa.array(places[low:high] - first))
        first += batch.num_rows


def _add_hashes(
    add: Callable[[Keys, Keys], None],
    hashes: Callable[[pa.RecordBatch], tuple[Keys, Keys]],
    batches: Iterator[pa.RecordBatch],
) -> None:
    for batch in batches:
        add(*hashes(batch))

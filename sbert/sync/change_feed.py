"""Write the upserts and deletes by which a vector index follows a table from one version to another.

The log tells which shards joined and which left; only their rows can differ. A first pass over these shards compares the
rows by hash (`row_comparison`), each side in a thread of its own. A second pass reads the rows that changed, unless they are
still in memory. Memory is bounded, and rows that were merely rewritten into another shard are not changes.
"""

from collections.abc import Iterable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from typing import Literal, Self

import numpy as np
import polars as pl
import pyarrow as pa
from pydantic import BaseModel, ConfigDict, Field

from sbert.errors import TableError
from sbert.storage.files import list_names
from sbert.sync.feed_writers import open_feed
from sbert.sync.row_comparison import Places, RowComparison, RowDifferences
from sbert.table.delta import Table
from sbert.table.duplicate_keys import row_keys
from sbert.table.record_file import Keys
from sbert.table.shard_file import open_shard
from sbert.table.shards import embedding_matrix
from sbert.table.table_shard import TableShard

__all__ = ["Changes", "FeedSummary", "write_changes"]

ROWS_PER_READ = 8_192
KEPT_BYTES = 2**26
"""Joining rows up to this size stay in memory, so that those that changed need no second read."""
KEY_NAMES = ["source", "id"]


class FeedSummary(BaseModel):
    """Counts of a change feed."""

    model_config = ConfigDict(frozen=True)

    table_uri: str
    from_version: int
    to_version: int
    num_upserts: int = Field(description="Rows to insert, or to replace by their key (source, id).")
    num_deletes: int = Field(description="Keys (source, id) to remove.")
    num_shards_read: int
    encoder_changed: bool = Field(description="Whether the vectors are of another encoder: every row is an upsert.")
    output: str | None = None


class Changes:
    """The changes from one version of a table to another. Use as a context manager: it holds a temporary file."""

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
        self._joined_blocks: list[pa.RecordBatch] | None = []
        self._num_kept_bytes = 0
        self._differences: RowDifferences

    def __enter__(self) -> Self:
        with RowComparison() as rows, ThreadPoolExecutor(1, thread_name_prefix="left") as pool:
            left = pool.submit(self._add_left, rows)
            self._add_joined(rows)
            left.result()
            self._differences = rows.differences()
            self._num_joined = rows.num_table_rows
        return self

    def __exit__(self, *_: object) -> None:
        self._joined_blocks = None

    def _add_left(self, rows: RowComparison) -> None:
        for batch in _batches(self.before, self._left, self._compared(self.before)):
            rows.add_copy_rows(*_hashes(batch, self.before.encoder.dim))

    def _add_joined(self, rows: RowComparison) -> None:
        for batch in _batches(self.after, self._joined, self._compared(self.after)):
            rows.add_table_rows(*_hashes(batch, self.after.encoder.dim))
            self._keep(batch)

    def _compared(self, table: Table) -> list[str]:
        """Return the columns by which rows are compared: keys alone where every joining row is new."""
        return KEY_NAMES if self._are_all_new else table.arrow_schema.names

    def _keep(self, batch: pa.RecordBatch) -> None:
        """Keep a block of joining rows, or none when they are too large."""
        self._num_kept_bytes += batch.nbytes
        if self._are_all_new or self._num_kept_bytes > KEPT_BYTES:
            self._joined_blocks = None
        elif self._joined_blocks is not None:
            self._joined_blocks.append(batch)

    @property
    def num_shards_read(self) -> int:
        """Shards that left or joined."""
        return len(self._left) + len(self._joined)

    @property
    def num_upserts(self) -> int:
        """Rows to insert or replace."""
        return len(self._upsert_places())

    @property
    def num_deletes(self) -> int:
        """Keys to remove."""
        return len(self._differences.extra)

    def upserts(self) -> Iterator[pa.Table]:
        """Read the rows to insert or replace, with the table's columns."""
        blocks: Iterable[pa.RecordBatch] | None = self._joined_blocks
        if blocks is None:
            blocks = _batches(self.after, self._joined, self.after.arrow_schema.names)
        return _rows_at(blocks, self._upsert_places())

    def deletes(self) -> Iterator[pa.Table]:
        """Read the keys to remove: columns ``id`` and ``source``."""
        return _rows_at(_batches(self.before, self._left, KEY_NAMES), self._differences.extra)

    def _upsert_places(self) -> Places:
        """Return the positions of the rows to write among the joining rows.

        With another encoder or other columns all rows are new, so all are written.
        """
        if self._are_all_new:
            return np.arange(self._num_joined)
        return np.union1d(self._differences.missing, self._differences.stale)


def write_changes(table_uri: str, from_version: int, to_version: int | None, output: str | None) -> FeedSummary:
    """Write the changes from one version of a table to another (also backwards); by default to the newest.

    Args:
        table_uri: the table.
        from_version: the version a copy of the table shows.
        to_version: the version it is to show.
        output: a .parquet or .jsonl file, local or s3://; None to count only.

    Raises:
        SettingsError: `output` has another ending.
        NotATableError: there is no such version.
        TableError: shards that are needed were vacuumed.
    """
    before, after = Table.open(table_uri, from_version), Table.open(table_uri, to_version)
    schema = pa.schema([pa.field("change", pa.string()), *after.arrow_schema])
    with Changes(before, after) as changes, open_feed(output, schema) as feed:
        if output is not None:
            for rows in changes.upserts():
                feed.write(_as_changes(rows, "upsert", schema))
            for rows in changes.deletes():
                feed.write(_as_changes(rows, "delete", schema))
        return FeedSummary(
            table_uri=after.uri,
            from_version=before.version,
            to_version=after.version,
            num_upserts=changes.num_upserts,
            num_deletes=changes.num_deletes,
            num_shards_read=changes.num_shards_read,
            encoder_changed=changes.encoder_changed,
            output=output,
        )


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


def _hashes(batch: pa.RecordBatch, dim: int) -> tuple[Keys, Keys]:
    """Return the hashes of keys and of content of rows; rows of keys alone have the keys as content."""
    content = [name for name in batch.schema.names if name not in KEY_NAMES]
    if not content:
        keys = pl.from_arrow(batch)
        assert isinstance(keys, pl.DataFrame)
        hashes = row_keys(keys, *KEY_NAMES)
        return hashes, hashes
    frame = _comparable(batch, dim)
    return row_keys(frame, *KEY_NAMES), row_keys(frame, *content)


def _comparable(batch: pa.RecordBatch, dim: int) -> pl.DataFrame:
    """Return rows in a form that can be hashed: vectors as bytes, nested kept columns as JSON."""
    vectors = embedding_matrix(batch.column("embedding"), dim)
    packed = pa.FixedSizeBinaryArray.from_buffers(
        pa.binary(vectors.itemsize * dim), len(vectors), [None, pa.py_buffer(np.ascontiguousarray(vectors))]
    ).cast(pa.binary())
    columns = {name: batch.column(name) for name in batch.schema.names} | {"embedding": packed}
    frame = pl.from_arrow(pa.table(columns))
    assert isinstance(frame, pl.DataFrame)
    nested = [name for name, kind in frame.schema.items() if kind.is_nested()]
    return frame.with_columns(pl.struct(name).struct.json_encode().alias(name) for name in nested)


def _batches(table: Table, shards: Sequence[TableShard], columns: list[str]) -> Iterator[pa.RecordBatch]:
    for shard in shards:
        uri = table.shard_uri(shard.name)
        with open_shard(uri) as parquet:
            yield from parquet.iter_batches(batch_size=ROWS_PER_READ, columns=columns)


def _rows_at(batches: Iterable[pa.RecordBatch], places: Places) -> Iterator[pa.Table]:
    """Yield the rows of a stream at `places`."""
    if not len(places):
        return
    first = 0
    for batch in batches:
        low, high = np.searchsorted(places, [first, first + batch.num_rows])
        if low < high:
            yield pa.Table.from_batches([batch]).take(pa.array(places[low:high] - first))
        first += batch.num_rows


def _as_changes(rows: pa.Table, change: Literal["upsert", "delete"], schema: pa.Schema) -> pa.Table:
    """Return rows with the feed's columns; columns that a delete does not have are null."""
    columns = {
        field.name: rows[field.name].cast(field.type)
        if field.name in rows.schema.names
        else pa.nulls(rows.num_rows, field.type)
        for field in schema
    }
    columns["change"] = pa.array([change] * rows.num_rows, pa.string())
    return pa.table(columns, schema=schema)

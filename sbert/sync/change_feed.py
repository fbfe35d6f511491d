"""Change feed: what a vector index must do to follow a table from one version to another.

The one idea: the log tells which shards joined and which left; only their rows can differ. 40 bytes a row of those (key,
content, place) go to a temporary file, which is joined slice by slice; a second pass over the shards writes what changed.
So memory is bounded, and rows that were merely rewritten into another shard are no changes.
"""

import json
import tempfile
from collections.abc import Iterator, Sequence
from types import TracebackType
from typing import IO, Literal, Protocol, Self

import numpy as np
import numpy.typing as npt
import polars as pl
import pyarrow as pa
import pyarrow.parquet as pq
from pydantic import BaseModel, ConfigDict, Field

from sbert.errors import SettingsError, TableError
from sbert.storage.files import OutputFile, list_names, open_input, open_output, translate_errors
from sbert.table.delta import Table, TableShard
from sbert.table.duplicate_keys import row_keys
from sbert.table.shards import discard_parquet, embedding_matrix

__all__ = ["FeedSummary", "write_changes"]

ROWS_PER_READ = 8_192
ROWS_PER_SLICE = 1_000_000
RECORDS_PER_READ = 262_144
RECORD = np.dtype([("key", "u8", 2), ("content", "u8", 2), ("row", "i8")])
"""Joining rows have places from 0 up, leaving rows from -1 down."""


class FeedSummary(BaseModel):
    """What a change feed holds."""

    model_config = ConfigDict(frozen=True)

    table_uri: str
    from_version: int
    to_version: int
    num_upserts: int = Field(description="Rows to insert, or to replace by their key (source, id).")
    num_deletes: int = Field(description="Keys (source, id) to remove.")
    num_shards_read: int
    encoder_changed: bool = Field(description="Whether the vectors are of another encoder: every row is an upsert.")
    output: str | None = None


class FeedWriter(Protocol):
    """Takes blocks of changes: the column ``change``, then the table's columns."""

    def write(self, changes: pa.Table) -> None:
        """Append a block."""

    def __enter__(self) -> Self: ...

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None: ...


class ParquetFeed:
    """Changes as one Parquet file, whole or not there."""

    def __init__(self, uri: str, schema: pa.Schema) -> None:
        """Begin a file at `uri`."""
        self._uri = uri
        self._output: OutputFile = open_output(uri)
        self._writer = pq.ParquetWriter(self._output, schema, compression="zstd")

    def write(self, changes: pa.Table) -> None:
        """Append a block."""
        with translate_errors(self._uri):
            self._writer.write_table(changes)

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        if kind is not None:
            discard_parquet(self._writer, self._output)
            return
        with translate_errors(self._uri):
            self._writer.close()
            self._output.close()


class JsonLinesFeed:
    """Changes as JSON Lines: an upsert has all columns, a delete the key; hashes are hexadecimal."""

    def __init__(self, uri: str) -> None:
        """Begin a file at `uri`."""
        self._output = open_output(uri)

    def write(self, changes: pa.Table) -> None:
        """Append a block."""
        lines = []
        for row in changes.to_pylist():
            if row["change"] == "delete":
                row = {name: row[name] for name in ("change", "source", "id")}  # noqa: PLW2901
            lines.append(json.dumps(row, ensure_ascii=False, default=_plain_json))
        self._output.write(("\n".join(lines) + "\n").encode() if lines else b"")

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        if kind is not None:
            self._output.discard()
        else:
            self._output.close()


class CountOnly:
    """Writes nothing."""

    def write(self, changes: pa.Table) -> None:
        """Pass over a block."""

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None: ...


def _plain_json(value: object) -> str:
    return value.hex() if isinstance(value, bytes) else str(value)


def write_changes(table_uri: str, from_version: int, to_version: int | None, output: str | None) -> FeedSummary:
    """Write what leads from one version of a table to another (also backwards); by default to the newest.

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
    left, joined = _difference(before, after), _difference(after, before)
    _check_there(before, [*left, *joined])
    all_new = before.encoder.fingerprint != after.encoder.fingerprint or before.arrow_schema != after.arrow_schema
    schema = pa.schema([pa.field("change", pa.string()), *after.arrow_schema])
    with tempfile.TemporaryFile(prefix="sbert-changes-") as ledger, _open_feed(output, schema) as feed:
        num_rows = _note_rows(ledger, before, left, joining=False) + _note_rows(ledger, after, joined, joining=True)
        upserts, deletes = _compare(ledger, num_rows, all_new=all_new)
        for rows in _chosen_rows(after, joined, upserts, after.arrow_schema.names):
            feed.write(_as_changes(rows, "upsert", schema))
        for rows in _chosen_rows(before, left, deletes, ["id", "source"]):
            feed.write(_as_changes(rows, "delete", schema))
    return FeedSummary(
        table_uri=after.uri,
        from_version=before.version,
        to_version=after.version,
        num_upserts=len(upserts),
        num_deletes=len(deletes),
        num_shards_read=len(left) + len(joined),
        encoder_changed=before.encoder.fingerprint != after.encoder.fingerprint,
        output=output,
    )


def _open_feed(output: str | None, schema: pa.Schema) -> FeedWriter:
    if output is None:
        return CountOnly()
    if output.endswith(".parquet"):
        return ParquetFeed(output, schema)
    if output.endswith((".jsonl", ".ndjson")):
        return JsonLinesFeed(output)
    raise SettingsError(f"{output}: changes are written as .parquet or .jsonl: name the file so")


def _difference(table: Table, other: Table) -> list[TableShard]:
    names = {shard.name for shard in other.shards()}
    return [shard for shard in table.shards() if shard.name not in names]


def _check_there(table: Table, shards: Sequence[TableShard]) -> None:
    files = list_names(table.uri) if shards else {}
    gone = [shard.name for shard in shards if shard.name not in files]
    if gone:
        raise TableError(
            f"{table.uri}: {len(gone)} of the {len(shards)} shards that tell the changes are gone (vacuumed; first: "
            f"{gone[0]}): load the index anew from the newest version, and follow it from there"
        )


def _note_rows(ledger: IO[bytes], table: Table, shards: Sequence[TableShard], *, joining: bool) -> int:
    """Write a record of every row of `shards`; give their number."""
    names, place = table.arrow_schema.names, 0
    for batch in _batches(table, shards, names):
        records = np.empty(batch.num_rows, dtype=RECORD)
        frame = _comparable(batch, table.encoder.dim)
        records["key"] = row_keys(frame, "source", "id")
        records["content"] = row_keys(frame, *(name for name in names if name not in {"source", "id"}))
        places = np.arange(place, place + batch.num_rows)
        records["row"] = places if joining else -1 - places
        ledger.write(records.tobytes())
        place += batch.num_rows
    return place


def _comparable(batch: pa.RecordBatch, dim: int) -> pl.DataFrame:
    """Give rows with the vector as its bytes and nested kept columns as JSON, which have hashes."""
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
        with open_input(uri, in_order=False) as file, translate_errors(uri), pq.ParquetFile(file) as parquet:
            yield from parquet.iter_batches(batch_size=ROWS_PER_READ, columns=columns)


def _compare(ledger: IO[bytes], num_rows: int, *, all_new: bool) -> tuple[npt.NDArray[np.int64], npt.NDArray[np.int64]]:
    """Give the places, ascending, of joining rows to upsert and of leaving rows to delete."""
    num_slices = max(1, -(-num_rows // ROWS_PER_SLICE))
    upserts, deletes = [np.empty(0, np.int64)], [np.empty(0, np.int64)]
    for number in range(num_slices):
        records = _slice(ledger, number, num_slices)
        order = np.lexsort((records["row"], records["key"][:, 1], records["key"][:, 0]))
        records = records[order]  # of one key the leaving row comes first
        same_key = (records["key"][1:] == records["key"][:-1]).all(axis=1)
        pair = same_key & (records["row"][:-1] < 0) & (records["row"][1:] >= 0)
        same = pair & (records["content"][1:] == records["content"][:-1]).all(axis=1)
        replaced = np.append(pair, False)
        unchanged = np.zeros(len(records), np.bool_)
        if not all_new:
            unchanged[1:] = same
        joining = records["row"] >= 0
        upserts.append(records["row"][joining & ~unchanged])
        deletes.append(-1 - records["row"][~joining & ~replaced[: len(records)]])
    return np.sort(np.concatenate(upserts)), np.sort(np.concatenate(deletes))


def _slice(ledger: IO[bytes], number: int, num_slices: int) -> npt.NDArray[np.void]:
    ledger.seek(0)
    parts = [np.empty(0, dtype=RECORD)]
    while chunk := ledger.read(RECORDS_PER_READ * RECORD.itemsize):
        records = np.frombuffer(chunk, dtype=RECORD)
        parts.append(records[records["key"][:, 0] % num_slices == number])
    return np.concatenate(parts)


def _chosen_rows(
    table: Table, shards: Sequence[TableShard], places: npt.NDArray[np.int64], columns: list[str]
) -> Iterator[pa.Table]:
    """Read `shards` again and give the rows at `places`."""
    if not len(places):
        return
    first = 0
    for batch in _batches(table, shards, columns):
        low, high = np.searchsorted(places, [first, first + batch.num_rows])
        if low < high:
            yield pa.Table.from_batches([batch]).take(pa.array(places[low:high] - first))
        first += batch.num_rows


def _as_changes(rows: pa.Table, change: Literal["upsert", "delete"], schema: pa.Schema) -> pa.Table:
    """Give rows the feed's columns; those a delete does not have are null."""
    columns = {
        field.name: rows[field.name].cast(field.type)
        if field.name in rows.schema.names
        else pa.nulls(rows.num_rows, field.type)
        for field in schema
    }
    columns["change"] = pa.array([change] * rows.num_rows, pa.string())
    return pa.table(columns, schema=schema)

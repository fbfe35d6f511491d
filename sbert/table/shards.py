"""Parquet shards: the table's schema, and a writer that rolls from one shard to the next.

A shard is written through an fsspec stream and becomes visible whole or not at all. Its footer carries, for each row group,
the smallest and largest ``id``, ``source``, ``num_tokens``, ``truncated`` and kept number, date or time; readers prune by
them.
"""

import contextlib
import json
import uuid
from typing import Any, Self

import numpy as np
import numpy.typing as npt
import polars as pl
import pyarrow as pa
import pyarrow.parquet as pq
from pydantic import BaseModel, ConfigDict, Field

from sbert.errors import SettingsError
from sbert.storage.errors import translate_errors
from sbert.storage.files import OutputFile, delete, join
from sbert.table.shard_file import ShardOutput
from sbert.vectors.precision import Float32, Precision, StoredVectors, restore, stored_dtype

__all__ = [
    "RESERVED_COLUMNS",
    "ShardRecord",
    "ShardSettings",
    "ShardWriter",
    "columns_with_true_bounds",
    "embedding_column",
    "embedding_matrix",
    "fingerprint_of_shard",
    "stored_vectors",
    "table_schema",
    "vector_columns",
    "vector_matrix",
    "vector_names",
]

RESERVED_COLUMNS = ("id", "source", "text_hash", "embedding", "scale", "num_tokens", "truncated")
VALUES_PATH = "embedding.list.element"


class ShardSettings(BaseModel):
    """Sizes of the table's Parquet files."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    shard_rows: int = Field(
        default=131_072, ge=1, le=50_000_000, description="Rows after which a new shard is begun (rows)."
    )
    row_group_rows: int = Field(
        default=8_192,
        ge=1,
        le=1_000_000,
        description="Rows of one Parquet row group, the unit readers prune (rows).",
    )
    compression_level: int = Field(
        default=1,
        ge=1,
        le=19,
        description="Level of zstd compression (1 to 19); vectors get no smaller above 1.",
    )


class ShardRecord(BaseModel):
    """One written shard, with its record for the log."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    name: str
    num_rows: int
    num_bytes: int
    min_values: dict[str, str] = Field(default={}, description="Only in records of earlier versions; not used.")
    max_values: dict[str, str] = Field(default={}, description="Only in records of earlier versions; not used.")

    def stats_json(self) -> str:
        """Return the shard's statistics in the form of the Delta protocol: the number of rows, and nothing else.

        With bounds for some columns, readers that go through ``to_pyarrow_dataset`` (DuckDB, pandas, pyarrow) take every
        other column for null and find no rows. Bounds for all columns are impossible: nested columns and columns of
        nulls have none. Readers prune by the bounds in the Parquet footers instead.
        """
        return json.dumps({"numRecords": self.num_rows})


def table_schema(kept_schema: dict[str, pl.DataType], precision: Precision = Precision.FLOAT32) -> pa.Schema:
    """Return the Arrow schema of a table that keeps the source columns of `kept_schema`; int8 vectors have a ``scale``.

    Raises:
        SettingsError: when a kept column would take the name of one of the table's own columns.
    """
    clash = [name for name in kept_schema if name in RESERVED_COLUMNS]
    if clash:
        raise SettingsError(
            f"keep_columns names {clash}, which the table uses for itself ({', '.join(RESERVED_COLUMNS)}): "
            "leave them out or rename them in the source"
        )
    quantized = precision is Precision.INT8
    kept = pl.DataFrame(schema=kept_schema).to_arrow(compat_level=pl.CompatLevel.oldest()).schema
    return pa.schema(
        [
            pa.field("id", pa.string()),
            pa.field("source", pa.string()),
            pa.field("text_hash", pa.binary()),
            pa.field("embedding", pa.list_(pa.int8() if quantized else pa.float32())),
            *([pa.field("scale", pa.float32())] if quantized else []),
            pa.field("num_tokens", pa.int32()),
            pa.field("truncated", pa.bool_()),
            *(pa.field(field.name, _portable(field.type)) for field in kept),
        ]
    )


def _portable(kind: pa.DataType) -> pa.DataType:
    """Replace Arrow's 64-bit-offset and view types, which the Delta log does not have, by their plain forms."""
    if pa.types.is_large_string(kind) or pa.types.is_string_view(kind):
        return pa.string()
    if pa.types.is_large_binary(kind) or pa.types.is_binary_view(kind):
        return pa.binary()
    if pa.types.is_large_list(kind):
        return pa.list_(_portable(kind.value_type))
    if pa.types.is_timestamp(kind):
        return pa.timestamp("us", tz="UTC" if kind.tz else None)
    return kind


def embedding_column(embeddings_ND: npt.NDArray[np.float32] | npt.NDArray[np.int8]) -> pa.ListArray:
    """Return a matrix of shape (rows, dim) as a ``list`` column of its type, without copying the values."""
    num_rows, dim = embeddings_ND.shape
    offsets = pa.array(
        np.arange(0, (num_rows + 1) * dim, dim, dtype=np.int32) if dim else np.zeros(num_rows + 1, np.int32)
    )
    return pa.ListArray.from_arrays(offsets, pa.array(np.ascontiguousarray(embeddings_ND).reshape(-1)))


def embedding_matrix(column: pa.Array | pa.ChunkedArray, dim: int) -> Float32:
    """Return a ``list`` column as a matrix of shape (rows, dim): float32, or the int8 values of quantized vectors.

    Raises:
        ValueError: when a row has another number of values than `dim`.
    """
    chunks = column.chunks if isinstance(column, pa.ChunkedArray) else [column]
    parts: list[Any] = []
    for chunk in chunks:
        flat = chunk.flatten()
        # `to_numpy` imports pandas where it is installed, which takes a fifth of a second.
        values = flat.to_numpy(zero_copy_only=False) if flat.null_count else np.from_dlpack(flat)
        if len(values) != len(chunk) * dim:
            raise ValueError(f"{len(chunk)} embeddings hold {len(values)} values, expected {len(chunk)} x {dim}")
        parts.append(values.reshape(len(chunk), dim))
    if not parts:
        return np.zeros((0, dim), dtype=np.float32)
    return parts[0] if len(parts) == 1 else np.concatenate(parts)


def vector_columns(stored: StoredVectors) -> dict[str, pa.Array]:
    """Return stored vectors as columns of a table: ``embedding``, and ``scale`` when they are quantized."""
    if stored.dtype.names is None:
        return {"embedding": embedding_column(stored)}
    return {
        "embedding": embedding_column(stored["values"]),
        "scale": pa.array(np.ascontiguousarray(stored["scale"])),
    }


def vector_names(precision: Precision) -> list[str]:
    """Return the columns that hold vectors."""
    return ["embedding", "scale"] if precision is Precision.INT8 else ["embedding"]


def stored_vectors(rows: pa.Table | pa.RecordBatch, dim: int, precision: Precision) -> StoredVectors:
    """Return the vectors of rows as they are stored.

    Raises:
        ValueError: when a row has another number of values than `dim`.
    """
    values_ND = embedding_matrix(rows.column("embedding"), dim)
    if precision is Precision.FLOAT32:
        return values_ND
    stored = np.empty(len(values_ND), dtype=stored_dtype(dim, precision))
    stored["values"], stored["scale"] = values_ND, rows.column("scale").to_numpy(zero_copy_only=False)
    return stored


def vector_matrix(rows: pa.Table | pa.RecordBatch, dim: int, precision: Precision) -> Float32:
    """Return the vectors of rows as a float32 matrix of shape (rows, dim), whatever their stored type.

    Raises:
        ValueError: when a row has another number of values than `dim`.
    """
    return restore(stored_vectors(rows, dim, precision))


def fingerprint_of_shard(name: str) -> str:
    """Return the fingerprint of the split that a shard belongs to, from the shard's file name."""
    return name.rsplit("/", 1)[-1].split("-")[1]


def _columns_with_bounds(schema: pa.Schema) -> list[str]:
    """Return the kept columns whose bounds are in the footer: whole numbers, decimals, dates and times.

    Long texts would bloat it; floats have none, see `columns_with_true_bounds`.
    """
    kinds = (pa.types.is_integer, pa.types.is_decimal, pa.types.is_temporal)
    kept = (field for field in schema if field.name not in RESERVED_COLUMNS)
    return [field.name for field in kept if any(is_kind(field.type) for is_kind in kinds)]


def columns_with_true_bounds(schema: pa.Schema) -> list[str]:
    """Return the columns of a Parquet file that may have bounds in the footer: all but floats and nested ones.

    Bounds of floats leave NaN out, and readers that prune by them lose its rows (DuckDB: ``isnan(x)``, ``x > 5``; pyarrow:
    ``~(x <= 5)``).
    """
    return [field.name for field in schema if not (pa.types.is_floating(field.type) or pa.types.is_nested(field.type))]


def discard_parquet(writer: pq.ParquetWriter | None, output: OutputFile | ShardOutput | None) -> None:
    """Abandon a Parquet file that is being written; nothing of it stays."""
    if writer is not None:
        with contextlib.suppress(Exception):
            writer.close()
        writer.is_open = False  # else its finalizer writes to the closed file
    if output is not None:
        output.discard()


class ShardWriter:
    """Write the rows of one split as shards ``part-<fingerprint>-<token>-<number>.parquet`` in a folder.

    The token differs with every build: two runs that build one split at once never write to the same file, and a reader
    of a committed shard never sees it change.

    Leaving the ``with`` block by an error removes what was written.
    """

    def __init__(
        self,
        folder_uri: str,
        fingerprint: str,
        schema: pa.Schema,
        settings: ShardSettings,
        metadata: dict[str, str] | None = None,
    ) -> None:
        """Prepare to write; nothing is created before the first row, or before `close` when there are no rows."""
        self._folder_uri = folder_uri
        self._stem = f"part-{fingerprint}-{uuid.uuid4().hex[:8]}"
        self._schema = schema.with_metadata({**(schema.metadata or {}), **(metadata or {})})
        self._settings = settings
        self._records: list[ShardRecord] = []
        self._pending: list[pa.Table] = []
        self._num_pending = 0
        self._writer: pq.ParquetWriter | None = None
        self._output: ShardOutput | None = None
        self._num_rows = 0

    def __enter__(self) -> Self:
        return self

    def __exit__(self, kind: type[BaseException] | None, *_: object) -> None:
        if kind is not None:
            self.discard()

    @property
    def _uri(self) -> str:
        return join(self._folder_uri, f"{self._stem}-{len(self._records):04d}.parquet")

    def write(self, rows: pa.Table) -> None:
        """Append rows; they reach the file a row group at a time."""
        rows = rows.select(self._schema.names).cast(self._schema)
        while rows.num_rows:
            part = rows.slice(0, min(self._settings.shard_rows - self._num_rows - self._num_pending, rows.num_rows))
            rows = rows.slice(part.num_rows)
            self._pending.append(part)
            self._num_pending += part.num_rows
            full = self._num_rows + self._num_pending >= self._settings.shard_rows
            if full or self._num_pending >= self._settings.row_group_rows:
                self._flush(everything=full)
            if full:
                self._finish_shard()

    def close(self) -> list[ShardRecord]:
        """Finish the last shard and give the records of all; a split without rows gets one empty shard.

        The empty shard keeps the split's fingerprint in the log, so that the next run knows it is done.
        """
        if self._num_pending or self._writer is not None or not self._records:
            self._flush(everything=True)
            self._finish_shard()
        return self._records

    def discard(self) -> None:
        """Remove everything that was written."""
        discard_parquet(self._writer, self._output)
        self._output = self._writer = None
        delete([join(self._folder_uri, record.name) for record in self._records])
        self._records = []

    def _open(self) -> pq.ParquetWriter:
        if self._writer is None:
            self._output = ShardOutput(self._uri)
            columns = [name for name in self._schema.names if name not in {"embedding", "text_hash", "id", "scale"}]
            quantized = "scale" in self._schema.names
            self._writer = pq.ParquetWriter(
                self._output,
                self._schema,
                compression="zstd",
                compression_level=self._settings.compression_level,
                # Parquet has no int8, only 32 bits: a dictionary of 255 numbers makes one byte of each again.
                use_dictionary=[*columns, VALUES_PATH] if quantized else columns,
                use_byte_stream_split=["scale" if quantized else VALUES_PATH],
                write_statistics=["id", "source", "num_tokens", "truncated", *_columns_with_bounds(self._schema)],
                write_page_checksum=True,
                store_schema=True,
            )
        return self._writer

    def _flush(self, *, everything: bool) -> None:
        with translate_errors(self._uri):
            writer = self._open()
            if not self._num_pending:
                return
            rows = pa.concat_tables(self._pending)
            size = self._settings.row_group_rows
            num_now = rows.num_rows if everything else rows.num_rows - rows.num_rows % size
            writer.write_table(rows.slice(0, num_now), row_group_size=size)
        self._num_rows += num_now
        rest = rows.slice(num_now)
        self._pending = [rest] if rest.num_rows else []
        self._num_pending = rest.num_rows

    def _finish_shard(self) -> None:
        uri = self._uri
        with translate_errors(uri):
            assert self._writer is not None
            assert self._output is not None
            self._output.begin_footer(self._writer)
            self._writer.close()
            num_bytes = self._output.finish()
        self._records.append(ShardRecord(name=uri.rsplit("/", 1)[-1], num_rows=self._num_rows, num_bytes=num_bytes))
        self._writer = self._output = None
        self._num_rows = 0

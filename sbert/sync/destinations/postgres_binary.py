"""Rows of Arrow as fields of PostgreSQL's binary COPY format, column by column.

PostgreSQL reads and compares exactly these bytes: a row's fields are what ``COPY … (FORMAT binary)`` takes, and what the
server's ``*_send`` functions return for the stored row. So one hash of a row's fields, made on both sides, proves that
the store holds the row unchanged.

Arrow joins the bytes of whole columns, so there is no Python loop over rows.

Format: https://www.postgresql.org/docs/current/sql-copy.html, section "Binary Format".
"""

import json
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from decimal import Decimal
from typing import Any

import numpy as np
import numpy.typing as npt
import polars as pl
import polars_hash as plh
import pyarrow as pa
import pyarrow.compute as pc
from psycopg.types.numeric import DecimalBinaryDumper

from sbert.table.record_file import Keys

__all__ = ["HEADER", "TRAILER", "ColumnType", "column_type", "copy_content", "row_hashes"]

HEADER = b"PGCOPY\n\xff\r\n\x00" + bytes(8)
"""Signature, flags and length of the header's extension."""
TRAILER = b"\xff\xff"
EMPTY = pa.scalar(b"", pa.large_binary())
"""Stands between joined values."""
EPOCH_DAYS = 10_957
"""Days from 1970-01-01 to 2000-01-01, PostgreSQL's epoch."""
EPOCH_MICROSECONDS = EPOCH_DAYS * 86_400_000_000


@dataclass(frozen=True)
class ColumnType:
    """A column's type in PostgreSQL."""

    name: str
    """Name of the type in SQL."""
    send: str
    """The server function that returns a value's bytes."""
    to_bytes: Callable[[pa.Array], pa.LargeBinaryArray]
    """Returns the bytes of each value, null where the value is null."""


def column_type(kind: pa.DataType, *, vector_dim: int | None = None) -> ColumnType:  # noqa: C901, PLR0911, PLR0912
    """Return the PostgreSQL type for an Arrow type; `vector_dim` says that a list of floats is a pgvector column."""
    if vector_dim is not None:
        return ColumnType(f"vector({vector_dim})", "vector_send", lambda column: _vectors(column, vector_dim))
    if pa.types.is_boolean(kind):
        return ColumnType("boolean", "boolsend", lambda column: _numbers(column.cast(pa.uint8()), "u1"))
    if pa.types.is_int8(kind) or pa.types.is_int16(kind) or pa.types.is_uint8(kind):
        return ColumnType("smallint", "int2send", lambda column: _numbers(column.cast(pa.int16()), ">i2"))
    if pa.types.is_int32(kind) or pa.types.is_uint16(kind):
        return ColumnType("integer", "int4send", lambda column: _numbers(column.cast(pa.int32()), ">i4"))
    if pa.types.is_int64(kind) or pa.types.is_uint32(kind):
        return ColumnType("bigint", "int8send", lambda column: _numbers(column.cast(pa.int64()), ">i8"))
    if pa.types.is_float32(kind) or pa.types.is_float16(kind):
        return ColumnType("real", "float4send", lambda column: _numbers(column.cast(pa.float32()), ">f4"))
    if pa.types.is_float64(kind):
        return ColumnType("double precision", "float8send", lambda column: _numbers(column, ">f8"))
    if pa.types.is_date(kind):
        return ColumnType("date", "date_send", _dates)
    if pa.types.is_timestamp(kind):
        if kind.tz is None:
            return ColumnType("timestamp", "timestamp_send", _timestamps)
        return ColumnType("timestamptz", "timestamptz_send", _timestamps)
    if pa.types.is_decimal(kind) or pa.types.is_uint64(kind):
        return ColumnType("numeric", "numeric_send", _decimals)
    if pa.types.is_binary(kind) or pa.types.is_large_binary(kind) or pa.types.is_fixed_size_binary(kind):
        return ColumnType("bytea", "byteasend", lambda column: column.cast(pa.large_binary()))
    if pa.types.is_string(kind) or pa.types.is_large_string(kind):
        return ColumnType("text", "textsend", lambda column: column.cast(pa.large_string()).cast(pa.large_binary()))
    return ColumnType("json", "json_send", _json_texts)


def copy_content(rows: pa.Table, types: Sequence[tuple[str, ColumnType]]) -> memoryview:
    """Return rows for COPY, end to end: each has its number of fields, then each field's length and bytes."""
    num_fields = _repeated(len(types).to_bytes(2, "big"), len(rows))
    fields = [_with_length(kind.to_bytes(_array(rows, name))) for name, kind in types]
    joined = pc.binary_join_element_wise(num_fields, *(part for field in fields for part in field), EMPTY)
    return _content(joined)


def row_hashes(rows: pa.Table, vector: tuple[str, ColumnType], types: Sequence[tuple[str, ColumnType]]) -> Keys:
    """Return an MD5 of each row, shape (rows, 2): of the vector's own MD5 and of the fields of `types`.

    The server computes the same by `hash_expression`. The vector is hashed apart so that its bytes are copied once.
    """
    vector_md5 = _md5(vector[1].to_bytes(_array(rows, vector[0])))
    fields = [_with_length(kind.to_bytes(_array(rows, name))) for name, kind in types]
    joined = pc.binary_join_element_wise(vector_md5, *(part for field in fields for part in field), EMPTY)
    digests = _md5(joined).cast(pa.binary(16)) if len(rows) else pa.array([], pa.binary(16))
    return np.frombuffer(digests.buffers()[1], np.uint64, 2 * len(rows)).reshape(len(rows), 2)


def _array(rows: pa.Table, name: str) -> pa.Array:
    column = rows[name].combine_chunks()
    return pa.concat_arrays(column.chunks) if isinstance(column, pa.ChunkedArray) else column


def _with_length(values: pa.LargeBinaryArray) -> tuple[pa.LargeBinaryArray, pa.LargeBinaryArray]:
    """Return the lengths as four bytes each (-1 for null), and the values with null as no bytes."""
    lengths = np.asarray(pc.fill_null(pc.binary_length(values), -1)).astype(">i4")
    return _fixed(lengths.view(np.uint8).reshape(len(lengths), 4)), pc.fill_null(values, b"")


def _md5(values: pa.LargeBinaryArray) -> pa.LargeBinaryArray:
    hashed = pl.Series("value", values).to_frame().select(plh.col("value").nchash.md5().str.decode("hex"))
    return hashed["value"].to_arrow().cast(pa.large_binary())


def _content(joined: pa.LargeBinaryArray) -> memoryview:
    offsets = np.frombuffer(joined.buffers()[1], np.int64)
    return memoryview(joined.buffers()[2])[offsets[0] : offsets[len(joined)]]


def _repeated(value: bytes, count: int) -> pa.LargeBinaryArray:
    return _fixed(np.frombuffer(value * count, np.uint8).reshape(count, len(value)))


def _fixed(values_NW: npt.NDArray[np.uint8], valid_N: npt.NDArray[np.bool_] | None = None) -> pa.LargeBinaryArray:
    """Return an array whose values all have the same number of bytes."""
    num_rows, width = values_NW.shape
    offsets = np.arange(num_rows + 1, dtype=np.int64) * width
    validity = None if valid_N is None else pa.array(valid_N).buffers()[1]
    buffers = [validity, pa.py_buffer(offsets), pa.py_buffer(np.ascontiguousarray(values_NW))]
    return pa.LargeBinaryArray.from_buffers(pa.large_binary(), num_rows, buffers)


def _valid(column: pa.Array) -> npt.NDArray[np.bool_] | None:
    return np.asarray(column.is_valid()) if column.null_count else None


def _numbers(column: pa.Array, dtype: str) -> pa.LargeBinaryArray:
    values = np.asarray(pc.fill_null(column, 0)).astype(np.dtype(dtype))
    return _fixed(values.view(np.uint8).reshape(len(values), values.itemsize), _valid(column))


def _vectors(column: pa.Array, dim: int) -> pa.LargeBinaryArray:
    values_ND = np.asarray(column.flatten(), np.float32).reshape(len(column), dim)
    packed = np.empty((len(column), 4 + 4 * dim), np.uint8)
    packed[:, :4] = np.frombuffer(dim.to_bytes(2, "big") + bytes(2), np.uint8)  # dim, and an unused half-word
    packed[:, 4:].reshape(len(column), dim, 4)[:] = values_ND.astype(">f4").view(np.uint8).reshape(len(column), dim, 4)
    return _fixed(packed)


def _dates(column: pa.Array) -> pa.LargeBinaryArray:
    days = column.cast(pa.date32()).cast(pa.int32())
    return _numbers(pc.subtract(days, EPOCH_DAYS), ">i4")


def _timestamps(column: pa.Array) -> pa.LargeBinaryArray:
    whole = column.cast(pa.timestamp("us", column.type.tz), safe=False).cast(pa.int64())
    return _numbers(pc.subtract(whole, EPOCH_MICROSECONDS), ">i8")


def _decimals(column: pa.Array) -> pa.LargeBinaryArray:
    dumper = DecimalBinaryDumper(Decimal)
    values = [None if value is None else bytes(dumper.dump(Decimal(value)) or b"") for value in column.to_pylist()]
    return pa.array(values, pa.large_binary())


def _json_texts(column: pa.Array) -> pa.LargeBinaryArray:
    def text(value: Any) -> bytes | None:
        if value is None:
            return None
        return json.dumps(value, ensure_ascii=False, default=str, allow_nan=False).encode()

    return pa.array([text(value) for value in column.to_pylist()], pa.large_binary())

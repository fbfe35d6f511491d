"""Encode rows of Arrow as fields of PostgreSQL's binary COPY format, column by column.

PostgreSQL reads exactly these bytes: a row's fields are what ``COPY … (FORMAT binary)`` takes, and what the server's
``*_send`` functions return for the stored row. So one hash of these bytes, made on both sides, proves that the store holds
the row unchanged (`postgres_hash.py`).

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
import pyarrow as pa
import pyarrow.compute as pc
from psycopg.adapt import Dumper
from psycopg.pq import Format
from psycopg.types.numeric import DecimalBinaryDumper

__all__ = [
    "HASH",
    "HEADER",
    "TRAILER",
    "ColumnType",
    "TextArray",
    "TextArrayDumper",
    "column_type",
    "copy_content",
    "field_bytes",
    "vector_words",
]

HEADER = b"PGCOPY\n\xff\r\n\x00" + bytes(8)
"""Signature, flags and length of the header's extension."""
TRAILER = b"\xff\xff"
HASH = "hash"
EMPTY = pa.scalar(b"", pa.large_binary())
"""Stands between joined values."""
TEXT_OID, TEXT_ARRAY_OID = 25, 1009
"""Numbers of PostgreSQL's types ``text`` and ``text[]``."""
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
    dim: int = 0
    """Values of a vector; 0 for every other type."""
    reading: str = ""
    """SQL of a number that the server cannot tell without reading the whole value, for types that it may store apart. `HASH`
    stands for the hash of the bytes, whose function depends on the server."""


def column_type(kind: pa.DataType, *, vector_dim: int | None = None) -> ColumnType:  # noqa: C901, PLR0911, PLR0912
    """Return the PostgreSQL type for an Arrow type; `vector_dim` says that a list of floats is a pgvector column."""
    if vector_dim is not None:
        return ColumnType(
            f"vector({vector_dim})",
            "vector_send",
            lambda column: _vectors(column, vector_dim),
            vector_dim,
            "vector_dims({})",
        )
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
        return ColumnType("numeric", "numeric_send", _decimals, reading="hash_numeric({})")
    if pa.types.is_binary(kind) or pa.types.is_large_binary(kind) or pa.types.is_fixed_size_binary(kind):
        return ColumnType("bytea", "byteasend", lambda column: column.cast(pa.large_binary()), reading=HASH)
    if pa.types.is_string(kind) or pa.types.is_large_string(kind):
        return ColumnType(
            "text",
            "textsend",
            lambda column: column.cast(pa.large_string()).cast(pa.large_binary()),
            reading="length({})",
        )
    return ColumnType("json", "json_send", _json_texts, reading="length({}::text)")


def copy_content(rows: pa.Table, types: Sequence[tuple[str, ColumnType]]) -> memoryview:
    """Return rows for COPY, end to end: each has its number of fields, then each field's length and bytes.

    The vector comes first. With the number of fields and its own length it makes one run of bytes of the same size in every
    row, so its values are copied twice only.

    Args:
        rows: the rows.
        types: the columns in the order of the COPY, the vector first.
    """
    (first, vector), *others = types
    fields = [_with_length(kind.to_bytes(_array(rows, name))) for name, kind in others]
    head = len(types).to_bytes(2, "big") + (4 + 4 * vector.dim).to_bytes(4, "big")
    start = _vectors(_array(rows, first), vector.dim, head)
    return _content(pc.binary_join_element_wise(start, *(part for field in fields for part in field), EMPTY))


@dataclass(frozen=True)
class TextArray:
    """A column of texts as one parameter of the type ``text[]``, without a Python object for each text."""

    texts: pa.ChunkedArray


class TextArrayDumper(Dumper):
    """Writes a `TextArray` in PostgreSQL's binary format of arrays."""

    oid = TEXT_ARRAY_OID
    format = Format.BINARY

    def dump(self, obj: TextArray) -> bytes:
        """Return dimensions, whether a text is null, the type, length and first index, then each length and text."""
        count, num_nulls = len(obj.texts), obj.texts.null_count
        head = [1, int(num_nulls > 0), TEXT_OID, count, 1] if count else [0, 0, TEXT_OID]
        column = pa.concat_arrays(obj.texts.chunks) if count else pa.array([], pa.string())
        texts = column.cast(pa.large_string()).cast(pa.large_binary())
        joined = pc.binary_join_element_wise(*_with_length(texts), EMPTY)
        return np.array(head, ">i4").tobytes() + bytes(_content(joined))


def vector_words(rows: pa.Table, name: str, dim: int) -> npt.NDArray[np.uint32]:
    """Return the bytes that the server sends for vectors, as little-endian words of shape (1 + dim, rows)."""
    values_ND = np.asarray(_array(rows, name).flatten(), np.float32).reshape(len(rows), dim)
    words_WN = np.empty((1 + dim, len(rows)), np.uint32)
    words_WN[0] = np.frombuffer(_vector_head(dim), np.dtype("<u4"))[0]
    words_WN[1:] = values_ND.view(np.uint32).T
    words_WN[1:].byteswap(inplace=True)
    return words_WN


def field_bytes(rows: pa.Table, name: str, kind: ColumnType) -> pa.LargeBinaryArray:
    """Return the bytes that the server sends for each value of a column, null where the value is null."""
    return kind.to_bytes(_array(rows, name))


def _array(rows: pa.Table, name: str) -> pa.Array:
    column = rows[name].combine_chunks()
    return pa.concat_arrays(column.chunks) if isinstance(column, pa.ChunkedArray) else column


def _with_length(values: pa.LargeBinaryArray) -> tuple[pa.LargeBinaryArray, pa.LargeBinaryArray]:
    """Return the lengths as four bytes each (-1 for null), and the values with null as no bytes."""
    lengths = np.asarray(pc.fill_null(pc.binary_length(values), -1)).astype(">i4")
    return _fixed(lengths.view(np.uint8).reshape(len(lengths), 4)), pc.fill_null(
        values, b""
    ) if values.null_count else values


def _content(joined: pa.LargeBinaryArray) -> memoryview:
    offsets = np.frombuffer(joined.buffers()[1], np.int64)
    return memoryview(joined.buffers()[2])[offsets[0] : offsets[len(joined)]]


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


def _vector_head(dim: int) -> bytes:
    """Return the bytes before a vector's values: dim, and an unused half-word."""
    return dim.to_bytes(2, "big") + bytes(2)


def _vectors(column: pa.Array, dim: int, start: bytes = b"") -> pa.LargeBinaryArray:
    """Return `start` and the bytes of each vector."""
    values_ND = np.asarray(column.flatten(), np.float32).reshape(len(column), dim)
    head = start + _vector_head(dim)
    packed = np.empty((len(column), len(head) + 4 * dim), np.uint8)
    packed[:, : len(head)] = np.frombuffer(head, np.uint8)
    packed[:, len(head) :].view(">u4")[:] = values_ND.view(np.uint32)
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

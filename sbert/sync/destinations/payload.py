"""Rows as JSON-like payloads, for stores that take Python values instead of Arrow."""

import datetime as dt
import hashlib
import json
import math
from collections.abc import Callable, Iterable, Iterator, Sequence
from decimal import Decimal
from typing import Any, TypeVar

import numpy as np
import numpy.typing as npt
import pyarrow as pa

from sbert.sync.destinations.base import Collection
from sbert.table.record_file import Keys

__all__ = [
    "handles_of",
    "in_parts",
    "key_digest",
    "payload_content",
    "payloads",
    "requests_of",
    "stored_keys",
    "vectors_of",
]

Value = TypeVar("Value")


def requests_of(blocks: Iterable[pa.Table], max_rows: int) -> Iterator[pa.Table]:
    """Yield the rows of blocks in tables of up to `max_rows`, one for each request."""
    for block in blocks:
        for first in range(0, len(block), max_rows):
            yield block.slice(first, max_rows)


def in_parts(values: Sequence[Value], size: int) -> Iterator[Sequence[Value]]:
    """Yield values in parts of up to `size`."""
    for first in range(0, len(values), size):
        yield values[first : first + size]


def stored_keys(sources: Sequence[str], ids: Sequence[str], handles: Sequence[str]) -> pa.Table:
    """Return keys that were read from a store, with the name of each row there as ``handle``."""
    return pa.table(
        {
            "source": pa.array(sources, pa.string()),
            "id": pa.array(ids, pa.string()),
            "handle": pa.array(handles, pa.string()),
        }
    )


def handles_of(keys: pa.Table, name_of: Callable[[str, str], str]) -> list[str]:
    """Return the names of rows in a store: the names that were read, or else the names made of source and id."""
    if "handle" in keys.schema.names:
        handles: list[str] = keys["handle"].to_pylist()
        return handles
    pairs = zip(keys["source"].to_pylist(), keys["id"].to_pylist(), strict=True)
    return [name_of(source, row_id) for source, row_id in pairs]


def payloads(rows: pa.Table) -> list[dict[str, Any]]:
    """Return each row without its vector as a dictionary that JSON can hold.

    Bytes become hexadecimal text, dates and times ISO 8601 text, decimals text; NaN and infinities become null.
    """
    return [
        {name: json_value(value) for name, value in row.items()} for row in rows.drop_columns(["embedding"]).to_pylist()
    ]


def json_value(value: Any) -> Any:
    """Return a value as JSON holds it."""
    match value:
        case bytes():
            plain: Any = value.hex()
        case dt.datetime() | dt.date() | dt.time():
            plain = value.isoformat()
        case Decimal() | dt.timedelta():
            plain = str(value)
        case float() if not math.isfinite(value):
            plain = None
        case dict():
            plain = {str(name): json_value(item) for name, item in value.items()}
        case list() | tuple():
            plain = [json_value(item) for item in value]
        case _:
            plain = value
    return plain


def vectors_of(rows: pa.Table, collection: Collection) -> npt.NDArray[np.float32]:
    """Return the vectors of rows, shape (rows, dim)."""
    column = rows["embedding"].combine_chunks()
    column = column.chunk(0) if isinstance(column, pa.ChunkedArray) else column
    return np.asarray(column.flatten(), np.float32).reshape(len(rows), collection.dim)


def key_digest(source: str, row_id: str) -> bytes:
    """Return 16 bytes that name a row in every store and on every machine."""
    return hashlib.blake2b(json.dumps([source, row_id]).encode(), digest_size=16).digest()


def payload_content(items: list[dict[str, Any]], vectors_ND: npt.NDArray[np.float32]) -> Keys:
    """Return a 128-bit hash of each payload and vector, without the key, shape (rows, 2)."""
    digests = []
    for item, vector in zip(items, np.ascontiguousarray(vectors_ND), strict=True):
        values = {name: value for name, value in item.items() if name not in {"source", "id"} and value is not None}
        text = json.dumps(values, sort_keys=True, ensure_ascii=False).encode()
        digests.append(hashlib.blake2b(text + b"\0" + vector.tobytes(), digest_size=16).digest())
    return np.frombuffer(b"".join(digests), np.uint64).reshape(len(items), 2)

"""JSON Lines: a block is parsed by one call; only a block with a bad line is looked at line by line."""

import io
import json
import re
from collections.abc import Iterator
from typing import Any

import numpy as np
import polars as pl

from sbert.rows.rejects import RejectReason
from sbert.source.blocks import KEPT_PREFIX, RowBlock, convert_kept, finish_block, rejected_lines
from sbert.source.lines import LineChunk, read_lines
from sbert.source.settings import ReadSettings, SourceSettings
from sbert.source.splits import Span

__all__ = ["read_jsonl"]

Found = list[tuple[int, RejectReason, str, bytes]]


def read_jsonl(
    span: Span, source: SourceSettings, read: ReadSettings, kept_schema: dict[str, pl.DataType]
) -> Iterator[RowBlock]:
    """Give the rows of a span of JSON Lines; blank lines count as lines and are no rows."""
    for chunk in read_lines(span, read):
        parsed, found = None, Found()
        if not chunk.too_long_bytes:
            parsed = _parse_at_once(chunk, source, kept_schema)
        if parsed is None:
            parsed, found = _parse_by_line(chunk, source, kept_schema, read.max_row_bytes)
        parsed, misfits = convert_kept(parsed, kept_schema)
        if misfits:
            lines = chunk.data.split(b"\n")
            found += [(row, reason, detail, lines[row - chunk.first_row]) for row, reason, detail, _ in misfits]
        yield finish_block(span, source, parsed, kept_schema, rejected_lines(span, found))


def _columns(source: SourceSettings) -> dict[str, str]:
    """Give the JSON key of each of our columns."""
    return {
        "id": source.id_column or "id",
        "text": source.text_column,
        **{KEPT_PREFIX + name: name for name in source.keep_columns},
    }


def _parse_at_once(
    chunk: LineChunk, source: SourceSettings, kept_schema: dict[str, pl.DataType]
) -> pl.DataFrame | None:
    """Parse a chunk in one call; None when it holds anything that needs a closer look."""
    num_lines = chunk.data.count(b"\n") + (not chunk.data.endswith(b"\n"))
    keys = _columns(source)
    if any(re.search(_nested(keys[name]), chunk.data) for name in ("id", "text")):
        return None
    schema: dict[str, Any] = {keys["id"]: pl.String(), keys["text"]: pl.String()}
    for name, kind in kept_schema.items():
        wanted = _read_as(kind)
        if schema.setdefault(name, wanted) != wanted:
            return None
    try:
        parsed = pl.read_ndjson(io.BytesIO(chunk.data), schema=schema)
    except (pl.exceptions.PolarsError, ValueError):
        return None
    if parsed.height != num_lines:  # blank lines
        return None
    rows = pl.Series("row", range(chunk.first_row, chunk.first_row + num_lines), dtype=pl.Int64)
    return parsed.select(rows, *(pl.col(key).alias(name) for name, key in keys.items()))


def _read_as(kind: pl.DataType) -> pl.DataType:
    """Give the type a kept value is read as: Polars reads 3.5 as the Int64 3, so numbers are read as text first."""
    return pl.String() if kind.is_numeric() or kind == pl.Boolean() else kind


def _nested(key: str) -> bytes:
    """Give a pattern of a key whose value is an array or an object; inside a string its quotes are escaped."""
    return re.escape(json.dumps(key, ensure_ascii=False).encode()) + rb"\s*:\s*[\[{]"


def _parse_by_line(
    chunk: LineChunk, source: SourceSettings, kept_schema: dict[str, pl.DataType], max_row_bytes: int
) -> tuple[pl.DataFrame, Found]:
    """Parse a chunk that has a bad line, one line after the other."""
    keys = _columns(source)
    columns: dict[str, list[Any]] = {name: [] for name in ("row", *keys)}
    found: Found = []
    if chunk.too_long_bytes:
        detail = f"{chunk.too_long_bytes} bytes, at most {max_row_bytes} are read"
        found.append((chunk.first_row, RejectReason.TOO_LONG, detail, chunk.data))
    lines = [] if chunk.too_long_bytes else chunk.data.removesuffix(b"\n").split(b"\n")
    for row, line in enumerate(lines, start=chunk.first_row):
        if not line.strip():
            continue
        try:
            record = json.loads(line.decode("utf-8"))
            values = {name: record.get(key) for name, key in keys.items()} if isinstance(record, dict) else None
        except UnicodeDecodeError as error:
            found.append((row, RejectReason.INVALID_UTF8, f"byte {error.start} of the line is not UTF-8", line))
            continue
        except (ValueError, RecursionError) as error:
            found.append((row, RejectReason.BROKEN_ROW, f"not JSON: {error}", line))
            continue
        if values is None:
            kind = type(record).__name__
            found.append((row, RejectReason.BROKEN_ROW, f"the line is a JSON {kind}, expected an object", line))
            continue
        problem = _convert(values, kept_schema)
        if problem:
            found.append((row, RejectReason.BAD_VALUE, problem, line))
            continue
        columns["row"].append(row)
        for name, value in values.items():
            columns[name].append(value)
    schema = {"row": pl.Int64(), "id": pl.String(), "text": pl.String()}
    schema |= {KEPT_PREFIX + name: _read_as(kept_schema[name]) for name in source.keep_columns}
    return pl.DataFrame(columns, schema=schema), found


def _convert(values: dict[str, Any], kept_schema: dict[str, pl.DataType]) -> str:
    """Bring the values of one row to their columns' types, in place; give what is wrong, if anything."""
    for name in ("id", "text"):
        value = values[name]
        if isinstance(value, dict | list):
            return f"{name} is a JSON {'object' if isinstance(value, dict) else 'array'}, expected a string"
        if value is not None and not isinstance(value, str):
            values[name] = _scalar_text(value)
        if isinstance(values[name], str):
            values[name] = values[name].encode("utf-8", "replace").decode()  # lone surrogates are not Unicode text
    for name, kind in kept_schema.items():
        value = values[KEPT_PREFIX + name]
        if value is not None:
            try:
                values[KEPT_PREFIX + name] = _kept_value(value, kind)
            except (pl.exceptions.PolarsError, TypeError, ValueError):
                return f"column {name!r} holds {str(value)[:80]!r}, which is no {kind}"
    return ""


def _kept_value(value: Any, kind: pl.DataType) -> Any:
    """Give a value as its column is read; raises when it does not fit."""
    if kind == pl.String():
        return value if isinstance(value, str) else json.dumps(value, ensure_ascii=False)
    if isinstance(value, dict | list) and not kind.is_nested():
        raise TypeError("a nested value in a plain column")
    if _read_as(kind) != kind:
        return value if isinstance(value, str) else _scalar_text(value)
    return pl.Series([value], strict=False).cast(kind, strict=True)[0]


def _scalar_text(value: float | bool) -> str:
    """Write a number or truth value as Polars does when it reads JSON, so that an id never depends on its neighbours."""
    if isinstance(value, float) and np.isfinite(value):
        return str(np.format_float_positional(value, trim="-"))
    return json.dumps(value)

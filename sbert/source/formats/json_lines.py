"""JSON Lines: a block is parsed by one call; only a block with a bad line is looked at line by line."""

import io
from collections.abc import Iterator, Sequence
from dataclasses import replace

import numpy as np
import polars as pl

from sbert.rows.rejects import RejectReason
from sbert.source.encodings import UTF8, marked_encoding, mended_utf8, open_text
from sbert.source.formats.base import BadRecord, ColumnRequest, Hints, RecordBlock, SourceFormat
from sbert.source.formats.json_numbers import (
    are_plain,
    json_text,
    load_json,
    needs_line_by_line,
    quote_numbers,
    unquote_numbers,
    unused_mark,
)
from sbert.source.lines import LineChunk, count_lines, first_lines, read_lines
from sbert.source.nested import paths_by_column, type_with_fields
from sbert.source.objects import SourceObject, Span
from sbert.source.settings import ReadSettings
from sbert.source.types import json_type

__all__ = ["JsonLinesFormat", "parse_chunk", "types_of_lines"]


class JsonLinesFormat(SourceFormat):
    """One JSON object a line. Blank lines count as lines but are not rows. Objects are cut at multiples of a size."""

    name = "jsonl"
    endings = (".jsonl", ".ndjson")
    slices_are_bytes = True

    def columns(self, item: SourceObject, head_bytes: int, hints: Hints) -> dict[str, pl.DataType] | None:
        """Return the keys of the lines in the head of the object, with the types of their values."""
        with open_text(Span(object=item), hints.encoding, guess=False) as stream:
            head = stream.read_head(head_bytes)
        if head_bytes and len(head) >= head_bytes:
            head = head[: head.rfind(b"\n") + 1] or head  # the last line may be cut
        return types_of_lines(head, hints.nested) or None

    def count(self, item: SourceObject, read: ReadSettings, hints: Hints) -> int:
        """Return the number of lines that are not blank."""
        return count_lines(item, read, hints.encoding, guess=False, blank_lines=False)

    def describe(self, item: SourceObject, hints: Hints) -> str:
        """Return the encoding where it is not UTF-8."""
        encoding = marked_encoding(Span(object=item), hints.encoding)
        return "" if encoding == UTF8 else encoding

    def slices(self, item: SourceObject, split_bytes: int) -> list[tuple[int, int]]:
        """Return slices at fixed multiples of `split_bytes`."""
        starts = range(0, item.num_bytes, split_bytes)
        return [(start, min(start + split_bytes, item.num_bytes)) for start in starts]

    def first_rows(self, item: SourceObject, starts: Sequence[int]) -> dict[int, int]:
        """Return the number of the first line of slices; the object is read up to the last of them."""
        return first_lines(item, starts)

    def read(self, span: Span, request: ColumnRequest, read: ReadSettings) -> Iterator[RecordBlock]:
        """Stream the rows of a span; a key that a line lacks is null.

        An object in another encoding than UTF-8 cannot be cut at bytes: its first slice reads it whole, the others are
        empty.
        """
        encoding = request.hints.encoding
        if span.start is not None:
            encoding = marked_encoding(span, encoding)
            if encoding != UTF8:
                if span.start > 0:
                    return
                span = replace(span, start=None, stop=None)
        for chunk in read_lines(span, read, encoding):
            yield parse_chunk(chunk, request, read.max_row_bytes)


def types_of_lines(lines: bytes, nested: Sequence[str] = ()) -> dict[str, pl.DataType]:
    """Return the keys of the records of lines, with the types of their values; of `nested` fields as `Hints` says."""
    columns: dict[str, list[object]] = {}
    paths = paths_by_column(nested)
    for line in lines.split(b"\n"):
        try:
            record = load_json(line.decode("utf-8-sig", "replace"))
        except (ValueError, RecursionError):
            continue  # rejected when it is read
        if isinstance(record, dict):
            for name, value in record.items():
                columns.setdefault(name, []).append(value)
    return {
        name: type_with_fields(values, paths[name]) if name in paths else json_type(values)
        for name, values in columns.items()
    }


def parse_chunk(chunk: LineChunk, request: ColumnRequest, max_row_bytes: int) -> RecordBlock:
    """Return the records of lines of JSON."""
    block = None if chunk.too_long_bytes else _parse_at_once(chunk, request)
    return _parse_by_line(chunk, request, max_row_bytes) if block is None else block


def _parse_at_once(chunk: LineChunk, request: ColumnRequest) -> RecordBlock | None:
    """Parse a chunk in one call; None when it holds anything that needs a closer look."""
    data, mark = chunk.data, ""
    if not are_plain(data, request.columns):
        if needs_line_by_line(data, request.columns, request.texts):
            return None
        mark = unused_mark(data)
        quoted = quote_numbers(data, mark)
        if quoted is None:
            return None
        data = quoted
    num_lines = data.count(b"\n") + (not data.endswith(b"\n"))
    try:
        # Polars reads 3.5 as the Int64 3, so every value is read as text first.
        parsed = pl.read_ndjson(io.BytesIO(data), schema=dict.fromkeys(request.columns, pl.String()))
    except (pl.exceptions.PolarsError, ValueError):
        return None
    if parsed.height != num_lines:  # blank lines
        return None
    rows = pl.Series(np.arange(chunk.first_row, chunk.first_row + num_lines, dtype=np.int64))
    return RecordBlock(rows, unquote_numbers(parsed, mark) if mark else parsed)


def _parse_by_line(chunk: LineChunk, request: ColumnRequest, max_row_bytes: int) -> RecordBlock:
    """Parse a chunk that has a bad line, one line after the other."""
    rows: list[int] = []
    columns: dict[str, list[str | None]] = {name: [] for name in request.columns}
    bad: list[BadRecord] = []
    if chunk.too_long_bytes:
        detail = f"{chunk.too_long_bytes} bytes, at most {max_row_bytes} are read"
        bad.append(BadRecord(chunk.first_row, RejectReason.TOO_LONG, detail, chunk.data))
    lines = [] if chunk.too_long_bytes else chunk.data.removesuffix(b"\n").split(b"\n")
    for row, line in enumerate(lines, start=chunk.first_row):
        if not line.strip():
            continue
        values = _parse_line(row, line, request)
        if isinstance(values, BadRecord):
            bad.append(values)
            continue
        rows.append(row)
        for name, value in values.items():
            columns[name].append(value)
    values_of = pl.DataFrame(columns, schema=dict.fromkeys(request.columns, pl.String()))
    return RecordBlock(pl.Series(rows, dtype=pl.Int64), values_of, bad)


def _parse_line(row: int, line: bytes, request: ColumnRequest) -> dict[str, str | None] | BadRecord:
    """Return the values of a line as text, or the reason why it is not a row."""
    try:
        text = line.decode("utf-8")
    except UnicodeDecodeError as error:
        mended = mended_utf8(line)
        if mended is None:
            return BadRecord(row, RejectReason.INVALID_UTF8, f"byte {error.start} of the line is not UTF-8", line)
        text = mended
    try:
        record = load_json(text)
    except (ValueError, RecursionError) as error:
        return BadRecord(row, RejectReason.BROKEN_ROW, f"not JSON: {error}", line)
    if not isinstance(record, dict):
        kind = type(record).__name__
        return BadRecord(row, RejectReason.BROKEN_ROW, f"the record is a JSON {kind}, expected an object", line)
    for name in request.texts:
        value = record.get(name)
        if isinstance(value, dict | list):
            kind = "object" if isinstance(value, dict) else "array"
            detail = f"column {name!r} holds a JSON {kind}, expected one text"
            return BadRecord(row, RejectReason.BAD_VALUE, detail, line)
    return {name: json_text(record.get(name), text) for name in request.columns}

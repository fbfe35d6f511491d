"""Cut a JSON document into its records without parsing it: one record a line, in blocks.

The one idea: brackets, commas and quotes of a block are found by a few array operations, and the depth of nesting is a
running sum over them. Records are what lies between commas at the depth of the records. The lines go through the parser of
JSON Lines, so both formats give the same rows, and a record with a wrong byte or NaN costs nothing but itself.
"""

import json
from collections.abc import Iterator
from enum import StrEnum
from typing import Any

import numpy as np

from sbert.errors import CutOffError
from sbert.source.formats.json_structure import DEPTHS, Structure, structure_of
from sbert.source.lines import LineChunk

__all__ = ["Layout", "record_lines"]

NEWLINE, SPACE, COMMA = b"\n ,"


class Layout(StrEnum):
    """Layout of the records in a document."""

    LINES = "lines"
    """A record a line."""
    VALUES = "values"
    """Records one after the other, over several lines each."""
    ARRAY = "array"
    """An array of records, also as a value of an object."""
    BY_KEY = "object"
    """An object whose values are the records."""


def record_lines(uri: str, stream: Any, layout: Layout, block_bytes: int, max_row_bytes: int) -> Iterator[LineChunk]:
    """Stream the records of a document as lines, in chunks of about `block_bytes`.

    Args:
        uri: of the object, for messages.
        stream: the document in UTF-8, from after the bracket that opens the records; for values from the beginning.
        layout: how it holds its records, not lines.
        block_bytes: what is read at once.
        max_row_bytes: no record may be longer.

    Raises:
        CutOffError: after the last whole record, when the document does not end as it should.
    """
    row, rest = 1, b""
    while True:
        data = rest + (more := stream.read(block_bytes))
        piece = np.frombuffer(data, np.uint8)
        structure = structure_of(piece)
        end, is_closed = _end(structure, layout, len(data))
        cuts = _cuts(structure, layout, end)
        is_broken = not is_closed and end < len(data)
        if is_closed:
            last = end
        elif is_broken or not more:
            last = _end_of_whole(data, structure, cuts, end)
        else:
            last = int(cuts[-1]) + 1 if len(cuts) else 0
        lines = _lines(data[:last], cuts[cuts < last], layout)
        if lines:
            yield LineChunk(row, lines)
            row += lines.count(b"\n")
        if is_closed:
            return _check_end(uri, data[end + 1 :], stream, row)
        if is_broken:
            raise CutOffError(uri, f"the JSON is broken after record {row - 1:,}: a bracket closes that never opened")
        if not more:
            if layout is Layout.VALUES and not data[last:].strip():
                return None
            raise CutOffError(uri, f"the JSON is cut off after record {row - 1:,}")
        rest = data[last:]
        if len(rest) > max_row_bytes:
            raise CutOffError(
                uri, f"record {row:,} has more than {max_row_bytes:,} bytes, or a quote in it is never closed"
            )


def _end(structure: Structure, layout: Layout, size: int) -> tuple[int, bool]:
    """Return where the bracket stands that closes the records, and whether it is the right one; else the size."""
    below = np.flatnonzero(structure.depths < 0)
    if not len(below):
        return size, False
    closing = {Layout.ARRAY: ord("]"), Layout.BY_KEY: ord("}")}.get(layout)
    return int(structure.places[below[0]]), int(structure.marks[below[0]]) == closing


def _cuts(structure: Structure, layout: Layout, end: int) -> Any:
    """Return the positions between records: of commas, or of the last character of values."""
    if layout is Layout.VALUES:
        is_cut = (structure.depths == 0) & (DEPTHS[structure.marks] < 0)
    else:
        is_cut = (structure.depths == 0) & (structure.marks == COMMA)
    places = structure.places[is_cut]
    return places[places < end]


def _end_of_whole(data: bytes, structure: Structure, cuts: Any, end: int) -> int:
    """Return where the last whole record of a document ends that is cut off."""
    after = int(cuts[-1]) + 1 if len(cuts) else 0
    closes = structure.places[(structure.depths == 0) & (DEPTHS[structure.marks] < 0)]
    closes = closes[(closes >= after) & (closes < end)]
    return int(closes[-1]) + 1 if len(closes) and not data[int(closes[-1]) + 1 : end].strip() else after


def _lines(data: bytes, cuts: Any, layout: Layout) -> bytes:
    """Return a line for each record of `data`, which holds whole records only."""
    if not data.strip():
        return b""
    if layout is Layout.ARRAY:
        changed = np.frombuffer(data, np.uint8).copy()
        changed[changed == NEWLINE] = SPACE
        changed[cuts] = NEWLINE
        lines = changed.tobytes()
        return lines if lines.endswith(b"\n") else lines + b"\n"
    flat = data.replace(b"\n", b" ")
    bounds = [0, *(int(cut) + 1 for cut in cuts)]
    parts = [flat[begin:end] for begin, end in zip(bounds, [*bounds[1:], len(flat)], strict=True)]
    whole = [part for part in parts if part.strip(b" \t\r,")]
    if layout is Layout.BY_KEY:
        whole = [_with_key(part.rstrip(b" \t\r,")) for part in whole]
    return b"".join(part + b"\n" for part in whole)


def _with_key(member: bytes) -> bytes:
    """Return the record of ``"key": {…}``, in which the key is the column `key`, and the id where it has none."""
    try:
        key, length = json.JSONDecoder().raw_decode(member.decode("utf-8").lstrip())
        record = member.decode("utf-8").lstrip()[length:].lstrip().removeprefix(":").lstrip()
    except ValueError:
        return member  # rejected as a broken row
    if not record.startswith("{"):
        return record.encode()
    name = json.dumps(key, ensure_ascii=False)
    others = record[1:].lstrip()
    return f'{{"id": {name}, "key": {name}{"" if others.startswith("}") else ", "}{others}'.encode()


def _check_end(uri: str, after: bytes, stream: Any, row: int) -> None:
    """Check that a document ends after its records; other values of an object beside its array of records are ignored.

    Raises:
        CutOffError: when it does not.
    """
    last = after.rstrip()[-1:]
    has_more = bool(after.strip())
    while data := stream.read(1 << 20):
        last = data.rstrip()[-1:] or last
        has_more |= bool(data.strip())
    if has_more and last != b"}":
        raise CutOffError(uri, f"the JSON does not end correctly after its last record, number {row - 1:,}")

"""JSON documents: an array of records, an object of records, or records one after the other, told by looking."""

import codecs
import json
from collections.abc import Iterator
from contextlib import suppress
from typing import Any, NamedTuple

import numpy as np
import polars as pl

from sbert.errors import BrokenObjectError, CutOffError
from sbert.source.encodings import HEAD_BYTES, open_text
from sbert.source.formats.base import ColumnRequest, Hints, RecordBlock, SourceFormat
from sbert.source.formats.json_elements import Layout, record_lines
from sbert.source.formats.json_lines import JsonLinesFormat, parse_chunk, types_of_lines
from sbert.source.formats.json_structure import structure_of
from sbert.source.nested import paths_by_column
from sbert.source.objects import SourceObject, Span
from sbert.source.settings import ReadSettings
from sbert.source.streams import broken_data

__all__ = ["JsonFormat"]

MAX_MEMBERS = 100
"""Most values of an object that are looked at."""


class _Found(NamedTuple):
    """Layout of the records in a document."""

    layout: Layout
    begin: int = 0
    """Bytes before the first record."""
    key: str = ""
    """Name of the value that holds the records."""


class JsonFormat(SourceFormat):
    """Records of a JSON document. It is read as a stream, whatever its layout."""

    name = "json"
    endings = (".json",)
    may_break_off = True

    def columns(self, item: SourceObject, head_bytes: int, hints: Hints) -> dict[str, pl.DataType] | None:
        """Return the keys of the records in the head of the object, with the types of their values."""
        with open_text(Span(object=item), hints.encoding, guess=False, head_bytes=HEAD_BYTES) as stream:
            shape = _look(item.uri, stream.head, hints)
            head = stream.read_head(head_bytes)
        if shape.layout is Layout.LINES:
            is_cut = head_bytes and len(head) >= head_bytes
            return types_of_lines(head[: head.rfind(b"\n") + 1] or head if is_cut else head, hints.nested) or None
        rest = _Rest(head[shape.begin :])
        lines: list[bytes] = []
        with suppress(CutOffError):  # the head may be cut; reading reports what is broken
            lines.extend(
                chunk.data for chunk in record_lines(item.uri, rest, shape.layout, len(head) + 1, len(head) + 1)
            )
        return types_of_lines(b"\n".join(lines), hints.nested) or None

    def count(self, item: SourceObject, read: ReadSettings, hints: Hints) -> int:
        """Return the number of records."""
        request = ColumnRequest(texts=(), hints=hints)
        blocks = self.read(Span(object=item), request, read)
        return sum(len(block.row_numbers) + len(block.bad) for block in blocks)

    def describe(self, item: SourceObject, hints: Hints) -> str:
        """Return the layout."""
        with open_text(Span(object=item), hints.encoding, guess=False, head_bytes=HEAD_BYTES) as stream:
            shape = _look(item.uri, stream.head, hints)
            names = {
                Layout.LINES: "a record a line",
                Layout.VALUES: "records one after the other",
                Layout.ARRAY: f"an array, in {shape.key!r}" if shape.key else "an array",
                Layout.BY_KEY: "an object of records",
            }
            return f"{names[shape.layout]}, {stream.encoding}"

    def read(self, span: Span, request: ColumnRequest, read: ReadSettings) -> Iterator[RecordBlock]:
        """Stream the records of an object; a key that a record lacks is null.

        Raises:
            CutOffError: after the last whole record of a document that breaks off.
            BrokenObjectError: when the object is not JSON.
        """
        uri, hints = span.object.uri, request.hints
        with broken_data(uri), open_text(span, hints.encoding, guess=False, head_bytes=HEAD_BYTES) as stream:
            shape = _look(uri, stream.head, hints)
            if shape.layout is not Layout.LINES:
                _skip(stream, shape.begin)
                for chunk in record_lines(uri, stream, shape.layout, read.block_bytes, read.max_row_bytes):
                    yield parse_chunk(chunk, request, read.max_row_bytes)
                return
        yield from JsonLinesFormat().read(span, request, read)


class _Rest:
    """Lets a piece of bytes be read once."""

    def __init__(self, data: bytes) -> None:
        self._data = data

    def read(self, _: int) -> bytes:
        """Return all that is left."""
        data, self._data = self._data, b""
        return data


def _skip(stream: Any, num_bytes: int) -> None:
    while num_bytes > 0 and (data := stream.read(num_bytes)):
        num_bytes -= len(data)


def _look(uri: str, head: bytes, hints: Hints) -> _Found:
    """Return how a document holds its records.

    An object that has the wanted columns is a record itself. Else an object of objects is an object of records, and an
    object with an array of objects holds its records there.

    Raises:
        BrokenObjectError: when the object is not JSON.
    """
    begin = len(head) - len(head.removeprefix(codecs.BOM_UTF8).lstrip())
    opening = head[begin : begin + 1]
    if opening == b"[":
        return _Found(Layout.ARRAY, begin + 1)
    if opening != b"{":
        if not opening:
            return _Found(Layout.LINES)
        raise BrokenObjectError(uri, f"begins with {head[begin : begin + 20]!r}, which is not a JSON array or object")
    structure = structure_of(np.frombuffer(head, np.uint8))
    ends = structure.places[structure.depths <= 0]
    end = int(ends[0]) + 1 if len(ends) else len(head)
    if head[end:].strip():  # something follows the first value
        return _Found(Layout.VALUES if b"\n" in head[begin:end] else Layout.LINES)
    members = _members(head[:end], structure, begin)
    asked = {*hints.wanted, *paths_by_column(hints.nested)}
    if members and not (asked and asked <= {key for key, _ in members}):
        if all(head[place : place + 1] == b"{" for _, place in members):
            return _Found(Layout.BY_KEY, begin + 1)
        for key, place in members:
            if head[place : place + 1] == b"[" and head[place + 1 :].lstrip()[:1] == b"{":
                return _Found(Layout.ARRAY, place + 1, key)
    return _Found(Layout.VALUES)


def _members(head: bytes, structure: Any, begin: int) -> list[tuple[str, int]]:
    """Return the keys of the object at `begin`, and where their values begin; the last may be cut off."""
    separators = structure.places[
        (structure.depths == 1) & ((structure.marks == ord(",")) | (structure.places == begin))
    ]
    members: list[tuple[str, int]] = []
    for place in separators[separators < len(head)]:
        try:
            text = head[int(place) + 1 :].lstrip()
            offset = len(head) - len(text)
            length = _end_of_string(text)
            key = json.loads(text[:length])
            rest = text[length:].lstrip()
            value = rest.removeprefix(b":").lstrip()
        except ValueError:
            continue
        if rest.startswith(b":") and value:
            members.append((str(key), offset + len(text) - len(value)))
        if len(members) >= MAX_MEMBERS:
            break
    return members


def _end_of_string(text: bytes) -> int:
    """Return where a string that `text` begins with ends."""
    place = 1
    while True:
        place = text.index(b'"', place) + 1
        slashes = len(text[: place - 1]) - len(text[: place - 1].rstrip(b"\\"))
        if slashes % 2 == 0:
            return place

"""Documents: formats whose objects are one document each, with a title and headings."""

from abc import abstractmethod
from collections.abc import Iterator
from dataclasses import dataclass, field
from typing import TypedDict

import polars as pl

from sbert.errors import BrokenObjectError
from sbert.rows.rejects import RejectReason
from sbert.source.formats.base import BadRecord, ColumnRequest, Hints, RecordBlock, SourceFormat
from sbert.source.objects import SourceObject, Span
from sbert.source.passages.outline import OUTLINE, PAGE
from sbert.source.settings import ReadSettings
from sbert.source.streams import broken_data, open_stream

__all__ = ["Document", "DocumentFormat", "DocumentText", "Mark"]

MAX_ORIGINAL_BYTES = 64 * 1024


class Mark(TypedDict):
    """A heading or the beginning of a page, as in `sbert.source.passages.outline.OUTLINE`."""

    start: int
    end: int
    level: int
    title: str


@dataclass(frozen=True)
class Document:
    """A document as text, without its markup."""

    text: str
    title: str | None = None
    outline: list[Mark] = field(default_factory=list)
    if_empty: str = "the document has no text"
    """Detail of the rejected row when there is no text."""


class DocumentText:
    """The text of a document while it is put together, block by block."""

    def __init__(self) -> None:
        """Begin an empty text."""
        self._parts: list[str] = []
        self._length = 0
        self.outline: list[Mark] = []

    def add(self, text: str, *, after: str = "\n\n") -> None:
        """Add a block, after a blank line or another separator."""
        text = text.strip()
        if text:
            self._append((after if self._length else "") + text)

    def add_heading(self, title: str, level: int) -> None:
        """Add a heading of level 1 (the highest) to 6, on a line of its own."""
        title = " ".join(title.split())
        if title:
            self._append("\n\n" if self._length else "")
            start = self._length
            self._append(title)
            self.outline.append(Mark(start=start, end=self._length, level=level, title=title))

    def add_page(self, text: str, number: int) -> None:
        """Add a page of a PDF."""
        self._append("\n" if self._length else "")
        self.outline.append(Mark(start=self._length, end=self._length, level=PAGE, title=str(number)))
        self._append(text.strip())

    @property
    def text(self) -> str:
        """The text so far."""
        return "".join(self._parts)

    @property
    def first_heading(self) -> str | None:
        """The first of the headings of the highest level; None without headings."""
        headings = [mark for mark in self.outline if mark["level"] != PAGE]
        return min(headings, key=lambda mark: (mark["level"], mark["start"]))["title"] if headings else None

    def _append(self, text: str) -> None:
        self._parts.append(text)
        self._length += len(text)


class DocumentFormat(SourceFormat):
    """A format whose objects are one document each. It is read as a whole, so `max_row_bytes` bounds the memory."""

    has_columns = True
    count_is_cheap = True
    is_document = True
    has_pages = False
    """True if documents have pages, and a column ``page``."""

    @abstractmethod
    def parse(self, data: bytes, uri: str, encoding: str | None) -> Document:
        """Return the document that an object holds; `encoding` is the one that a person named.

        Raises:
            UnicodeDecodeError: when the bytes are not text in the encoding that they declare.
            BrokenObjectError: when the object is damaged, or cannot be read for another reason.
        """

    def columns(self, item: SourceObject, head_bytes: int, hints: Hints) -> dict[str, pl.DataType] | None:  # noqa: ARG002
        """Return the columns that documents of this format have beside their text; no object is looked at."""
        pages: dict[str, pl.DataType] = {"page": pl.Int64()} if self.has_pages else {}
        return {"title": pl.String(), "headings": pl.List(pl.String()), **pages}

    def count(self, item: SourceObject, read: ReadSettings, hints: Hints) -> int:  # noqa: ARG002
        """Return 1."""
        return 1

    def read(self, span: Span, request: ColumnRequest, read: ReadSettings) -> Iterator[RecordBlock]:
        """Return the document, or the reason why it is none.

        Raises:
            BrokenObjectError: when the object is damaged, or a column that documents do not have is required.
        """
        uri = span.object.uri
        columns = self.columns(span.object, 0, request.hints) or {}
        lacking = sorted(request.required - {request.texts[0]} - columns.keys())
        if lacking:
            raise BrokenObjectError(
                uri,
                f"{self.name} documents have the columns {', '.join(columns)}, but {', '.join(lacking)} is required: leave "
                f"it out, or read a folder without {self.name}",
            )
        with broken_data(uri), open_stream(span) as stream:
            data = stream.read(read.max_row_bytes + 1)
        if len(data) > read.max_row_bytes:
            detail = f"more than {read.max_row_bytes} bytes, which reading.max_row_bytes allows"
            yield _rejected(request, RejectReason.TOO_LONG, detail, data)
            return
        try:
            document = self.parse(data, uri, request.hints.encoding)
        except UnicodeDecodeError as error:
            detail = f"the document is not {error.encoding}: {error.reason} at byte {error.start}"
            yield _rejected(request, RejectReason.INVALID_UTF8, detail, data)
            return
        if document.text.strip():
            yield self._block(request, document)
        else:
            yield _rejected(request, RejectReason.EMPTY_TEXT, document.if_empty, data)

    def _block(self, request: ColumnRequest, document: Document) -> RecordBlock:
        headings = [mark["title"] for mark in document.outline if mark["level"] != PAGE]
        values: dict[str, pl.Series] = {
            "title": pl.Series([document.title], dtype=pl.String),
            "headings": pl.Series([headings], dtype=pl.List(pl.String)),
            "page": pl.Series([1 if self.has_pages else None], dtype=pl.Int64),
            request.texts[0]: pl.Series([document.text], dtype=pl.String),
        }
        nothing = pl.Series([None], dtype=pl.String)
        return RecordBlock(
            pl.Series([1], dtype=pl.Int64),
            pl.DataFrame({name: values.get(name, nothing) for name in request.columns}),
            outline=pl.Series([document.outline], dtype=OUTLINE),
        )


def _rejected(request: ColumnRequest, reason: RejectReason, detail: str, data: bytes) -> RecordBlock:
    empty = pl.DataFrame({name: pl.Series([], dtype=pl.String) for name in request.columns})
    bad = [BadRecord(1, reason, detail, data[:MAX_ORIGINAL_BYTES])]
    return RecordBlock(pl.Series([], dtype=pl.Int64), empty, bad, outline=pl.Series([], dtype=OUTLINE))

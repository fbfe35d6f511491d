"""Plain text: each line is a document, or the whole object is."""

from collections.abc import Iterator

import polars as pl

from sbert.errors import BrokenObjectError
from sbert.rows.rejects import RejectReason
from sbert.source.encodings import UTF8, open_text
from sbert.source.formats.base import BadRecord, ColumnRequest, Hints, RecordBlock, SourceFormat
from sbert.source.lines import LineChunk, count_lines, read_lines
from sbert.source.objects import SourceObject, Span
from sbert.source.settings import ReadSettings
from sbert.source.values import decode_utf8

__all__ = ["PlainTextFormat"]


class PlainTextFormat(SourceFormat):
    """Documents without columns: the first text column asked for holds them, all others are null."""

    name = "txt"
    endings = (".txt",)
    has_columns = False

    def columns(self, item: SourceObject, head_bytes: int, hints: Hints) -> dict[str, pl.DataType] | None:  # noqa: ARG002
        """Return None: plain text has no columns."""
        return None

    def count(self, item: SourceObject, read: ReadSettings, hints: Hints) -> int:
        """Return the number of lines."""
        return count_lines(item, read, hints.encoding, guess=True, blank_lines=True)

    def describe(self, item: SourceObject, hints: Hints) -> str:
        """Return the encoding where it is not UTF-8."""
        with open_text(Span(object=item), hints.encoding, guess=True) as text:
            return "" if text.encoding == UTF8 else text.encoding

    def read(self, span: Span, request: ColumnRequest, read: ReadSettings) -> Iterator[RecordBlock]:
        """Stream the documents of an object.

        Raises:
            BrokenObjectError: when a column other than the text is required.
        """
        lacking = sorted(request.required - {request.texts[0]})
        if lacking:
            raise BrokenObjectError(
                span.object.uri,
                f"plain text has no columns, but {', '.join(lacking)} is required: leave it out, or read a folder "
                "without plain text",
            )
        is_one = request.text_documents == "file"
        encoding = request.hints.encoding
        for chunk in _whole(span, read, encoding) if is_one else read_lines(span, read, encoding, guess=True):
            if chunk.too_long_bytes:
                detail = f"{chunk.too_long_bytes} bytes, at most {read.max_row_bytes} are read"
                bad = [BadRecord(chunk.first_row, RejectReason.TOO_LONG, detail, chunk.data)]
                yield _block(request, [], pl.Series([], dtype=pl.String), bad)
                continue
            lines = [chunk.data] if is_one else chunk.data.removesuffix(b"\n").split(b"\n")
            texts = decode_utf8(pl.Series(lines, dtype=pl.Binary))
            rows = range(chunk.first_row, chunk.first_row + len(lines))
            bad = [
                BadRecord(rows[place], RejectReason.INVALID_UTF8, "the line is not UTF-8", lines[place])
                for place in texts.is_null().arg_true()
            ]
            good = texts.is_not_null()
            yield _block(request, pl.Series(rows, dtype=pl.Int64).filter(good), texts.filter(good), bad)


def _block(request: ColumnRequest, rows: pl.Series | list[int], texts: pl.Series, bad: list[BadRecord]) -> RecordBlock:
    nothing = pl.Series([None], dtype=pl.String).new_from_index(0, len(texts))
    values = {name: texts if name == request.texts[0] else nothing for name in request.columns}
    return RecordBlock(pl.Series(rows, dtype=pl.Int64), pl.DataFrame(values), bad)


def _whole(span: Span, read: ReadSettings, encoding: str | None) -> Iterator[LineChunk]:
    data, size = b"", 0
    with open_text(span, encoding, guess=True) as stream:
        while more := stream.read(read.block_bytes):
            size += len(more)
            data += more if size <= read.max_row_bytes else b""
    if data or size:
        yield LineChunk(1, data, too_long_bytes=size if size > read.max_row_bytes else 0)

"""CSV and TSV: records of written values. How they are written is told by looking at the head of each object."""

import csv
import io
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from dataclasses import replace

import polars as pl

from sbert.errors import ColumnError
from sbert.source.encodings import HEAD_BYTES, TextStream, open_text
from sbert.source.formats.base import ColumnRequest, Hints, RecordBlock, SourceFormat, missing_column
from sbert.source.formats.csv_blocks import CsvRecords
from sbert.source.formats.csv_dialect import Dialect, dialect_of_head
from sbert.source.nested import paths_by_column, type_with_fields
from sbert.source.objects import SourceObject, Span
from sbert.source.settings import ReadSettings
from sbert.source.streams import broken_data
from sbert.source.types import written_type

__all__ = ["CsvFormat", "TsvFormat"]


class CsvFormat(SourceFormat):
    """Records of written values; a quoted value may hold newlines."""

    name = "csv"
    endings = (".csv",)
    null_is_empty = True
    usual_delimiter = ","

    def columns(self, item: SourceObject, head_bytes: int, hints: Hints) -> dict[str, pl.DataType] | None:
        """Return the columns of the header, with the types of the values in the head of the object."""
        with self._open(item, hints) as (stream, dialect):
            head = stream.read_head(head_bytes)
        if head_bytes and len(head) >= head_bytes:
            head = head[: head.rfind(b"\n") + 1] or head  # the last line may be cut
        if not dialect.header:
            return None
        records = dialect.reader(io.StringIO(head.decode("utf-8", "replace"), newline=""), strict=False)
        whole = _whole_records(records, len(dialect.header))[dialect.has_header :]
        columns = list(zip(*whole, strict=True)) or [()] * len(dialect.header)
        paths = paths_by_column(hints.nested)
        return {
            name: type_with_fields(values, paths[name]) if name in paths else written_type(values)
            for name, values in zip(dialect.header, columns, strict=True)
        }

    def count(self, item: SourceObject, read: ReadSettings, hints: Hints) -> int:
        """Return the number of records below the header."""
        with broken_data(item.uri), self._open(item, hints) as (stream, dialect):
            records = CsvRecords(item.uri, stream, dialect, [0], read.max_row_bytes)
            return sum(len(block.rows) + len(block.bad) for block in records.blocks(read.block_bytes))

    def describe(self, item: SourceObject, hints: Hints) -> str:
        """Return delimiter, quote, encoding, and whether there is no header."""
        with self._open(item, hints) as (stream, dialect):
            return f"{dialect.describe()}, {stream.encoding}"

    def read(self, span: Span, request: ColumnRequest, read: ReadSettings) -> Iterator[RecordBlock]:
        """Stream the records of an object.

        Raises:
            ColumnError: when a required column is not in the header.
            BrokenObjectError: when a quote is never closed, a value is longer than `max_row_bytes`, compressed data is
                damaged, or it is uncertain how the records are written.
        """
        uri = span.object.uri
        hints = replace(request.hints, wanted=tuple(sorted(request.required)))
        with broken_data(uri), self._open(span.object, hints) as (stream, told_dialect):
            if not told_dialect.header:
                return
            dialect = _with_names(uri, told_dialect, request.csv_header) if request.csv_header else told_dialect
            header = dialect.header
            for name in request.columns:
                if name in request.required and name not in header:
                    raise missing_column(uri, name, header)
            names = [name for name in request.columns if name in header]
            places = [header.index(name) for name in names]
            for block in CsvRecords(uri, stream, dialect, places, read.max_row_bytes).blocks(read.block_bytes):
                by_name = dict(zip(names, block.columns, strict=True))
                nothing = pl.Series([None], dtype=pl.String).new_from_index(0, len(block.rows))
                values = pl.DataFrame({name: by_name.get(name, nothing) for name in request.columns})
                yield RecordBlock(pl.Series(block.rows, dtype=pl.Int64), values, block.bad)

    @contextmanager
    def _open(self, item: SourceObject, hints: Hints) -> Iterator[tuple[TextStream, Dialect]]:
        """Open an object as text, and tell its dialect."""
        with open_text(Span(object=item), hints.encoding, guess=True) as stream:
            head = stream.head
            is_whole = len(head) < HEAD_BYTES // 4  # UTF-16 and windows-1252 change their size
            text = head.decode("utf-8", "replace")
            yield (
                stream,
                dialect_of_head(item.uri, text, is_whole=is_whole, hints=hints, usual=self.usual_delimiter),
            )


class TsvFormat(CsvFormat):
    """CSV with tabs."""

    name = "tsv"
    endings = (".tsv",)
    usual_delimiter = "\t"


def _whole_records(records: Iterator[list[str]], width: int) -> list[list[str]]:
    """Return the records of the header's width, up to the first that cannot be parsed."""
    whole: list[list[str]] = []
    with suppress(csv.Error):
        whole.extend(record for record in records if len(record) == width)  # keeps those before the error
    return whole


def _with_names(uri: str, dialect: Dialect, names: tuple[str, ...]) -> Dialect:
    if len(names) != len(dialect.header):
        raise ColumnError(
            f"{uri}: has {len(dialect.header)} columns, csv_columns names {len(names)}: {', '.join(names)}"
        )
    return replace(dialect, header=names, has_header=False)

"""Records of CSV by the block: pyarrow parses blocks that are written by the rules, Python's reader all others.

pyarrow is several times as fast. Python's reader says which record is bad, and why. Both give the same values where quotes
stand only at the beginning and end of values, and every record is as wide as the header; `_is_regular` and pyarrow check it.
"""

import csv
import io
from collections.abc import Iterator
from dataclasses import dataclass, field
from typing import Any

import numpy as np
import polars as pl
import pyarrow as pa
import pyarrow.csv as arrow_csv

from sbert.errors import BrokenObjectError
from sbert.rows.rejects import RejectReason
from sbert.source.encodings import mended_utf8
from sbert.source.formats.base import BadRecord
from sbert.source.formats.csv_dialect import Dialect

__all__ = ["CsvBlock", "CsvRecords"]

NEWLINE, RETURN = 10, 13


@dataclass
class CsvBlock:
    """Some records of an object."""

    rows: list[int] | range
    """Numbers of the records."""
    columns: list[pl.Series] = field(default_factory=list)
    """A column of text for each place that was asked for."""
    bad: list[BadRecord] = field(default_factory=list)


class CsvRecords:
    """Reads the records of one object, in order."""

    def __init__(self, uri: str, stream: Any, dialect: Dialect, places: list[int], max_row_bytes: int) -> None:
        """Start before the first record; nothing is read yet.

        Args:
            uri: of the object, for messages.
            stream: its text in UTF-8.
            dialect: how the records are written.
            places: of the columns that are returned.
            max_row_bytes: no value may be longer.
        """
        self._uri = uri
        self._stream = stream
        self._dialect = dialect
        self._places = places
        self._max_row_bytes = max_row_bytes
        self._rest = b""
        self._row = -1 if dialect.has_header else 0  # the header is record 0
        self._line = 0
        self._may_be_fast = len(dialect.delimiter.encode()) == 1 and len((dialect.quote or "").encode()) < 2

    def blocks(self, block_bytes: int) -> Iterator[CsvBlock]:
        """Stream the records below the header in blocks of about `block_bytes`.

        Raises:
            BrokenObjectError: when a quote is never closed, or a value is longer than `max_row_bytes`.
        """
        chunk = self._pull(block_bytes)
        while chunk:
            block, left = None, b""
            if self._row >= 0:  # the header is left to Python's reader
                end = self._end_of_records(chunk)
                if end == 0 and len(chunk) <= self._max_row_bytes and (more := self._pull(block_bytes)):
                    chunk += more
                    continue
                if end > 0:
                    block, left = self._fast(chunk[:end]), chunk[end:]
            if block is None:
                block, left = self._slow(chunk, block_bytes), b""
            if block.rows or block.bad:
                yield block
            chunk = left + self._pull(block_bytes)

    def _pull(self, block_bytes: int) -> bytes:
        """Return the next lines; all that is left at the end of the object."""
        parts = [self._rest]
        while data := self._stream.read(block_bytes):
            cut = data.rfind(b"\n") + 1
            if cut:
                self._rest = data[cut:]
                return b"".join([*parts, data[:cut]])
            parts.append(data)
        self._rest = b""
        return b"".join(parts)

    def _end_of_records(self, chunk: bytes) -> int:
        """Return where the last whole record ends; 0 when there is none, -1 when the chunk is not written by the rules."""
        if not self._may_be_fast or chunk.count(b"\r") != chunk.count(b"\r\n"):
            return -1
        if self._dialect.quote is None:
            return len(chunk)
        data = np.frombuffer(chunk, np.uint8)
        quotes = np.flatnonzero(data == ord(self._dialect.quote))
        if not len(quotes):
            return len(chunk)
        if not self._is_regular(data, quotes):
            return -1
        return len(chunk) if len(quotes) % 2 == 0 else chunk.rfind(b"\n", 0, int(quotes[-1])) + 1

    def _is_regular(self, data: Any, quotes: Any) -> bool:
        """Return whether quotes open at the beginning of a value, close at its end, or stand twice within it.

        The first quote opens, the second closes, and so on: a quote that stands twice closes and opens again.
        """
        opening, closing = quotes[0::2], quotes[1::2]
        borders = np.zeros(256, dtype=bool)
        borders[[NEWLINE, ord(self._dialect.delimiter)]] = True
        before = borders[data[opening - 1]]
        before[0] |= opening[0] == 0
        before[1:] |= closing[: len(opening) - 1] + 1 == opening[1:]
        borders[RETURN] = True
        after = borders[data[np.minimum(closing + 1, len(data) - 1)]] | (closing + 1 == len(data))
        after[: len(opening) - 1] |= (closing + 1)[: len(opening) - 1] == opening[1:]
        return bool(before.all() and after.all())

    def _fast(self, chunk: bytes) -> CsvBlock | None:
        """Parse whole records in one call; None when one is bad."""
        if not self._places:
            return None
        table = self._table(chunk)
        if table is None and (mended := (mended_utf8(chunk) or "").encode()) not in {b"", chunk}:
            table = self._table(mended)
        if table is None:
            return None
        columns = [pl.Series(name, table[name], dtype=pl.String) for name in table.column_names]
        if len(chunk) > self._max_row_bytes and any(
            (series.str.len_bytes() > self._max_row_bytes).any() for series in columns
        ):
            return None
        block = CsvBlock(range(self._row + 1, self._row + 1 + table.num_rows), columns)
        self._row += table.num_rows
        self._line += chunk.count(b"\n")
        return block

    def _table(self, chunk: bytes) -> pa.Table | None:
        """Parse the wanted columns; None when a record has another width than the header, or a value is not UTF-8."""
        width = len(self._dialect.header)
        names = [str(place) for place in self._places]
        try:
            return arrow_csv.read_csv(
                pa.BufferReader(chunk),
                read_options=arrow_csv.ReadOptions(
                    use_threads=False, block_size=len(chunk) + 1, column_names=[str(place) for place in range(width)]
                ),
                parse_options=arrow_csv.ParseOptions(
                    delimiter=self._dialect.delimiter,
                    quote_char=self._dialect.quote or False,
                    newlines_in_values=True,
                ),
                convert_options=arrow_csv.ConvertOptions(
                    column_types=dict.fromkeys(names, pa.string()), include_columns=names, strings_can_be_null=False
                ),
            )
        except pa.ArrowInvalid:
            return None

    def _slow(self, chunk: bytes, block_bytes: int) -> CsvBlock:
        """Parse records one by one, until a record ends where a chunk does."""
        num_lines = 0

        def lines() -> Iterator[str]:
            nonlocal num_lines
            waiting = chunk
            while waiting:
                # Lines as text files have them; bytes that are not UTF-8 come in as surrogates.
                chunk_lines = list(io.StringIO(waiting.decode("utf-8", "surrogateescape"), newline=""))
                num_lines += len(chunk_lines)
                yield from chunk_lines
                waiting = self._pull(block_bytes)

        csv.field_size_limit(self._max_row_bytes)
        reader = self._dialect.reader(lines())
        block = CsvBlock(rows=[])
        records: list[list[str]] = []
        while (record := self._next(reader, block)) is not None:
            if record:
                self._sort(record, block, records)
            if reader.line_num == num_lines:
                break
        self._line += reader.line_num
        columns = list(zip(*records, strict=True)) or [()] * len(self._places)
        block.columns = [pl.Series(column, dtype=pl.String) for column in columns]
        return block

    def _next(self, reader: Any, block: CsvBlock) -> list[str] | None:
        """Return the next record; empty when it is bad, None at the end."""
        try:
            record: list[str] | None = next(reader, None)
        except csv.Error as error:
            self._row += 1
            line = self._line + reader.line_num
            if "unexpected end of data" in str(error):
                detail = f"record {self._row}, which ends in line {line}, has a quote that is never closed ({error})"
                detail += ": close it, or set source.csv.quote to none where quotes are part of the text"
                raise BrokenObjectError(self._uri, detail) from error
            if "field larger" in str(error):
                raise BrokenObjectError(self._uri, f"record {self._row} (line {line}): {error}") from error
            block.bad.append(BadRecord(self._row, RejectReason.BROKEN_ROW, f"line {line}: {error}", b""))
            return []
        self._row += bool(record)
        return record

    def _sort(self, record: list[str], block: CsvBlock, records: list[list[str]]) -> None:
        """Put a record with the good or the bad ones; the header is neither."""
        if self._row == 0:
            return
        width = len(self._dialect.header)
        if len(record) != width:
            detail = f"{len(record)} fields, the header has {width}"
            block.bad.append(BadRecord(self._row, RejectReason.BROKEN_ROW, detail, self._written(record)))
            return
        values = [record[place] for place in self._places]
        try:
            "".join(values).encode()
        except UnicodeEncodeError:  # bytes that are not UTF-8
            mended = [mended_utf8(value.encode("utf-8", "surrogateescape")) for value in values]
            if None in mended:
                detail = "the record is not UTF-8"
                block.bad.append(BadRecord(self._row, RejectReason.INVALID_UTF8, detail, self._written(record)))
                return
            values = [value or "" for value in mended]
        assert isinstance(block.rows, list)
        block.rows.append(self._row)
        records.append(values)

    def _written(self, record: list[str]) -> bytes:
        text = io.StringIO()
        quote = self._dialect.quote
        csv.writer(text, delimiter=self._dialect.delimiter, quotechar=quote or '"').writerow(record)
        return text.getvalue().encode("utf-8", "surrogateescape")

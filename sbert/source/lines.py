"""Lines of an object as a stream of chunks that end where lines end."""

from collections.abc import Iterator, Sequence
from contextlib import AbstractContextManager
from dataclasses import dataclass
from typing import IO, Any

from sbert.source.encodings import open_text
from sbert.source.objects import SourceObject, Span
from sbert.source.settings import ReadSettings
from sbert.source.streams import broken_data, open_stream
from sbert.storage.files import open_input

__all__ = ["LineChunk", "count_lines", "first_lines", "read_lines"]

BOM = b"\xef\xbb\xbf"
COUNT_BYTES = 8 * 2**20


@dataclass(frozen=True)
class LineChunk:
    """Whole lines, or the first bytes of one line that is too long."""

    first_row: int
    data: bytes
    """Lines with their newlines; the last line of an object may lack it."""
    too_long_bytes: int = 0
    """If it is not 0, `data` is the beginning of one line of this many bytes, which is to be rejected."""


def read_lines(  # noqa: C901, PLR0912  (one state machine)
    span: Span, read: ReadSettings, encoding: str | None = None, *, guess: bool = False
) -> Iterator[LineChunk]:
    """Stream the lines of a span in chunks of about `block_bytes`, in UTF-8.

    The encoding of a whole object is told by looking where none is named, see `open_text`. A slice must be UTF-8. A line
    belongs to the slice in which its first byte lies: a slice skips the line that began before it, and finishes
    the line that ends after it.

    Raises:
        BrokenObjectError: when compressed data ends early or is damaged.
        StorageError: when storage refuses.
    """
    is_whole = span.start is None and span.stop is None
    opened: AbstractContextManager[Any] = open_text(span, encoding, guess=guess) if is_whole else open_stream(span)
    with broken_data(span.object.uri), opened as stream:
        position = span.start or 0
        if position:
            position = _skip_to_line(stream, position, read.block_bytes)
        row = span.first_row
        rest = b""
        skipping = 0  # bytes so far of a line that is too long
        while True:
            if span.stop is not None and position - len(rest) >= span.stop and not skipping:
                return
            data = stream.read(read.block_bytes)
            if not data:
                break
            if position == 0 and data.startswith(BOM):
                position, data = len(BOM), data[len(BOM) :]
            position += len(data)
            if skipping:
                end = data.find(b"\n") + 1
                if not end:
                    skipping += len(data)
                    continue
                yield LineChunk(row, rest, too_long_bytes=skipping + end)
                row, rest, skipping, data = row + 1, b"", 0, data[end:]
            data = rest + data
            cut = data.rfind(b"\n") + 1
            if span.stop is not None and position - len(data) + cut > span.stop:
                # Lines that begin at `stop` or after belong to the next slice.
                begin = max(span.stop - (position - len(data)), 0)
                end = begin if begin and data[begin - 1 : begin] == b"\n" else data.find(b"\n", begin) + 1
                if end:
                    yield LineChunk(row, data[:end])
                    return
            whole, rest = data[:cut], data[cut:]
            if whole:
                yield LineChunk(row, whole)
                row += whole.count(b"\n")
            if len(rest) > read.max_row_bytes:
                skipping, rest = len(rest), rest[: read.block_bytes]
        if skipping:
            yield LineChunk(row, rest, too_long_bytes=skipping)
        elif rest and (span.stop is None or position - len(rest) < span.stop):
            yield LineChunk(row, rest)


def _skip_to_line(stream: IO[bytes], start: int, block_bytes: int) -> int:
    """Move to the first line that begins at `start` or after, and return its position."""
    stream.seek(start - 1)
    position = start - 1
    while data := stream.read(block_bytes):
        newline = data.find(b"\n")
        if newline >= 0:
            position += newline + 1
            stream.seek(position)
            return position
        position += len(data)
    return position


def count_lines(item: SourceObject, read: ReadSettings, encoding: str | None, *, guess: bool, blank_lines: bool) -> int:
    """Count the lines of an object; with `blank_lines`, also the lines of white space alone."""
    num_lines = 0
    for chunk in read_lines(Span(object=item), read, encoding, guess=guess):
        lines = [chunk.data] if chunk.too_long_bytes else chunk.data.removesuffix(b"\n").split(b"\n")
        num_lines += len(lines) if blank_lines else sum(1 for line in lines if line.strip())
    return num_lines


def first_lines(item: SourceObject, starts: Sequence[int]) -> dict[int, int]:
    """Return the number of the first line of the slices that begin at the bytes `starts` (ascending)."""
    numbers: dict[int, int] = {}
    num_lines, position = 0, 0
    last = b"\n"
    with open_input(item.uri) as file:
        for start in starts:
            while position < start:
                chunk = file.read(min(COUNT_BYTES, start - position))
                if not chunk:
                    break
                num_lines += chunk.count(b"\n")
                position += len(chunk)
                last = chunk[-1:]
            # A line that begins before `start` and ends after it belongs to the slice before.
            numbers[start] = num_lines + 1 if last == b"\n" else num_lines + 2
    return numbers

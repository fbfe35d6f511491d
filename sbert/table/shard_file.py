"""Shard files: open one for reading, write one with a checksum, and check the checksum.

The one idea: the footer of a shard holds the SHA-256 of the whole file, computed with 64 zeros in the checksum's own place.
So one flipped bit anywhere is found, also in the places that the checksums of Parquet pages leave out (page headers and the
footer), and any Parquet reader still reads the file. Readers check the page checksums of the pages that they read.
"""

import hashlib
import io
import re
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq

from sbert.errors import SbertError, TableError
from sbert.storage.errors import translate_errors
from sbert.storage.files import open_input, open_output

__all__ = [
    "ShardOutput",
    "damage_as_table_error",
    "file_checksum_problem",
    "is_damage",
    "open_shard",
    "open_shard_file",
]

CHECKSUM_KEY = "sbert_checksum"
CHECKSUM_PREFIX = b"sha256:"
PLACEHOLDER = CHECKSUM_PREFIX + b"0" * 64
CHECKSUM = re.compile(rb"sbert_checksum.{1,4}sha256:([0-9a-f]{64})", re.DOTALL)
CHECKSUM_TRACE = re.compile(rb"sbert_checksum|sbert_c.{8,11}sha256:|hecksum.{1,4}sha256:", re.DOTALL)
"""Beginnings of the checksum's entry in the footer; one stays readable when a bit of it is flipped."""
DAMAGED = "is damaged"
DAMAGE_WORDS = re.compile("checksum|thrift|corrupt|decompress", re.IGNORECASE)
"""Words of the `OSError` that pyarrow raises when the bytes of a file do not make sense."""
TRACE_BYTES = 2**20
"""Bytes at the end of a file in which a checksum that the footer does not show is looked for."""
TAIL_BYTES = 8
"""A Parquet file ends with the length of its footer (4 bytes, little endian) and ``PAR1``."""
READ_BYTES = 4 * 2**20


class ShardOutput(io.RawIOBase):
    """The file under a `pq.ParquetWriter`: adds the checksum when the writer has written the footer.

    Usage: write row groups, call `begin_footer`, close the Parquet writer, call `finish`.
    """

    def __init__(self, uri: str) -> None:
        """Begin a file at `uri`; nothing is visible before `finish`."""
        super().__init__()
        self._output = open_output(uri)
        self._hash = hashlib.sha256()
        self._footer: bytearray | None = None

    def writable(self) -> bool:
        """Return true."""
        return True

    def write(self, data: Any) -> int:
        """Append bytes."""
        if self._footer is not None:
            self._footer += data
            return len(data)
        self._hash.update(data)
        return self._output.write(data)

    def tell(self) -> int:
        """Return the number of bytes written."""
        return self._output.tell() + len(self._footer or b"")

    def flush(self) -> None:
        """Do nothing: storage receives bytes in parts of its client's own size."""

    def begin_footer(self, writer: pq.ParquetWriter) -> None:
        """Leave room for the checksum in the footer that `writer` writes next."""
        writer.add_key_value_metadata({CHECKSUM_KEY: PLACEHOLDER.decode()})
        self._footer = bytearray()

    def finish(self) -> int:
        """Fill in the checksum and make the file visible; return its size in bytes."""
        assert self._footer is not None, "begin_footer comes first"
        start = self._footer.rindex(PLACEHOLDER) + len(CHECKSUM_PREFIX)
        self._hash.update(self._footer)
        self._footer[start : start + 64] = self._hash.hexdigest().encode()
        self._output.write(bytes(self._footer))
        self._footer = bytearray()
        num_bytes = self._output.tell()
        self._output.close()
        return num_bytes

    def discard(self) -> None:
        """Leave nothing behind."""
        self._output.discard()


def open_shard_file(uri: str) -> pq.ParquetFile:
    """Open a shard for reading; the caller closes it with ``close(force=True)``.

    From object storage the columns of a row group are fetched at once; on disk this would only cost threads and copies.

    Raises:
        MissingError, StorageError: storage refuses.
        TableError: the file is damaged.
    """
    with damage_as_table_error(uri):
        return pq.ParquetFile(open_input(uri, in_order=False), pre_buffer="://" in uri, page_checksum_verification=True)


@contextmanager
def open_shard(uri: str) -> Iterator[pq.ParquetFile]:
    """Open a shard for reading while the block lasts.

    Raises:
        MissingError, StorageError: storage refuses, here or at a read inside the block.
        TableError: the file is damaged.
    """
    shard = open_shard_file(uri)
    try:
        with damage_as_table_error(uri):
            yield shard
    finally:
        shard.close(force=True)


@contextmanager
def damage_as_table_error(uri: str) -> Iterator[None]:
    """Turn pyarrow's errors about a damaged file into `TableError`.

    Raises:
        TableError: naming the shard and the remedy.
    """
    with translate_errors(uri):
        try:
            yield
        except SbertError:
            raise
        except (pa.ArrowInvalid, OSError) as error:
            detail = " ".join(str(error).split())
            if not isinstance(error, pa.ArrowInvalid) and not DAMAGE_WORDS.search(detail):
                raise
            raise TableError(
                f"{uri}: the shard is damaged ({detail}): list all damage with `sbert verify`, and rebuild its "
                "rows with `sbert backfill --force`"
            ) from error


def is_damage(problem: str | None) -> bool:
    """Return whether a problem of `file_checksum_problem` says that bytes of the file are wrong.

    Such a file must not be parsed: a library that trusts it may end the process (Polars does, by the name of a column).
    """
    return problem is not None and DAMAGED in problem


def file_checksum_problem(uri: str, num_bytes: int) -> tuple[str | None, bool]:
    """Read a whole shard; return what is wrong with its size or checksum (None: nothing), and whether it has a checksum.

    Args:
        uri: the shard.
        num_bytes: its size according to the log.

    Raises:
        MissingError, StorageError: storage refuses.
    """
    with open_input(uri) as file:
        size = file.seek(0, io.SEEK_END)
        problem = f"is {size:,} bytes long, the log says {num_bytes:,}" if size != num_bytes else None
        footer_start = _footer_start(file, size)
        if footer_start is None:
            return problem or f"{DAMAGED}: it does not end as a Parquet file does", False
        file.seek(footer_start)
        footer = file.read(size - footer_start)
        written = CHECKSUM.search(footer)
        if written is None:
            # The length of the footer may be what is damaged, so that the checksum lies before its supposed beginning.
            file.seek(max(0, min(footer_start, size - TRACE_BYTES)))
            has_trace = CHECKSUM_TRACE.search(file.read()) is not None
            return _and(problem, f"{DAMAGED}: its checksum cannot be read" if has_trace else None), has_trace
        digest = hashlib.sha256()
        file.seek(0)
        remaining = footer_start
        while remaining and (block := file.read(min(READ_BYTES, remaining))):
            digest.update(block)
            remaining -= len(block)
    start, end = written.span(1)
    digest.update(footer[:start] + b"0" * 64 + footer[end:])
    if digest.hexdigest().encode() != written.group(1):
        problem = _and(problem, f"{DAMAGED}: its bytes do not agree with its checksum")
    return problem, True


def _and(first: str | None, second: str | None) -> str | None:
    return "; ".join(filter(None, (first, second))) or None


def _footer_start(file: Any, size: int) -> int | None:
    if size < TAIL_BYTES:
        return None
    file.seek(size - TAIL_BYTES)
    tail = file.read(TAIL_BYTES)
    start = size - TAIL_BYTES - int.from_bytes(tail[:4], "little")
    return start if tail[4:] == b"PAR1" and start > 0 else None

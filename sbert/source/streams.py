"""The bytes of an object as a stream, decompressed, with the errors of decoders under one name."""

import bz2
import lzma
import zipfile
import zlib
from collections.abc import Iterator
from contextlib import AbstractContextManager, contextmanager
from typing import Any

import pyarrow as pa

from sbert.errors import BrokenObjectError, SbertError
from sbert.source.objects import Compression, SourceObject, Span
from sbert.storage.files import open_input

BROKEN = (
    OSError,  # pyarrow's errors are OSErrors and ValueErrors
    ValueError,
    EOFError,
    NotImplementedError,  # zipfile raises it for compressions and versions of archives that it does not know
    lzma.LZMAError,
    zipfile.BadZipFile,
    zlib.error,
)
"""Errors of decoders: the data is not what its name or its first bytes say, or ends too early."""
MAX_EXPANSION = 1_000
"""Text that is compressed gets smaller by up to a hundred times; a bomb by far more."""
ALWAYS_BYTES = 256 * 2**20
"""So much may come out of any object."""

__all__ = ["ALWAYS_BYTES", "BROKEN", "MAX_EXPANSION", "broken_data", "decompressed", "open_stream"]


@contextmanager
def broken_data(uri: str) -> Iterator[None]:
    """Raise errors of decoders as `BrokenObjectError`; errors of storage are `StorageError` already and pass."""
    try:
        yield
    except SbertError:
        raise
    except pa.ArrowNotImplementedError as error:
        detail = f"holds what Arrow cannot read ({error}): write the column as text, or the object without it"
        raise BrokenObjectError(uri, detail) from error
    except BROKEN as error:
        raise BrokenObjectError(uri, f"cannot be read to its end: {' '.join(str(error).split())[:300]}") from error


@contextmanager
def open_stream(span: Span) -> Iterator[Any]:
    """Open an object for reading in order, decompressed.

    Raises:
        BrokenObjectError: while reading, when the data becomes far larger than any text does, as that of a bomb.
    """
    item = span.object
    with _member(item) if item.archive else open_input(item.uri) as raw:
        if item.compression is Compression.NONE:
            yield raw
        else:
            with decompressed(raw, item.compression) as stream:
                yield _Limited(stream, item.uri, item.num_bytes)


@contextmanager
def _member(item: SourceObject) -> Iterator[Any]:
    with (
        open_input(item.archive, in_order=False) as file,
        zipfile.ZipFile(file) as archive,
        archive.open(item.member) as raw,
    ):
        yield raw


def decompressed(raw: Any, compression: Compression) -> AbstractContextManager[Any]:
    """Return the decompressed bytes of a file as a stream."""
    if compression is Compression.BZ2:
        return bz2.BZ2File(raw)
    if compression is Compression.XZ:
        return lzma.LZMAFile(raw)
    stream: AbstractContextManager[Any] = pa.CompressedInputStream(pa.PythonFile(raw, mode="r"), compression.value)
    return stream


class _Limited:
    """A stream that ends with an error when it gives far more than was stored."""

    def __init__(self, stream: Any, uri: str, stored_bytes: int) -> None:
        self._stream = stream
        self._uri = uri
        self._stored_bytes = stored_bytes
        self._left = max(ALWAYS_BYTES, MAX_EXPANSION * stored_bytes)

    def read(self, num_bytes: int = -1) -> bytes:
        """Return the next bytes.

        Raises:
            BrokenObjectError: when there are too many.
        """
        data: bytes = self._stream.read(num_bytes)
        self._left -= len(data)
        if self._left < 0:
            raise BrokenObjectError(
                self._uri,
                f"its {self._stored_bytes:,} bytes expand to more than {MAX_EXPANSION:,} times their size, as in an archive "
                "bomb: if this is text, store it uncompressed",
            )
        return data

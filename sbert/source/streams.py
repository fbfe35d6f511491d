"""The bytes of an object as a stream, decompressed, with the errors of decoders under one name."""

from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import pyarrow as pa

from sbert.errors import BrokenObjectError, SbertError
from sbert.source.objects import Compression, Span
from sbert.storage.files import open_input

__all__ = ["broken_data", "open_stream"]


@contextmanager
def broken_data(uri: str) -> Iterator[None]:
    """Raise errors of decoders as `BrokenObjectError`; errors of storage are `StorageError` already and pass."""
    try:
        yield
    except SbertError:
        raise
    except (OSError, ValueError, EOFError) as error:  # pyarrow's errors are OSErrors and ValueErrors
        raise BrokenObjectError(uri, f"cannot be read to its end: {' '.join(str(error).split())[:300]}") from error


@contextmanager
def open_stream(span: Span) -> Iterator[Any]:
    """Open an object for reading in order, decompressed."""
    with open_input(span.object.uri) as raw:
        if span.object.compression is Compression.NONE:
            yield raw
        else:
            with pa.CompressedInputStream(pa.PythonFile(raw, mode="r"), span.object.compression.value) as stream:
                yield stream

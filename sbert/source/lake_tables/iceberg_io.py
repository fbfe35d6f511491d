"""Files for pyiceberg through this library's own storage: the same endpoint, credentials, retries and errors.

Only metadata passes here: small files that are read whole.
"""

import io
from typing import Any

from pyiceberg.io import FileIO, InputFile, OutputFile

from sbert.errors import MissingError
from sbert.storage.files import normalize_uri, read_bytes

__all__ = ["StorageIO"]


class StorageFile(InputFile):
    """A file of the table's metadata."""

    def _read(self) -> bytes:
        location = self.location.removeprefix("file:").replace("s3a://", "s3://", 1)
        return read_bytes(normalize_uri(location if "://" in location else "/" + location.lstrip("/")))

    def __len__(self) -> int:
        return len(self._read())

    def exists(self) -> bool:
        """Return whether the file is there."""
        try:
            self._read()
        except MissingError:
            return False
        return True

    def open(self, seekable: bool = True) -> Any:  # noqa: ARG002
        """Return the whole content."""
        return io.BytesIO(self._read())


class StorageIO(FileIO):
    """Reads files; nothing is ever written to a source."""

    def new_input(self, location: str) -> InputFile:
        """Return a file to read."""
        return StorageFile(location)

    def new_output(self, location: str) -> OutputFile:
        """Refuse: a source is only read."""
        raise io.UnsupportedOperation(f"{location}: a source is only read, nothing is written to it")

    def delete(self, location: str | InputFile | OutputFile) -> None:
        """Refuse: a source is only read."""
        raise io.UnsupportedOperation(f"{location}: a source is only read, nothing is removed from it")

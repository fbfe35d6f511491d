"""Write a local file so that a reader sees all of it or nothing, also after a kill at any moment.

The bytes go to a temporary file beside the target. Once they are on disk, the file gets its name in one step.
"""

import os
import posixpath
import uuid
from contextlib import suppress
from pathlib import Path
from typing import IO

__all__ = ["LocalWrite"]


class LocalWrite:
    """A local file being written; call `replace`, `create` or `discard` once."""

    def __init__(self, path: str) -> None:
        """Open a temporary file beside `path`, and make the folder if it does not exist."""
        self._path = path
        folder, name = posixpath.split(path)
        Path(folder).mkdir(parents=True, exist_ok=True)
        self._temporary = posixpath.join(folder, f".{name}.{uuid.uuid4().hex}.tmp")
        self.file: IO[bytes] = open(self._temporary, "wb")  # noqa: PTH123, SIM115  (closed below)

    def replace(self) -> None:
        """Rename the file to its name; a file that already has this name is replaced."""
        try:
            self._finish()
            os.replace(self._temporary, self._path)  # noqa: PTH105
        finally:
            self.discard()

    def create(self) -> bool:
        """Rename the file to its name unless the name is taken; return whether the name was free."""
        try:
            self._finish()
            os.link(self._temporary, self._path)
        except FileExistsError:
            return False
        finally:
            self.discard()
        return True

    def discard(self) -> None:
        """Remove the temporary file."""
        with suppress(OSError):
            self.file.close()
        with suppress(FileNotFoundError):
            os.unlink(self._temporary)  # noqa: PTH108

    def _finish(self) -> None:
        self.file.flush()
        os.fsync(self.file.fileno())
        self.file.close()

"""Local copies of segments of tables in object storage, checked once, and never more than a limit.

Segments of a table on a local disk are opened where they are. On each machine the checksum of a file is computed once: a
copy is checked while it is made, and a local file before it is first opened, which an empty file in the cache notes.
"""

import hashlib
import logging
import os
import shutil
import time
from collections.abc import Iterable
from contextlib import suppress
from pathlib import Path

from sbert.storage.errors import translate_errors
from sbert.storage.files import join
from sbert.storage.local_write import LocalWrite
from sbert.table.segment_check import INDEX_CHECK, check_segment_file
from sbert.table.vector_segments import SegmentFile

__all__ = [
    "BUILDING",
    "CACHE_LIMIT_VARIABLE",
    "cache_folder",
    "forget_segment",
    "local_file",
    "note_as_checked",
    "shrink_cache",
]

log = logging.getLogger(__name__)

CACHE_LIMIT_VARIABLE = "SBERT_INDEX_CACHE_BYTES"
DEFAULT_LIMIT = 20 * 2**30
BUILDING = "building-"
"""Begins the names of folders in which segments are built."""
UNFINISHED_SECONDS = 24 * 3_600
"""A copy or a segment that was begun this long ago and is still unfinished belongs to a process that died."""


def cache_folder() -> Path:
    """Return the folder of the cache: ``$XDG_CACHE_HOME/sbert/index``, by default below ``~/.cache``."""
    return Path(os.environ.get("XDG_CACHE_HOME", Path.home() / ".cache")) / "sbert" / "index"


def local_file(folder_uri: str, segment: str, file: SegmentFile, *, command: str = INDEX_CHECK) -> Path:
    """Return a local file with the content of a segment's file, copied and checked where that is needed.

    Several processes may do this at the same time: a copy appears under its name when it is whole.

    Args:
        folder_uri: folder of the index that the segment belongs to.
        segment: name of the segment's first file, which no other segment of the folder ever has.
        file: the file.
        command: command that builds a damaged segment again, for the error.

    Raises:
        TableError: the content is not what the record says.
        MissingError, StorageError: the file cannot be read.
    """
    uri = join(folder_uri, file.name)
    folder = _folder_of(folder_uri, segment)
    target = folder / file.name
    if "://" not in uri:
        with translate_errors(uri):
            status = Path(uri).stat()
            note = folder / f"{file.name}.{status.st_size}-{status.st_mtime_ns}.checked"
            if not note.exists():
                check_segment_file(uri, file, command=command)
                note_as_checked(folder_uri, segment, file)
        return Path(uri)
    with translate_errors(str(target)):
        if not (target.exists() and target.stat().st_size == file.num_bytes):
            copy = LocalWrite(str(target))
            try:
                check_segment_file(uri, file, copy, command=command)
                copy.replace()
            finally:
                copy.discard()
        os.utime(folder)  # the folder that was used longest ago leaves first
    return target


def note_as_checked(folder_uri: str, segment: str, file: SegmentFile) -> None:
    """Note that a file on a local disk has the checksum of its record."""
    status = (Path(folder_uri) / file.name).stat()
    folder = _folder_of(folder_uri, segment)
    folder.mkdir(parents=True, exist_ok=True)
    (folder / f"{file.name}.{status.st_size}-{status.st_mtime_ns}.checked").touch()


def forget_segment(folder_uri: str, segment: str) -> None:
    """Remove the local copy of a segment."""
    shutil.rmtree(_folder_of(folder_uri, segment), ignore_errors=True)


def shrink_cache(in_use: Iterable[tuple[str, str]] = ()) -> None:
    """Remove the segments that were used longest ago, until the cache is within its limit of `CACHE_LIMIT_VARIABLE` bytes.

    An open segment stays readable after it was removed, so other processes are not disturbed.

    Args:
        in_use: folder and name of the segments that stay whatever their size.
    """
    limit = int(os.environ.get(CACHE_LIMIT_VARIABLE, DEFAULT_LIMIT))
    kept = {_folder_of(folder_uri, segment) for folder_uri, segment in in_use}
    sizes: dict[Path, int] = {}
    for folder in (path for path in cache_folder().glob("*") if path.is_dir()):
        if folder.name.startswith(BUILDING):
            with suppress(FileNotFoundError):
                if folder.stat().st_mtime < time.time() - UNFINISHED_SECONDS:
                    shutil.rmtree(folder, ignore_errors=True)
            continue
        for path in folder.iterdir():
            with suppress(FileNotFoundError):
                status = path.stat()
                if path.suffix == ".tmp" and status.st_mtime < time.time() - UNFINISHED_SECONDS:
                    path.unlink()
                sizes[folder] = sizes.get(folder, 0) + status.st_size
    total = sum(sizes.values())
    for folder in sorted(sizes.keys() - kept, key=lambda folder: folder.stat().st_mtime if folder.exists() else 0):
        if total <= limit:
            break
        log.info("%s: removed from the cache of indexes, which holds at most %d bytes", folder.name, limit)
        shutil.rmtree(folder, ignore_errors=True)
        total -= sizes[folder]


def _folder_of(folder_uri: str, segment: str) -> Path:
    key = hashlib.sha256(f"{folder_uri}|{segment}".encode()).hexdigest()[:32]
    return cache_folder() / key

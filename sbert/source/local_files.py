"""Walk a folder of a local disk, following links.

fsspec reports a link with the link's own time, an unreachable target as an empty file, and passes over links to folders and
folders that it may not list. Each of these would lose rows without a word.
"""

import errno
import logging
import os
import stat
from typing import Any

__all__ = ["local_info", "walk_folder"]

log = logging.getLogger(__name__)


def walk_folder(folder: str, max_depth: int | None = None) -> dict[str, dict[str, Any]]:
    """Return the file information of every file below a folder, by path; empty when there is no folder.

    Args:
        folder: where to start.
        max_depth: how many levels to go down; None for all.

    Raises:
        OSError: when a folder cannot be listed.
    """
    files: dict[str, dict[str, Any]] = {}
    if os.path.isdir(folder):  # noqa: PTH112
        _walk(folder, [os.path.realpath(folder)], files, max_depth)
    return files


def _walk(folder: str, inside: list[str], files: dict[str, dict[str, Any]], max_depth: int | None) -> None:
    """Add the files below a folder; `inside` has the real paths of the folders that it lies in, itself included."""
    with os.scandir(folder) as entries:
        names = sorted(entry.name for entry in entries)
    prefix = f"{folder.rstrip('/')}/"
    for name in names:
        path = prefix + name
        info = local_info(path)
        if not info:
            continue  # removed since the folder was listed
        if info["type"] != "directory":
            files[path] = info
            continue
        if name.startswith((".", "_")):
            files |= {f"{path}/{hidden}": {"type": "hidden"} for hidden in _hidden_names(path)}
            continue
        real = os.path.realpath(path)
        if real in inside:
            log.warning("%s: is a link to a folder that it lies in (%s): passed over", path, real)
        elif max_depth is None or max_depth > 1:
            _walk(path, [*inside, real], files, None if max_depth is None else max_depth - 1)


def _hidden_names(folder: str) -> list[str]:
    """Return the names in a folder that is not read, which tell whether it is the log of a table."""
    try:
        return os.listdir(folder)  # noqa: PTH208
    except OSError:
        return []


def local_info(path: str) -> dict[str, Any]:
    """Return size, time and type of a path, of its target for a link; empty when nothing is there.

    ``unreadable`` says why a file cannot be opened, when that is known already. ``may_be_folder`` says that it may be a
    folder of files: nobody can tell what a link led to whose target is gone.
    """
    try:
        status = os.stat(path)  # noqa: PTH116
    except OSError as error:
        is_link = os.path.islink(path)  # noqa: PTH114
        if not is_link and error.errno in {errno.ENOENT, errno.ENOTDIR}:
            return {}
        reason = os.strerror(error.errno or 0)
        if is_link:
            reason = f"a link to {os.readlink(path)} ({reason}): restore the target or remove the link"  # noqa: PTH115
        return {"type": "file", "size": 0, "unreadable": f"cannot be opened: {reason}", "may_be_folder": True}
    kind = "directory" if stat.S_ISDIR(status.st_mode) else "file"
    info = {"type": kind, "size": status.st_size, "mtime": status.st_mtime}
    if kind == "file" and not stat.S_ISREG(status.st_mode):
        info["unreadable"] = "cannot be opened: a pipe, socket or device, not a file"
    return info

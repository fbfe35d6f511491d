"""List the objects under a raw URI, with the version that tells whether they changed.

A row leaves the table when its object is no longer listed. So an object that is there but cannot be opened is listed as
unreadable, and a folder that cannot be listed is an error.
"""

import datetime as dt
import logging
import re
from collections import Counter
from typing import Any

from fsspec.utils import glob_translate

from sbert.errors import EmptySourceError, MissingError
from sbert.source.formats.registry import READ_ENDINGS, format_of_name
from sbert.source.local_files import local_info, walk_folder
from sbert.source.objects import SourceObject
from sbert.source.table_folders import refuse_inside_table, refuse_table_folders
from sbert.storage.files import base_name, filesystem, normalize_uri, strip_protocol, translate_errors
from sbert.storage.retry import try_again

__all__ = ["list_objects"]

log = logging.getLogger(__name__)

Entries = dict[str, dict[str, Any]]
"""The listed facts of each path, in the form of fsspec."""


def list_objects(raw_uri: str) -> list[SourceObject]:
    """Return the readable objects of a file, folder or glob, ordered by URI; one paginated listing.

    Names with a part that begins with ``.`` or ``_`` below the root are passed over, as in every engine. Links on a local
    disk are followed. A link whose target is gone is listed as unreadable.

    Raises:
        MissingError: nothing is there.
        EmptySourceError: something is there, but nothing that can be read.
        SourceError: a folder is a table of Delta Lake, Iceberg or Hudi.
        StorageError: storage refused.
    """
    uri = normalize_uri(raw_uri)
    root, entries = try_again(uri, lambda: _entries(uri))
    protocol = uri.split("://", 1)[0] + "://" if "://" in uri else ""
    refuse_table_folders(protocol, root, entries)
    objects: list[SourceObject] = []
    passed_over: Counter[str] = Counter()
    for path, info in sorted(entries.items()):
        if info.get("type") == "directory" or path.endswith("/") or _is_hidden(path, root):
            continue  # a path that ends with / is a zero-length object that marks a folder
        if not _is_text(path):
            passed_over["(a name that is not UTF-8)"] += 1
            continue
        kind = format_of_name(path)
        if kind is None:
            name = path.rsplit("/", 1)[-1]
            passed_over["." + name.rsplit(".", 1)[-1] if "." in name else "(no ending)"] += 1
            continue
        objects.append(
            SourceObject(
                uri=protocol + path,
                version=_version(info),
                num_bytes=int(info.get("size") or 0),
                modified=_modified(info),
                format=kind[0].name,
                compression=kind[1],
                unreadable=str(info.get("unreadable", "")),
            )
        )
    if passed_over:
        log.warning(
            "%s: %d objects are passed over by their ending or name (%s)", uri, passed_over.total(), _most(passed_over)
        )
    if not objects:
        there = _most(passed_over) or "no objects at all"
        raise EmptySourceError(f"{uri}: nothing to read here (found: {there}). Readable endings are {READ_ENDINGS}")
    return objects


def _most(counts: Counter[str]) -> str:
    return ", ".join(f"{count} {ending}" for ending, count in counts.most_common(5))


def _is_hidden(path: str, root: str) -> bool:
    below = path[len(root) :] if path.startswith(root) else path
    return any(part.startswith((".", "_")) for part in below.split("/"))


def _entries(uri: str) -> tuple[str, Entries]:
    """Return the root that hidden names are looked for below, and what a listing says of each path."""
    path = strip_protocol(uri)
    with translate_errors(uri):
        is_pattern = any(character in path for character in "*?[")
        if is_pattern or format_of_name(uri) is not None:
            info = _info(uri, path)
            if info and info.get("type") != "directory":
                return path.rsplit("/", 1)[0], {path: info}
            is_pattern = is_pattern and not info  # a folder may have such characters in its name
        if is_pattern:
            fixed = path[: min(path.find(character) for character in "*?[" if character in path)].rsplit("/", 1)[0]
            refuse_inside_table(uri, fixed)
            entries = _matching(uri, path, fixed)
            if not entries:
                raise MissingError(f"{uri}: no object matches this pattern", uri=uri)
            return fixed, entries
        if "=" in base_name(path):  # perhaps a partition of a table
            refuse_inside_table(uri, path)
        entries = walk_folder(path) if "://" not in uri else filesystem(uri).find(path, detail=True)
    # s3fs finds a key that is the prefix itself; only what is below it belongs to the folder.
    below = {key: value for key, value in entries.items() if key.rstrip("/") != path.rstrip("/")}
    if not below:
        _raise_when_missing(uri)
    return path, below


def _info(uri: str, path: str) -> dict[str, Any]:
    """Return what is known of one path; empty when nothing is there."""
    if "://" not in uri:
        return local_info(path)
    try:
        return dict(filesystem(uri).info(path))
    except FileNotFoundError:
        return {}


def _matching(uri: str, pattern: str, fixed: str) -> Entries:
    """Return the objects whose path matches a pattern."""
    if "://" in uri:
        entries = filesystem(uri).glob(pattern, detail=True)
    else:
        matches = re.compile(glob_translate(pattern)).match
        depth = None if "**" in pattern else pattern.count("/") - fixed.count("/")
        entries = {path: info for path, info in walk_folder(fixed or "/", depth).items() if matches(path)}
    return {path: info for path, info in entries.items() if info.get("type") != "directory"}


def _raise_when_missing(uri: str) -> None:
    fs = filesystem(uri)
    path = strip_protocol(uri)
    with translate_errors(uri):
        if "://" not in uri:
            if not fs.exists(path):
                raise MissingError(f"{uri}: no such file or folder", uri=uri)
        else:
            fs.ls(path.split("/", 1)[0], detail=False)  # raises when the bucket is missing or refused
            raise MissingError(f"{uri}: no objects under this prefix", uri=uri)


def _is_text(path: str) -> bool:
    """Return whether a name can be written down; on disk any bytes can be one."""
    try:
        path.encode("utf-8")
    except UnicodeEncodeError:
        return False
    return True


def _version(info: dict[str, Any]) -> str:
    etag = info.get("ETag") or info.get("etag")
    if etag:
        return str(etag).strip('"')
    if "mtime" in info:
        return f"{info.get('size')}-{int(float(info['mtime']) * 1e6)}"
    return f"{info.get('size')}-{info.get('LastModified') or info.get('last_modified') or info.get('updated') or ''}"


def _modified(info: dict[str, Any]) -> dt.datetime | None:
    value = info.get("LastModified") or info.get("mtime")
    if isinstance(value, dt.datetime):
        return value
    return dt.datetime.fromtimestamp(value, dt.UTC) if isinstance(value, int | float) else None

"""List the objects under a raw URI, with the version that tells whether they changed.

A row leaves the table when its object is no longer listed. So an object that is there but cannot be opened is listed as
unreadable, and a folder that cannot be listed is an error.
"""

import datetime as dt
import logging
import posixpath
import re
from collections import Counter
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field
from typing import Any

from fsspec.utils import glob_translate

from sbert.counted import counted
from sbert.errors import EmptySourceError, MissingError, StorageError
from sbert.source.archives import archive_members, is_archive
from sbert.source.folder_keys import folder_keys
from sbert.source.formats.all_formats import READ_ENDINGS, format_of, format_of_name, named_format
from sbert.source.formats.base import SourceFormat
from sbert.source.formats.looking import format_by_looking, is_part_name
from sbert.source.lake_tables import iceberg
from sbert.source.lake_tables.recognise import (
    TableFolder,
    is_hidden,
    is_table,
    refuse_other_tables,
    table_above,
    tables_in,
)
from sbert.source.local_files import local_info, walk_folder
from sbert.source.objects import Compression, SourceObject
from sbert.storage.errors import translate_errors
from sbert.storage.files import filesystem, normalize_uri, strip_protocol
from sbert.storage.retry import try_again

__all__ = ["list_objects"]

log = logging.getLogger(__name__)

Entries = dict[str, dict[str, Any]]
"""The listed facts of each path, in the form of fsspec."""
Kind = tuple[SourceFormat, Compression]
MAX_THREADS = 16
NO_ENDING = "(no ending)"
UNKNOWN: Kind = (format_of("txt"), Compression.NONE)
"""Stands for the format of what is not read itself, because its members are the objects."""
HIDDEN = "hidden"
"""Stands for the ending of objects that are passed over because a part of their name begins with ``.`` or ``_``."""


def list_objects(raw_uri: str, named: str | None = None, *, documents: bool = True) -> list[SourceObject]:
    """Return the readable objects of a file, folder or glob, ordered by URI; one paginated listing.

    Without `documents`, those of formats such as Markdown are passed over.

    Names with a part that begins with ``.`` or ``_`` below the root are passed over, as in every engine. Links on a local
    disk are followed. A link whose target is gone is listed as unreadable, whatever its name: it may have led to a folder.
    Of a table of Delta Lake or Iceberg, the objects are the files of its newest version.

    Args:
        raw_uri: where to look.
        named: format of the objects whose names do not say it (`source.format`); None to pass them over.

    Raises:
        SettingsError: there is no format `named`.
        MissingError: nothing is there.
        EmptySourceError: something is there, but nothing that can be read.
        SourceError: a table of Delta Lake or Iceberg cannot be read, or a folder is a table of Hudi.
        StorageError: storage refused.
    """
    uri = normalize_uri(raw_uri)
    listing = try_again(uri, lambda: _list(uri, is_object=named is not None))
    protocol = uri.split("://", 1)[0] + "://" if "://" in uri else ""
    objects = [item for table in listing.tables for item in _table_files(table, protocol) if listing.includes(item.uri)]
    inside = tuple(f"{table.path}/" for table in listing.tables)
    entries = {path: listing.entries[path] for path in sorted(listing.entries) if not path.startswith(inside)}
    refuse_other_tables(protocol, listing.root, entries)
    readable = _Readable(protocol, listing.root, named, documents)
    for path, info in entries.items():
        readable.add(path, info)
    members = _members_of(readable.archives, named)
    objects += readable.objects
    objects += [item for item in members if documents or not format_of(item.format).is_document]
    readable.log_passed_over(uri)
    if not objects:
        raise EmptySourceError(_nothing_here(uri, listing, readable.passed_over))
    return sorted(objects, key=lambda item: item.uri)


class _Readable:
    """Sorts the entries of a listing: objects, archives, and names that are passed over."""

    def __init__(self, protocol: str, root: str, named: str | None, documents: bool) -> None:
        self._protocol, self._root, self._named, self._documents = protocol, root, named, documents
        self._by_folder: dict[str, Kind | None] = {}
        self._examples: dict[str, str] = {}
        self.objects: list[SourceObject] = []
        self.archives: list[SourceObject] = []
        self.passed_over: Counter[str] = Counter()
        """Entries that are not read, by their ending or the reason."""

    def add(self, path: str, info: dict[str, Any]) -> None:
        """Sort one entry."""
        if info.get("type") == "directory" or path.endswith("/"):
            return  # a path that ends with / is a zero-length object that marks a folder
        if is_hidden(path, self._root):
            self.passed_over[HIDDEN] += 1
        elif not _is_text(path):
            self.passed_over["(a name that is not UTF-8)"] += 1
        elif is_archive(path):
            self.archives.append(_object(self._protocol, path, info, self._root, UNKNOWN))
        else:
            self._add_object(path, info)

    def _add_object(self, path: str, info: dict[str, Any]) -> None:
        kind = _kind(self._protocol, path, info, self._by_folder, self._named)
        if kind is None and info.get("may_be_folder"):
            kind = UNKNOWN  # unreadable: the rows of the objects below it stay
        if kind is None or (kind[0].is_document and not self._documents):
            name = path.rsplit("/", 1)[-1]
            ending = "." + name.rsplit(".", 1)[-1] if "." in name else NO_ENDING
            self.passed_over[ending] += 1
            self._examples.setdefault(ending, path)
        else:
            self.objects.append(_object(self._protocol, path, info, self._root, kind))

    def log_passed_over(self, uri: str) -> None:
        """Log the objects that are passed over; hidden names alone are no reason to warn."""
        if self.passed_over:
            log.log(
                logging.INFO if self.passed_over.keys() == {HIDDEN} else logging.WARNING,
                "%s: %s passed over by their ending or name (%s)%s",
                uri,
                counted(self.passed_over.total(), "object"),
                _most(self.passed_over),
                _example(self._protocol, self._examples),
            )


def _table_files(table: TableFolder, protocol: str) -> list[SourceObject]:
    files = table.files(protocol)
    if files and files[0].table is not None:
        log.info("%s: table of %s, version %s, %d files", table.path, table.kind, files[0].table.version, len(files))
    return files


def _object(protocol: str, path: str, info: dict[str, Any], root: str, kind: Kind) -> SourceObject:
    return SourceObject(
        uri=protocol + path,
        version=_version(info),
        num_bytes=int(info.get("size") or 0),
        modified=_modified(info),
        format=kind[0].name,
        compression=kind[1],
        unreadable=str(info.get("unreadable", "")),
        values=folder_keys(path, root),
    )


def _kind(
    protocol: str, path: str, info: dict[str, Any], by_folder: dict[str, Kind | None], named: str | None
) -> Kind | None:
    """Return the format and the compression of an object: by its name, by looking at an export's part, or as named."""
    kind = format_of_name(path)
    if kind is None and is_part_name(posixpath.basename(path)):
        kind = _kind_of_parts(protocol, path, info, by_folder)
    return named_format(path, named) if kind is None and named is not None else kind


def _members_of(archives: list[SourceObject], named: str | None) -> list[SourceObject]:
    """Return the members of all archives; each archive costs one small read."""
    if not archives:
        return []
    with ThreadPoolExecutor(MAX_THREADS) as pool:
        members_of_archives = list(pool.map(lambda item: archive_members(item, named), archives))
    return [item for members in members_of_archives for item in members]


def _kind_of_parts(protocol: str, path: str, info: dict[str, Any], by_folder: dict[str, Kind | None]) -> Kind | None:
    """Return the format of an export's parts, told by the first part of each folder and ending that holds anything."""
    folder = posixpath.dirname(path) + posixpath.splitext(path)[1]
    if folder not in by_folder:
        if not info.get("size") or info.get("unreadable"):
            return None
        told = format_by_looking(protocol + path)
        by_folder[folder] = None if told is None else (format_of(told[0]), told[1])
    return by_folder[folder]


def _nothing_here(uri: str, listing: "Listing", passed_over: Counter[str]) -> str:
    if listing.tables and not passed_over:
        first = listing.tables[0]
        return f"{uri}: the newest version of the {first.kind} table {first.path} has no such file"
    there = _most(passed_over) or "no objects at all"
    named = "; source.format names the format of objects whose names do not say it" if passed_over else ""
    return f"{uri}: nothing to read here (found: {there}). Readable endings are {READ_ENDINGS}{named}"


def _example(protocol: str, examples: dict[str, str]) -> str:
    """Return one object that is passed over, and the remedy for objects without an ending."""
    if not examples:
        return ""
    path = examples.get(NO_ENDING) or next(iter(examples.values()))
    looking = (
        "only Parquet and JSON are told by looking; source.format names another format of objects without an ending"
    )
    return f", such as {protocol}{path}" + (f": {looking}" if NO_ENDING in examples else "")


def _most(counts: Counter[str]) -> str:
    return ", ".join(f"{count} {ending}" for ending, count in counts.most_common(5))


@dataclass(frozen=True)
class Listing:
    """Entries of a location."""

    root: str
    """Path of the folder below which hidden names count."""
    entries: Entries
    tables: list[TableFolder] = field(default_factory=list)
    """Tables that are read as such; `entries` below them are not objects."""
    includes: Callable[[str], bool] = lambda _: True
    """Whether a file of a table, as a URI, was asked for."""


def _list(uri: str, *, is_object: bool = False) -> Listing:
    """List a location; `is_object` says that any name may be an object's."""
    path = strip_protocol(uri)
    if path.endswith(iceberg.METADATA_ENDINGS):
        return Listing(path, {}, [TableFolder(path, iceberg.KIND)])
    with translate_errors(uri):
        is_pattern = any(character in path for character in "*?[")
        if (
            is_pattern
            or is_object
            or is_archive(uri)
            or format_of_name(uri) is not None
            or is_part_name(posixpath.basename(path))
        ):
            info = _info(uri, path)
            if info and info.get("type") != "directory":
                return _file(uri, path, info)
            is_pattern = is_pattern and not info  # a folder may have such characters in its name
        if is_pattern:
            return _pattern(uri, path)
        above = table_above(uri)
        if above is not None:
            folder = "" if above[0] == uri else f"{uri}/"  # the files of a clone lie elsewhere
            return Listing(path, {}, [_folder(above)], lambda file: file.startswith(folder))
        entries = walk_folder(path) if "://" not in uri else filesystem(uri).find(path, detail=True)
    # s3fs finds a key that is the prefix itself; only what is below it belongs to the folder.
    below = {key: value for key, value in entries.items() if key.rstrip("/") != path.rstrip("/")}
    if not below:
        _raise_when_missing(uri)
    return Listing(path, below, tables_in(below, path))


def _file(uri: str, path: str, info: dict[str, Any]) -> Listing:
    """List one file; of a table only if the newest version has it."""
    try:
        above = table_above(posixpath.dirname(uri))
    except StorageError as error:
        if error.transient:
            raise
        above = None  # who may read the file need not be allowed to list the folder
    tables = [] if above is None else [_folder(above)]
    return Listing(path.rsplit("/", 1)[0], {path: info}, tables, lambda file: file == uri)


def _pattern(uri: str, path: str) -> Listing:
    """List the objects whose path matches a pattern, and the objects of the tables that it reaches into."""
    fixed = path[: min(path.find(character) for character in "*?[" if character in path)].rsplit("/", 1)[0]
    protocol = uri.removesuffix(path)
    matches = re.compile(glob_translate(path)).match
    depth = None if "**" in path else path.count("/") - fixed.count("/")
    if "://" in uri:
        entries_below = filesystem(uri).find(fixed, maxdepth=depth, withdirs=True, detail=True)
    else:
        entries_below = walk_folder(fixed or "/", depth)
    above = table_above(protocol + fixed)
    tables = [_folder(above)] if above is not None else tables_in(entries_below, fixed)
    tables = [table for table in tables if is_table(protocol + table.path)]  # a store may list a folder that is gone
    leads_to_match = _matches_a_beginning(path)
    entries = {
        key: info
        for key, info in entries_below.items()
        if (matches(key) and info.get("type") != "directory") or (info.get("may_be_folder") and leads_to_match(key))
    }
    if not entries:
        raise MissingError(_no_match(uri, path), uri=uri)
    return Listing(fixed, entries, tables, lambda file: bool(matches(strip_protocol(file))))


def _matches_a_beginning(pattern: str) -> Callable[[str], bool]:
    """Return a test whether objects that match a pattern may lie in a folder."""
    parts = pattern.split("/")
    beginnings = [re.compile(glob_translate("/".join(parts[:number]))).match for number in range(2, len(parts))]
    return lambda folder: any(matches(folder) for matches in beginnings)


def _no_match(uri: str, path: str) -> str:
    """Return the reason that a pattern has no objects; a pattern of folders does not stand for the objects in them."""
    matched = filesystem(uri).glob(path, detail=True)
    num_folders = sum(info.get("type") == "directory" for info in matched.values())
    said = f"{uri}: no object matches this pattern"
    if not num_folders:
        return said
    folder = "a folder" if num_folders == 1 else f"{num_folders:,} folders"
    return f"{said}, which matches {folder}: write {uri}/* for the objects in them, or {uri}/** for all below"


def _folder(table: tuple[str, str]) -> TableFolder:
    location, kind = table
    return TableFolder(strip_protocol(location), kind)


def _info(uri: str, path: str) -> dict[str, Any]:
    """Return the file information of one path; empty when nothing is there."""
    if "://" not in uri:
        return local_info(path)
    try:
        return dict(filesystem(uri).info(path))
    except FileNotFoundError:
        return {}


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
    if path.isascii():
        return True
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

"""Members of zip archives as objects of their own, called like a file in a folder: ``raw/tickets.zip/2026/a.csv``.

So ids, splits, backfills and the column `source` treat a member like any other object. Its version is that of the archive.
Nothing is ever unpacked to a disk.
"""

import logging
import zipfile
from collections.abc import Iterator
from dataclasses import replace

from sbert.errors import StorageError
from sbert.source.formats.all_formats import format_of, format_of_name, named_format
from sbert.source.lake_tables.recognise import is_hidden
from sbert.source.objects import Compression, SourceObject
from sbert.source.streams import ALWAYS_BYTES, BROKEN, MAX_EXPANSION
from sbert.storage.files import open_input

__all__ = ["archive_members", "is_archive"]

log = logging.getLogger(__name__)

IS_ENCRYPTED = 0x1
"""Bit of a member's flags."""


def is_archive(path: str) -> bool:
    """Return whether a name is that of a zip archive."""
    return path[-4:].lower() == ".zip"  # called for every object


def archive_members(archive: SourceObject, named: str | None) -> list[SourceObject]:
    """Return the readable members of an archive; only its directory is read.

    A member that may not be read (encrypted, a name that leads out of the archive) is listed as unreadable. An archive that
    cannot be read is itself listed as an unreadable object.

    Args:
        archive: the archive, as an object.
        named: format of the members whose names do not say it; None to pass them over.
    """
    if archive.unreadable or not archive.num_bytes:
        return [archive]
    try:
        with open_input(archive.uri, in_order=False) as file, zipfile.ZipFile(file) as opened:
            infos = {info.filename: info for info in opened.infolist() if not info.is_dir()}
    except StorageError as error:
        if error.transient:
            raise
        return [replace(archive, unreadable=f"cannot be opened: {error}")]
    except BROKEN as error:
        return [replace(archive, unreadable=f"is not a zip archive that can be read: {error}")]
    total = sum(info.file_size for info in infos.values())
    if total > max(ALWAYS_BYTES, MAX_EXPANSION * archive.num_bytes):
        reason = (
            f"its {archive.num_bytes:,} bytes would expand to {total:,}, more than {MAX_EXPANSION:,} times their size, as "
            "in an archive bomb: if its members are text, store them uncompressed"
        )
        return [replace(archive, unreadable=reason)]
    members = list(_objects(archive, infos, named))
    if len(members) < len(infos):
        log.warning(
            "%s: %d of %d members are passed over by their name", archive.uri, len(infos) - len(members), len(infos)
        )
    return members


def _objects(archive: SourceObject, infos: dict[str, zipfile.ZipInfo], named: str | None) -> Iterator[SourceObject]:
    for name, info in sorted(infos.items()):
        unreadable = _reason(name, info)
        kind = format_of_name(name) or (None if named is None else named_format(name, named))
        if _leads_out(name):
            kind = kind or (format_of("txt"), Compression.NONE)  # named in the report, whatever its ending
        elif is_hidden(name, ""):
            kind = None
        if kind is None:
            continue
        if not kind[0].may_be_compressed:
            unreadable = (
                unreadable or f"{kind[0].name} objects cannot be read inside a zip archive: store it beside the archive"
            )
        yield replace(
            archive,
            uri=f"{archive.uri}/{name}",
            num_bytes=info.file_size,
            format=kind[0].name,
            compression=kind[1],
            unreadable=unreadable,
            archive=archive.uri,
            member=name,
        )


def _reason(name: str, info: zipfile.ZipInfo) -> str:
    """Return why a member may not be read; empty when it may."""
    if _leads_out(name):
        return "its name leads out of the archive, it is not read: pack the archive again"
    if info.flag_bits & IS_ENCRYPTED:
        return "is encrypted: pack the archive without a password"
    return ""


def _leads_out(name: str) -> bool:
    parts = name.replace("\\", "/").split("/")
    return ".." in parts or not parts[0] or parts[0].endswith(":")

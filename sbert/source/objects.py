"""The objects under a raw URI, with the version that tells whether they changed."""

import datetime as dt
import logging
from collections import Counter
from enum import StrEnum
from typing import Any

from pydantic import BaseModel, ConfigDict, Field

from sbert.errors import EmptySourceError, MissingError
from sbert.storage.files import filesystem, normalize_uri, strip_protocol, translate_errors
from sbert.storage.retry import try_again

__all__ = ["Compression", "ObjectFormat", "SourceObject", "list_objects"]

log = logging.getLogger(__name__)


class ObjectFormat(StrEnum):
    """How rows are written in an object."""

    JSONL = "jsonl"
    CSV = "csv"
    PARQUET = "parquet"
    TEXT = "txt"


class Compression(StrEnum):
    """How an object is compressed as a whole."""

    NONE = "none"
    GZIP = "gzip"
    ZSTD = "zstd"


FORMATS = {
    ".jsonl": ObjectFormat.JSONL,
    ".ndjson": ObjectFormat.JSONL,
    ".csv": ObjectFormat.CSV,
    ".parquet": ObjectFormat.PARQUET,
    ".txt": ObjectFormat.TEXT,
}
COMPRESSIONS = {".gz": Compression.GZIP, ".zst": Compression.ZSTD}
READ_ENDINGS = ".jsonl, .ndjson, .csv, .parquet, .txt, plain or with .gz or .zst"


class SourceObject(BaseModel):
    """One object of the source."""

    model_config = ConfigDict(frozen=True)

    uri: str = Field(description="Where it is: an absolute local path, or a URI.")
    version: str = Field(
        description="Changes when the content does: the store's ETag, else size and modification time."
    )
    num_bytes: int
    modified: dt.datetime | None = None
    format: ObjectFormat
    compression: Compression = Compression.NONE


def kind_of(uri: str) -> tuple[ObjectFormat, Compression] | None:
    """Tell format and compression by the ending of a name; None when it is not one that is read."""
    name = uri.rsplit("/", 1)[-1].lower()
    compression = Compression.NONE
    for ending, kind in COMPRESSIONS.items():
        if name.endswith(ending):
            name, compression = name.removesuffix(ending), kind
    for ending, form in FORMATS.items():
        if name.endswith(ending):
            if form is ObjectFormat.PARQUET and compression is not Compression.NONE:
                return None
            return form, compression
    return None


def list_objects(raw_uri: str) -> list[SourceObject]:
    """Give the readable objects of a file, folder or glob, ordered by URI; one paginated listing.

    Names with a part that begins with ``.`` or ``_`` below the root are passed over, as in every engine.

    Raises:
        MissingError: nothing is there.
        EmptySourceError: something is there, but nothing that can be read.
        StorageError: storage refused.
    """
    uri = normalize_uri(raw_uri)
    root, entries = try_again(uri, lambda: _entries(uri))
    objects: list[SourceObject] = []
    passed_over: Counter[str] = Counter()
    protocol = uri.split("://", 1)[0] + "://" if "://" in uri else ""
    for path, info in sorted(entries.items()):
        below = path[len(root) :].strip("/") if path.startswith(root) else path
        if info.get("type") == "directory" or any(part.startswith((".", "_")) for part in below.split("/") if below):
            continue
        if path.endswith("/"):
            continue  # a zero-length object that marks a folder
        if not _is_text(path):
            passed_over["(a name that is not UTF-8)"] += 1
            continue
        kind = kind_of(path)
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
                format=kind[0],
                compression=kind[1],
            )
        )
    if passed_over:
        seen = ", ".join(f"{count} {ending}" for ending, count in passed_over.most_common(5))
        log.warning("%s: %d objects are passed over by their ending or name (%s)", uri, sum(passed_over.values()), seen)
    if not objects:
        seen = ", ".join(f"{count} {ending}" for ending, count in passed_over.most_common(5)) or "no objects at all"
        raise EmptySourceError(f"{uri}: nothing to read here; read are {READ_ENDINGS}; found: {seen}")
    return objects


def _entries(uri: str) -> tuple[str, dict[str, dict[str, Any]]]:
    """Give the root that hidden names are looked for below, and what a listing says of each path."""
    fs = filesystem(uri)
    path = strip_protocol(uri)
    with translate_errors(uri):
        is_pattern = any(character in path for character in "*?[")
        if is_pattern or kind_of(uri) is not None:
            try:
                info = fs.info(path)
            except FileNotFoundError:
                info = {}
            if info and info.get("type") != "directory":
                return path.rsplit("/", 1)[0], {path: info}
            is_pattern = is_pattern and not info  # a folder may have such characters in its name
        if is_pattern:
            fixed = path[: min(path.find(character) for character in "*?[" if character in path)].rsplit("/", 1)[0]
            found = fs.glob(path, detail=True)
            if not found:
                raise MissingError(f"{uri}: no object matches this pattern", uri=uri)
            return fixed, {key: value for key, value in found.items() if value.get("type") != "directory"}
        found = fs.find(path, detail=True)
    # s3fs finds a key that is the prefix itself; only what is below it belongs to the folder.
    below = {key: value for key, value in found.items() if key.rstrip("/") != path.rstrip("/")}
    if not below:
        _raise_when_missing(uri)
    return path, below


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
    """Tell whether a name can be written down; on disk any bytes can be one."""
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

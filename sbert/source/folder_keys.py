"""Keys of partitioned folders (``lang=en/day=2026-11-01``): columns with one value for all rows of an object.

Spark, Hive, Polars and warehouses write such folders. The values are text, percent-encoded in the name.
"""

from dataclasses import replace
from urllib.parse import unquote

import polars as pl

from sbert.errors import ColumnError
from sbert.source.formats.base import ColumnRequest, RecordBlock
from sbert.source.objects import SourceObject
from sbert.source.settings import SourceSettings
from sbert.source.templates import id_fields, required_columns
from sbert.source.types import written_type

__all__ = ["folder_keys", "keys_asked_for", "types_with_keys", "with_keys", "without_keys"]

NULL = "__HIVE_DEFAULT_PARTITION__"
"""Folder value that stands for null, in every engine."""


def folder_keys(path: str, root: str) -> dict[str, str | None]:
    """Return the keys of the folders of an object: folders below `root`, and key folders at its end."""
    if "=" not in path:
        return {}
    above = root.rstrip("/")
    while "=" in above.rsplit("/", 1)[-1]:
        above = above.rpartition("/")[0]
    folders = path[len(above) :].split("/")[:-1] if path.startswith(above) else []
    pairs = [folder.partition("=") for folder in folders]
    return {unquote(key): _value(value) for key, sign, value in pairs if key and sign}


def _value(written: str) -> str | None:
    return None if written in {"", NULL} else unquote(written)


def keys_asked_for(request: ColumnRequest, source: SourceSettings, item: SourceObject) -> list[str]:
    """Return the requested columns that are folder keys; `id` only where it is named."""
    if not source.folder_keys or item.table is not None:
        return []
    return [name for name in request.columns if name in item.values and (name != "id" or "id" in id_fields(source))]


def without_keys(request: ColumnRequest, keys: list[str]) -> ColumnRequest:
    """Return a request under which an object need not have the columns that its folders give."""
    texts = tuple(name for name in request.texts if name not in keys)
    return replace(
        request,
        texts=texts or request.texts[:1],
        kept=tuple(dict.fromkeys([*request.kept, *keys])),
        required=request.required.difference(keys),
    )


def with_keys(block: RecordBlock, item: SourceObject, keys: list[str]) -> RecordBlock:
    """Put the values of folder keys into a block that was read `without_keys`.

    Raises:
        ColumnError: the object has a column of the same name.
    """
    for name in keys:
        if block.values[name].null_count() < block.values.height:
            raise clash(item, name)
    values = [
        pl.Series(name, [item.values[name]], dtype=pl.String).new_from_index(0, block.values.height) for name in keys
    ]
    return replace(block, values=block.values.with_columns(values))


def types_with_keys(
    item: SourceObject, columns: dict[str, pl.DataType], source: SourceSettings
) -> dict[str, pl.DataType]:
    """Return an object's columns together with its folder keys, typed by their value.

    Raises:
        ColumnError: a column that is kept, or is the text or the id, is both a folder key and a column of the object.
    """
    if not source.folder_keys or item.table is not None or not item.values:
        return columns
    for name in (*required_columns(source), *source.keep_columns):
        if name in item.values and name in columns:
            raise clash(item, name)
    keys = {name: written_type([value or ""]) for name, value in item.values.items() if name not in columns}
    return columns | keys


def clash(item: SourceObject, name: str) -> ColumnError:
    """Return the error for a name that is both."""
    return ColumnError(
        f"{item.uri}: {name!r} is a key of its folder (value {item.values[name]!r}) and a column of the object: "
        "set source.folder_keys to false to read the column of the objects, or leave the column out"
    )

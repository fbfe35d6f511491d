"""Types of kept columns, and whether the named columns are there, from the heads of the source's objects."""

import itertools
from collections.abc import Iterable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor

import polars as pl

from sbert.counted import counted
from sbert.errors import BrokenObjectError, ColumnError, SettingsError, StorageError
from sbert.source.folder_keys import types_with_keys
from sbert.source.formats.all_formats import format_of
from sbert.source.formats.base import missing_column
from sbert.source.nested import may_have_field, missing_field
from sbert.source.objects import SourceObject
from sbert.source.reading import hints_of
from sbert.source.settings import SourceSettings
from sbert.source.templates import nested_fields, required_columns, text_fields
from sbert.source.types import fixed_type, merged_type, storable_type, written_type

__all__ = ["infer_kept_schema"]

Columns = list[tuple[SourceObject, dict[str, pl.DataType]]]
"""Objects that were looked at, with the names and types of their columns."""
MAX_OBJECTS = 512
"""Most objects that are read. From a larger source, objects at even distances in the order of their names are read."""
MAX_HEAD_BYTES = 1 << 20
MIN_HEAD_BYTES = 1 << 16
ALL_HEADS_BYTES = 32 << 20
"""Bytes that are read of all text objects together; each gives an equal share between the two bounds above."""
MAX_THREADS = 16


def infer_kept_schema(objects: Sequence[SourceObject], source: SourceSettings) -> dict[str, pl.DataType]:
    """Return the types of `keep_columns`, which do not depend on the order of the objects.

    All objects are looked at, up to `MAX_OBJECTS`: the schema of Parquet, the head of text formats. A column that only
    some objects have is null in the others. `sbert.source.types` has the rules for types.

    Raises:
        ColumnError: no object has a named column, a table can hold its values in no type, or a folder key clashes with it.
        SettingsError: ``column_types`` names a column that is not kept, or a type that there is not.
    """
    check_column_types(source)
    columns = _columns_of_all(objects, source, only_first=not source.keep_columns)
    wanted = [*required_columns(source), *source.keep_columns]
    is_shown = not columns or (set(wanted) <= columns[0][1].keys() and not _field_errors(columns, source))
    if not source.keep_columns and not is_shown:
        columns = _columns_of_all(objects, source)
    for error in _field_errors(columns, source):
        raise error
    for name in wanted if columns else ():
        if not any(name in types for _, types in columns):
            item, types = columns[0]
            raise ColumnError(f"{missing_column(_place_of(item), name, list(types))}{_others(len(columns))}")
    if not columns and source.keep_columns and all(not format_of(item.format).has_columns for item in objects):
        raise ColumnError(
            f"plain text has no columns {', '.join(source.keep_columns)} to keep: leave keep_columns empty"
        )
    return {name: _kept_type(name, objects, source, columns) for name in source.keep_columns}


def _field_errors(columns: Columns, source: SourceSettings) -> list[ColumnError]:
    """Return an error for each field that a template names inside a column, and that no object shows."""
    errors = (_field_error(field, columns) for field in nested_fields(source) if columns)
    return [ColumnError(f"{error}{_others(len(columns))}") for error in errors if error is not None]


def _field_error(field: str, columns: Columns) -> ColumnError | None:
    """Return the error for a field that no object shows; None where an object has it, or nothing can be told."""
    column, *path = field.split(".")
    if any(field in types for _, types in columns):
        return None
    looks = [(_place_of(item), types[column]) for item, types in columns if column in types]
    if not looks:
        item, types = columns[0]
        return missing_column(_place_of(item), column, list(types))
    lacking = [(uri, kind) for uri, kind in looks if may_have_field(kind, path) is False]
    if not lacking or any(may_have_field(kind, path) for _, kind in looks):
        return None
    return missing_field(lacking[0][0], field, lacking[0][1])


def _place_of(item: SourceObject) -> str:
    """Return the object, or the table whose file it is."""
    return item.uri if item.table is None else item.table.uri


def _others(num_objects: int) -> str:
    if num_objects <= 1:
        return ""
    return f" (nor in {counted(num_objects - 1, 'other object')})"


def _kept_type(name: str, objects: Sequence[SourceObject], source: SourceSettings, columns: Columns) -> pl.DataType:
    """Return the type that holds the values of a kept column in all objects."""
    if name in source.column_types:
        return fixed_type(source.column_types[name])
    kind: pl.DataType = pl.Null()
    for item, types in columns:
        try:
            storable = storable_type(name, types[name]) if types.get(name, pl.Null()) != pl.Null() else pl.Null()
        except ColumnError as error:
            raise ColumnError(f"{item.uri}: {error}") from error
        kind = merged_type(kind, storable)
    if source.folder_keys:  # the keys of all objects are known, not only those of the objects that were looked at
        values = {item.values.get(name) for item in objects if item.table is None}
        kind = merged_type(kind, written_type(value for value in values if value))
    return storable_type(name, kind)


def check_column_types(source: SourceSettings) -> None:
    """Check that every column with a fixed type is kept.

    Raises:
        SettingsError: naming the columns that are not.
    """
    strangers = [name for name in source.column_types if name not in source.keep_columns]
    if strangers:
        kept = ", ".join(source.keep_columns) or "none"
        raise SettingsError(
            f"source.column_types names {', '.join(strangers)}, but the kept columns are {kept}: keep these columns too, or "
            "leave out their types"
        )


def _columns_of_all(objects: Sequence[SourceObject], source: SourceSettings, *, only_first: bool = False) -> Columns:
    """Return the columns of the objects that show some, in the order of their names; on request of the first only."""
    readable = [
        item
        for item in _one_of_each_table(sorted(objects, key=lambda item: item.uri))
        if item.num_bytes and not item.unreadable and (item.values or format_of(item.format).has_columns)
    ]
    step = max(1, -(-len(readable) // MAX_OBJECTS))
    looked_at = readable[::step]
    head_bytes = min(MAX_HEAD_BYTES, max(MIN_HEAD_BYTES, ALL_HEADS_BYTES // max(1, len(looked_at))))

    hints = hints_of(source)

    def columns_of(item: SourceObject) -> dict[str, pl.DataType] | None:
        if not format_of(item.format).has_columns:
            return types_with_keys(item, {text_fields(source)[0]: pl.String()}, source) if source.folder_keys else None
        try:
            columns = format_of(item.format).columns(item, head_bytes, hints)
        except BrokenObjectError:
            return None  # reported when it is read
        except StorageError as error:
            if error.transient:
                raise
            return None  # likewise
        if columns and format_of(item.format).is_document:
            columns = {text_fields(source)[0]: pl.String(), **columns}
        return types_with_keys(item, columns, source) if columns else None

    if only_first:
        return list(itertools.islice(((item, types) for item in looked_at if (types := columns_of(item))), 1))
    with ThreadPoolExecutor(MAX_THREADS) as pool:
        column_types = list(pool.map(columns_of, looked_at))
    return [(item, types) for item, types in zip(looked_at, column_types, strict=True) if types]


def _one_of_each_table(objects: Iterable[SourceObject]) -> Iterator[SourceObject]:
    """Leave out all but the first file of each table: the files of a table have one schema."""
    tables: set[str] = set()
    for item in objects:
        if item.table is None or item.table.uri not in tables:
            yield item
        if item.table is not None:
            tables.add(item.table.uri)

"""Fields inside columns, which templates name with dots: what the head of an object shows of them.

A field that no object shows is refused when planning. Where nothing can be told, such as of text in Parquet, which may
hold JSON, nothing is refused.
"""

import json
from collections.abc import Iterable, Sequence
from typing import Any

import polars as pl

from sbert.errors import ColumnError
from sbert.source.formats.base import there_are

__all__ = ["may_have_field", "missing_field", "paths_by_column", "type_with_fields"]

Path = tuple[str, ...]
"""Names from the outside to the inside."""


def paths_by_column(fields: Iterable[str]) -> dict[str, list[Path]]:
    """Return the paths inside each column that fields with dots name."""
    paths: dict[str, list[Path]] = {}
    for field in fields:
        column, *path = field.split(".")
        paths.setdefault(column, []).append(tuple(path))
    return paths


def type_with_fields(values: Iterable[object], paths: Sequence[Path]) -> pl.DataType:
    """Return the type of a column of JSON values that templates look into.

    It is a Struct of the fields that any of the values has; without fields where values are there, but none is an object.
    It is a List where all values are arrays, and Null where there are only nulls. A string that holds the JSON of an
    object counts as the object, because templates read it so. Types of fields are told along `paths` only; others are Null.
    """
    return _type_of([_object_in(value) for value in values], paths)


def _type_of(values: Sequence[Any], paths: Sequence[Path]) -> pl.DataType:
    there = [value for value in values if value is not None and value != ""]
    if not there:
        return pl.Null()
    if all(isinstance(value, list) for value in there):
        return pl.List(pl.Null())
    fields: dict[str, list[object]] = {}
    for value in there:
        if isinstance(value, dict):
            for name, inner in value.items():
                fields.setdefault(name, []).append(inner)
    inside = {name: [path[1:] for path in paths if path[0] == name and len(path) > 1] for name in fields}
    return pl.Struct(
        {name: _type_of(inner, inside[name]) if inside[name] else pl.Null() for name, inner in fields.items()}
    )


def _object_in(value: object) -> object:
    """Return the object whose JSON a string holds; any other value as it is."""
    if isinstance(value, str) and value.lstrip()[:1] in ("{", "["):
        try:
            return json.loads(value)
        except (ValueError, RecursionError):
            return value
    return value


def may_have_field(kind: pl.DataType, path: Sequence[str]) -> bool | None:
    """Return whether a column of type `kind` has the field at `path`, or may have it; None when it shows only nulls.

    Text may have any field, because it may hold JSON.
    """
    for name in path:
        if kind == pl.Null():
            return None
        if not isinstance(kind, pl.Struct):
            return kind in {pl.String(), pl.Binary(), pl.Unknown()}
        inner = pl.Schema(kind.to_schema())
        if name not in inner:
            return False
        kind = inner[name]
    return True


def missing_field(uri: str, field: str, kind: pl.DataType) -> ColumnError:
    """Return the error for a field that a column of type `kind` lacks: the fields there are, and the likely ones."""
    column, *path = field.split(".")
    place = column
    for name in path:
        if not isinstance(kind, pl.Struct):
            break
        inner = pl.Schema(kind.to_schema())
        if not inner:
            return ColumnError(f"{uri}: no field {name!r} of {{{field}}}: {place!r} holds no JSON objects")
        if name not in inner:
            return ColumnError(
                f"{uri}: no field {name!r} of {{{field}}} in {place!r}, {there_are(list(inner), name, kind='fields')}"
            )
        kind, place = inner[name], f"{place}.{name}"
    holds = "arrays, and a template cannot look into these" if isinstance(kind, pl.List | pl.Array) else str(kind)
    return ColumnError(f"{uri}: no field {path[-1]!r} of {{{field}}}: {place!r} holds {holds}")

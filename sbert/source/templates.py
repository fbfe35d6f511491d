"""Text and ids that are put together from several columns: ``{title}. {body}``, ``{doc.summary}``.

A name without braces is a column. A template names columns in braces, and values inside nested columns with dots. A part
whose value is empty is left out together with its punctuation:

- Between two parts, a closing bracket or quote belongs to the part before, and words and opening brackets to the part after:
  of ``{title} ({year}) by {author}``, the parts are ``{title}``, ``({year})`` and ``by {author}``.
- What remains between two parts joins them. It follows the part before, and stands only if any part comes after.
"""

import re
from collections.abc import Sequence
from functools import cache
from typing import Any, NamedTuple

import polars as pl

from sbert.source.formats.json_numbers import field_in_json
from sbert.source.nested import may_have_field, missing_field
from sbert.source.settings import SourceSettings
from sbert.source.values import as_text

__all__ = [
    "Part",
    "id_fields",
    "nested_fields",
    "parts_of",
    "put_together",
    "required_columns",
    "root_of",
    "text_fields",
]

TOKEN = re.compile(r"\{\{|\}\}|\{([^{}]+)\}")
CLOSING = ")]}>\u00bb\u201d\u2019\"'"
OPENING = "([{<\u00ab\u201c\u2018\u201e\"'"


class Part(NamedTuple):
    """One value of a template."""

    field: str
    before: str = ""
    """Written before the value."""
    after: str = ""
    """Written after the value."""
    joiner: str = ""
    """Written after that, when any other part follows."""


@cache
def parts_of(name: str) -> tuple[Part, ...]:
    """Return the parts of a template; none when `name` is the name of a column."""
    fields: list[str] = []
    literals = [""]
    position = 0
    for match in TOKEN.finditer(name):
        literals[-1] += name[position : match.start()]
        position = match.end()
        if match[1] is None:
            literals[-1] += match[0][0]
        else:
            fields.append(match[1])
            literals.append("")
    literals[-1] += name[position:]
    if not fields:
        return ()
    cut = [_cut(literal) for literal in literals[1:-1]]
    befores = [literals[0], *(before for _, _, before in cut)]
    afters = [*(after for after, _, _ in cut), literals[-1]]
    joiners = [*(joiner for _, joiner, _ in cut), ""]
    return tuple(Part(*part) for part in zip(fields, befores, afters, joiners, strict=True))


def _cut(literal: str) -> tuple[str, str, str]:
    """Cut the text between two parts: the end of the first, the joint, the beginning of the second."""
    begin = 0
    while begin < len(literal) and literal[begin] in CLOSING and not literal[:begin].strip("".join(CLOSING)):
        begin += 1
    end = begin
    while end < len(literal) and not literal[end].isalnum() and literal[end] not in OPENING:
        end += 1
    return literal[:begin], literal[begin:end], literal[end:]


def text_fields(source: SourceSettings) -> list[str]:
    """Return the columns that the text is from; the column `text` first, because it holds documents without columns."""
    fields = [part.field for part in parts_of(source.text_column)] or [source.text_column]
    return sorted(dict.fromkeys(fields), key=lambda field: field != "text")


def id_fields(source: SourceSettings) -> list[str]:
    """Return the columns that a named id is from; none when no id column is named."""
    if source.id_column is None:
        return []
    return list(dict.fromkeys(part.field for part in parts_of(source.id_column))) or [source.id_column]


def nested_fields(source: SourceSettings) -> list[str]:
    """Return the fields of templates that may lie inside a column."""
    parts = [*parts_of(source.text_column), *parts_of(source.id_column or "")]
    return list(dict.fromkeys(part.field for part in parts if "." in part.field))


def root_of(field: str) -> str:
    """Return the column that a nested field lies in."""
    return field.split(".", 1)[0]


def required_columns(source: SourceSettings) -> list[str]:
    """Return the columns that every object with columns must have; of nested fields it may have another."""
    nested = set(nested_fields(source))
    return [field for field in dict.fromkeys([*text_fields(source), *id_fields(source)]) if field not in nested]


def put_together(uri: str, name: str, values: pl.DataFrame) -> pl.Series:
    """Return the column `name`, or the text of a template with this name; null where all parts are empty.

    Raises:
        ColumnError: when the types of the columns show that no row can have any part.
    """
    parts = parts_of(name)
    if not parts:
        return values[name]
    columns = [_value(part.field, values).alias(str(place)) for place, part in enumerate(parts)]
    if all(_lacks(part.field, values) for part in parts):
        raise missing_field(uri, parts[0].field, values.schema[root_of(parts[0].field)])
    filled: list[Any] = [(pl.col(series.name).str.strip_chars() != "").fill_null(value=False) for series in columns]
    pieces: list[Any] = []
    for place, part in enumerate(parts):
        value = pl.concat_str(pl.lit(part.before), pl.col(str(place)), pl.lit(part.after))
        pieces.append(pl.when(filled[place]).then(value).otherwise(pl.lit("")))
        if part.joiner and filled[place + 1 :]:
            is_followed = filled[place] & pl.any_horizontal(filled[place + 1 :])
            pieces.append(pl.when(is_followed).then(pl.lit(part.joiner)).otherwise(pl.lit("")))
    text = pl.when(pl.any_horizontal(filled)).then(pl.concat_str(pieces))
    return pl.DataFrame(columns).select(text.alias(name)).to_series()


def _lacks(field: str, values: pl.DataFrame) -> bool:
    """Return whether no row can have a field, by the types of the columns."""
    root, *path = field.split(".")
    if not path or values[field].null_count() < values.height:
        return False
    return may_have_field(values.schema[root], path) is False


def _value(field: str, values: pl.DataFrame) -> pl.Series:
    """Return a field as text: the column of this name, else the value inside the column before the first dot."""
    own = as_text(values[field])
    if "." not in field:
        return own
    root, *path = field.split(".")
    column = values[root]
    if isinstance(column.dtype, pl.Struct):
        inside = as_text(_field_of(column, path))
    else:
        inside = field_in_json(as_text(column), path)
    return own if own.null_count() == 0 else _first_known([own, inside])


def _field_of(column: pl.Series, path: Sequence[str]) -> pl.Series:
    """Return a field of structs; nulls where they have no such field."""
    if may_have_field(column.dtype, path) is False:
        return pl.Series([None], dtype=pl.String()).new_from_index(0, len(column))
    for name in path:
        column = column.struct.field(name)
    return column


def _first_known(columns: Sequence[pl.Series]) -> pl.Series:
    frame = pl.DataFrame([column.alias(str(place)) for place, column in enumerate(columns)])
    return frame.select(pl.coalesce(pl.all())).to_series()

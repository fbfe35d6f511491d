"""Lists of classes: the labels of texts that can have several classes at once.

A list is a JSON array in JSON Lines, a list column in Parquet, and the JSON of an array in CSV. An empty list says that a
text has none of the classes; a missing value says nothing, and its row is left out. While labels are checked and split, a
list is the JSON of its sorted classes, so that equal lists are equal texts.
"""

import json
from collections.abc import Callable
from dataclasses import dataclass

import polars as pl

from sbert.errors import LabelError

__all__ = ["LISTS", "ClassLists", "as_lists", "lists_of_texts", "map_classes", "texts_of_lists"]

LISTS = pl.List(pl.String())
"""Type of a column of lists of classes."""


@dataclass(frozen=True)
class ClassLists:
    """Settings of a reader that accepts lists of classes."""

    columns: frozenset[str] = frozenset()
    """Columns of the source that may hold lists."""
    join_rows: bool = False
    """True if a text can have several classes whatever the label column holds. The rows of one text are then joined: the
    text has the classes of all of them."""


def as_lists(values: pl.Series, where: str) -> pl.Series | None:
    """Return the lists that a column of texts writes as JSON; None when no value is a list.

    Args:
        values: texts, such as ``["billing", "urgent"]``; null stays null.
        where: the object, for messages.

    Raises:
        LabelError: some values are lists and some are not, or a list holds something else than classes.
    """
    parsed = {value: _parsed(value) for value in values.drop_nulls().unique().sort()}
    lists = {value: items for value, items in parsed.items() if items is not None}
    if not lists:
        return None
    if len(lists) < len(parsed):
        single, several = next(value for value in parsed if value not in lists), next(iter(lists))
        raise LabelError(
            f"{where}: column {values.name!r} holds both lists and single classes, such as {several[:60]} and "
            f"{single[:60]!r}: write a list in every row, [] for none of the classes"
        )
    names = {value: _classes(items, value, values.name, where) for value, items in lists.items()}
    return pl.Series(values.name, [None if value is None else names[value] for value in values], dtype=LISTS)


def texts_of_lists(lists: pl.Series) -> pl.Series:
    """Return each list as the JSON of its sorted classes."""
    texts = [None if items is None else json.dumps(sorted(set(items)), ensure_ascii=False) for items in lists.to_list()]
    return pl.Series(lists.name, texts, dtype=pl.String)


def lists_of_texts(texts: pl.Series) -> pl.Series:
    """Return the lists that `texts_of_lists` wrote."""
    return pl.Series(texts.name, [json.loads(text) for text in texts], dtype=LISTS)


def map_classes(lists: pl.Series, spelled: Callable[[pl.Series], pl.Series]) -> pl.Series:
    """Apply a function to the classes of all lists at once."""
    classes = lists.explode(empty_as_null=False, keep_nulls=False).unique().sort()
    names = dict(zip(classes, spelled(classes), strict=True))
    changed = [None if items is None else [names[item] for item in items] for items in lists.to_list()]
    return pl.Series(lists.name, changed, dtype=LISTS)


def _parsed(value: str) -> list[object] | None:
    """Return the items of a JSON array; None for any other text. An object counts as an array of itself."""
    if not value.lstrip().startswith(("[", "{")):
        return None
    try:
        items: object = json.loads(value)
    except (ValueError, RecursionError):
        return None
    return items if isinstance(items, list) else [items]


def _classes(items: list[object], value: str, column: str, where: str) -> list[str]:
    classes = []
    for item in items:
        name = item.strip() if isinstance(item, str) else json.dumps(item, ensure_ascii=False)
        if item is None or isinstance(item, dict | list) or not name:
            raise LabelError(
                f"{where}: column {column!r}: {value[:80]} holds {name or 'an empty text'}, expected the names of classes: "
                "write each class as text, [] for none of them"
            )
        classes.append(name)
    return classes

"""Write equal values the same way, whatever format a label file has.

A class that is 1 in JSON Lines is ``1.0`` in a Parquet file whose column pandas made a float. ``True`` in CSV is ``true`` in
JSON. Read as text, one class would become two.
"""

import logging
import re
from collections import defaultdict
from decimal import Decimal

import polars as pl

__all__ = ["one_spelling"]

log = logging.getLogger(__name__)

NUMBER = re.compile(r"[+-]?(0|[1-9][0-9]*)(\.[0-9]+)?")
"""Codes such as ``01`` are not numbers."""
MAX_SHOWN = 3


def one_spelling(values: pl.Series, where: str, *, always: bool = False) -> pl.Series:
    """Return values in which equal numbers, and equal truth values, are written the same.

    A value that occurs in only one spelling stays as it is, unless `always` is set. If there are several
    spellings, the shortest one in plain notation is used, such as ``1`` for ``1`` and ``1.0``, and ``true`` for ``True``.
    """
    spellings: dict[str, list[str]] = defaultdict(list)
    for value in values.drop_nulls().unique().sort():
        spellings[_plain(value)].append(value)
    several = {plain: written for plain, written in spellings.items() if len(written) > 1}
    if always:
        values = values.replace({value: plain for plain, written in spellings.items() for value in written})
    if not several:
        return values
    shown = "; ".join(f"{', '.join(written)} as {plain}" for plain, written in list(several.items())[:MAX_SHOWN])
    log.warning("%s: %s: equal values are written differently and count as one: %s", where, values.name, shown)
    changes = {value: plain for plain, written in several.items() for value in written}
    return values.replace(changes)


def _plain(value: str) -> str:
    """Return the shortest spelling of a number or truth value; other values as they are."""
    text = value.strip()
    if text.lower() in {"true", "false"}:
        return text.lower()
    if NUMBER.fullmatch(text):
        number = Decimal(text)
        return format(number.normalize() + 0, "f")
    return value

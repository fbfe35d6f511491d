"""Where the quotes, brackets and commas of JSON stand, told by a few array operations over a piece of bytes."""

from typing import Any, NamedTuple

import numpy as np

__all__ = ["DEPTHS", "QUOTE", "Structure", "quotes_of", "structure_of"]

QUOTE, BACKSLASH = b'"\\'
CLASSES = np.zeros(256, dtype=np.int8)
CLASSES[list(b'"{}[],')] = 1
DEPTHS = np.zeros(256, dtype=np.int64)
"""Change of the depth of nesting at each character."""
DEPTHS[list(b"{[")] = 1
DEPTHS[list(b"}]")] = -1


class Structure(NamedTuple):
    """Brackets and commas of a piece of JSON, without the marks inside strings."""

    places: Any
    """Positions, ascending (int64)."""
    marks: Any
    """The characters there (uint8)."""
    depths: Any
    """Depth of nesting after each, where the piece begins at 0 (int64)."""


def structure_of(data: Any) -> Structure:
    """Return the structure of a piece of JSON (uint8) that begins outside of strings."""
    places = np.flatnonzero(CLASSES[data])
    marks = data[places]
    quotes = marks == QUOTE
    if len(escaped := _escaped(data, places[quotes])):
        quotes[np.flatnonzero(quotes)[escaped]] = False
        marks = np.where(data[places] == QUOTE, QUOTE, marks)
    outside = (np.cumsum(quotes) % 2 == 0) & (marks != QUOTE)
    places, marks = places[outside], marks[outside]
    return Structure(places, marks, np.cumsum(DEPTHS[marks]))


def quotes_of(data: Any) -> Any:
    """Return the positions of the quotes that open and close the strings of a piece of JSON (uint8), ascending."""
    quotes = np.flatnonzero(data == QUOTE)
    escaped = _escaped(data, quotes)
    return np.delete(quotes, escaped) if len(escaped) else quotes


def _escaped(data: Any, quotes: Any) -> Any:
    """Return which quotes follow an odd number of backslashes, as indices."""
    slashes = np.flatnonzero(data == BACKSLASH)
    if not len(slashes) or not len(quotes):
        return np.zeros(0, dtype=np.int64)
    numbers = np.arange(len(slashes))
    begins = np.maximum.accumulate(np.where(np.diff(slashes, prepend=-2) != 1, numbers, 0))
    after = np.flatnonzero(data[np.maximum(quotes - 1, 0)] == BACKSLASH)
    last = np.searchsorted(slashes, quotes[after] - 1)
    return after[(last - begins[last]) % 2 == 0]

"""The dialect of a CSV object: delimiter, quote and header, told by looking at its head.

The one idea: the usual dialect (comma, or tab in ``.tsv``, double quotes, a header) is left only where it does not fit the
head, so that an object which was read before is read the same. A dialect fits when the first record has the wanted columns,
or when nearly all records have as many values as the first.
"""

import csv
import io
import re
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Any

from sbert.errors import BrokenObjectError
from sbert.source.formats.base import Hints

__all__ = ["Dialect", "dialect_of_head"]

DELIMITERS = (",", ";", "\t", "|")
DELIMITER_NAMES = {",": "comma", ";": "semicolon", "\t": "tab", "|": "bar"}
QUOTES = ('"', None, "'")
QUOTE_NAMES = {'"': "double", "'": "single", None: "no"}
UNQUOTED_DELIMITERS = ("\t", "|")
"""Delimiters that texts do not hold, so that many programs write no quotes with them."""
FITS = 0.95
"""Share of the head, in characters, that lies in records as wide as the first, from which a dialect fits."""
MISFITS = 0.9
"""Below this share, a dialect is left for one that fits."""
NUMBERED = re.compile(r"column_([1-9][0-9]*)")


@dataclass(frozen=True)
class Dialect:
    """The dialect of records."""

    delimiter: str
    quote: str | None
    """None: no quoting."""
    header: tuple[str, ...]
    """Names of the columns; empty for an empty object."""
    has_header: bool = True
    """Whether the first record holds the names."""

    def reader(self, lines: Iterator[str], *, strict: bool = True) -> Any:
        """Return a reader of records."""
        if self.quote is None:
            return csv.reader(lines, delimiter=self.delimiter, quoting=csv.QUOTE_NONE, strict=strict)
        return csv.reader(lines, delimiter=self.delimiter, quotechar=self.quote, strict=strict)

    def describe(self) -> str:
        """Return the dialect as a person reads it."""
        delimiter = DELIMITER_NAMES.get(self.delimiter, self.delimiter)
        quote = QUOTE_NAMES.get(self.quote, self.quote)
        return f"{delimiter}, {quote} quotes" + ("" if self.has_header else ", no header")


def dialect_of_head(uri: str, head: str, *, is_whole: bool, hints: Hints, usual: str) -> Dialect:
    """Return the dialect of an object.

    Args:
        uri: of the object.
        head: the beginning of its text.
        is_whole: whether this is all of it; else the last record may be cut.
        hints: what was said about it.
        usual: the delimiter that the object's name stands for.

    Raises:
        BrokenObjectError: when two dialects fit equally; the message names the settings.
    """
    asked = hints.csv
    delimiters = [asked.delimiter] if asked.delimiter else [usual, *(mark for mark in DELIMITERS if mark != usual)]
    quotes = [None if asked.quote == "none" else asked.quote] if asked.quote else list(QUOTES)
    lines = list(io.StringIO(head, newline=""))
    if not is_whole and len(lines) > 1:
        del lines[-1]  # it may be cut

    def look(delimiter: str) -> dict[str | None, _Look]:
        return {quote: _look(lines, Dialect(delimiter, quote, ())) for quote in quotes}

    looks = {delimiters[0]: look(delimiters[0])}
    wanted = [name for name in hints.wanted if asked.header is not False]
    has_wanted = (
        bool(wanted) and _is_numbered(wanted) is False and set(wanted) <= set(_first(looks[delimiters[0]]).record)
    )
    if not has_wanted and len(delimiters) > 1:
        looks |= {other: look(other) for other in delimiters[1:]}
    delimiter = delimiters[0] if has_wanted else _choose_delimiter(uri, looks, wanted, delimiters[0])
    quote = _choose_quote(looks[delimiter], delimiter)
    first = looks[delimiter][quote].record
    has_header = asked.header
    if has_header is None:
        has_header = not (hints.wanted and _is_numbered(hints.wanted) and not set(hints.wanted) <= set(first))
    header = tuple(first) if has_header else tuple(f"column_{number}" for number in range(1, len(first) + 1))
    return Dialect(delimiter, quote, header, has_header)


@dataclass(frozen=True)
class _Look:
    """Findings about the head when it is read in one dialect."""

    record: Sequence[str]
    """The first record."""
    share: float
    """Share of the characters that lie in records as wide as the first."""

    @property
    def fits(self) -> bool:
        """Whether this may well be the dialect."""
        return len(self.record) > 1 and self.share >= FITS


def _look(lines: Sequence[str], dialect: Dialect) -> _Look:
    reader = dialect.reader(iter(lines))
    first: Sequence[str] | None = None
    same = line = total = 0
    try:
        for record in reader:
            size = sum(map(len, lines[line : reader.line_num]))
            line = reader.line_num
            total += size
            if first is None:
                first = record
            if len(record) == len(first) or not record:
                same += size
    except csv.Error:  # a quote that does not end, or ends too early
        total = sum(map(len, lines))
    return _Look(first or (), same / total if total else 1.0)


def _first(looks: dict[str | None, _Look]) -> _Look:
    return next(iter(looks.values()))


def _is_numbered(names: Sequence[str]) -> bool:
    """Return whether all names have the form of columns without a header."""
    return all(NUMBERED.fullmatch(name) for name in names)


def _choose_delimiter(uri: str, looks: dict[str, dict[str | None, _Look]], wanted: Sequence[str], usual: str) -> str:
    if wanted and not _is_numbered(wanted):
        named = [
            mark
            for mark, by_quote in looks.items()
            if any(set(wanted) <= set(look.record) for look in by_quote.values())
        ]
        if len(named) == 1:
            return named[0]
        if len(named) > 1:
            fitting = [mark for mark in named if any(look.fits for look in looks[mark].values())] or named
            return fitting[0] if len(fitting) == 1 or usual in fitting else _refuse_delimiters(uri, fitting)
    fitting = [mark for mark, by_quote in looks.items() if any(look.fits for look in by_quote.values())]
    if len(fitting) > 1:
        return _refuse_delimiters(uri, fitting)
    return fitting[0] if fitting else usual


def _refuse_delimiters(uri: str, fitting: Sequence[str]) -> str:
    shown = " and ".join("tab" if mark == "\t" else repr(mark) for mark in fitting[:2])
    raise BrokenObjectError(
        uri, f"its records may be separated by {shown}, both fit: set source.csv.delimiter to one of them"
    )


def _choose_quote(looks: dict[str | None, _Look], delimiter: str) -> str | None:
    """Leave double quotes where the head cannot be read with them: for single quotes that hold delimiters, or for no quotes.

    With commas and semicolons, a quote that is never closed is damage, not a character of the text.
    """
    usual = next(iter(looks))
    if len(looks) == 1 or looks[usual].share >= MISFITS:
        return usual
    unquoted, single = looks[None], looks["'"]
    if single.fits and unquoted.share < MISFITS:
        return "'"
    return None if unquoted.fits and delimiter in UNQUOTED_DELIMITERS else usual

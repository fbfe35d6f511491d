"""Numbers in JSON keep the characters that they are written with: `1.10` stays `1.10`, also inside arrays and objects.

The one idea: Polars reads a number as a number and writes it in its own way, but it leaves strings alone. So numbers that
are not plain whole numbers are put in quotes before Polars reads them, behind a mark that no string of the lines has, and
are taken out of the quotes afterwards. A few array operations find them. Most blocks need none of this: `are_plain` tells.
"""

import json
import re
from collections import Counter
from collections.abc import Sequence
from functools import cache
from typing import Any

import numpy as np
import polars as pl
import pyarrow as pa
import pyarrow.compute as pc

from sbert.source.formats.json_structure import QUOTE, quotes_of
from sbert.source.types import NumberLiteral

__all__ = [
    "are_plain",
    "field_in_json",
    "json_text",
    "load_json",
    "needs_line_by_line",
    "quote_numbers",
    "unquote_numbers",
    "unused_mark",
]

SPACE = r"[ \t\r]*"
NESTED = r"[\[{]"
REWRITTEN = r"-?(?:[0-9]+(?:[eE]|\.(?:[0-9]*0[,}\]\s]|[0-9]+[eE]))|[0-9.]{17})|-0[,}\]\s]"
"""A number that Polars may write in another way: an exponent, a last zero, more digits than it may have, a zero below 0."""
REWRITTEN_INSIDE = r"[:\[,]\s*(?:-?[0-9]+(?:[eE]|\.(?:[0-9]+0\s*[,}\]]|[0-9]+[eE]))|[-0-9.]{16}|-0\s*[,}\]])"
"""A number that looking into JSON may rewrite."""
LITERALS = re.compile(rb"(?:-?(?:0|[1-9][0-9]*)(?:\.[0-9]+)?(?:[eE][-+]?[0-9]+)?[,}\]\s])*")
"""Numbers of JSON, each with the character after it."""
IN_NUMBERS = np.zeros(256, dtype=bool)
IN_NUMBERS[list(b"0123456789.eE+-")] = True
POINT, ZERO, MINUS, EXPONENT = b".0-e"
NUM_DIGITS = 10
MAX_CHARACTERS = 400
"""Blocks with a longer number are read line by line."""
MARKS = [chr(code) for code in range(0xFDD0, 0xFDF0)]
"""Characters that Unicode keeps for uses inside programs (section 23.7 of its standard), so that no text has them."""
ESCAPED_MARK = re.compile(rb"\\u[fF][dD][dDeE][0-9a-fA-F]")
MISWRITTEN = r'\\(?:[\\bft]|u00[01]|u005[cC])|\\(?:["nr]|u0022)(?:[^"\\]|\\.)*"[ \t\r]*:'
"""Backslashes, control characters other than line ends, and quotes in keys: Polars does not escape them inside of values."""


def needs_line_by_line(data: bytes, columns: Sequence[str], texts: Sequence[str]) -> bool:
    """Return whether columns hold arrays or objects that Polars does not write right, or `texts` any at all."""
    if are_plain(data, columns, numbers=False):
        return False
    return not are_plain(data, texts, numbers=False) or _contains(data, MISWRITTEN)


def are_plain(data: bytes, columns: Sequence[str], *, numbers: bool = True) -> bool:
    """Return whether no column holds an array or an object; with `numbers`, nor a number that Polars may rewrite.

    Inside of strings the quotes of a key are escaped, so that only keys are found, at any depth.
    """
    if not columns:
        return True
    pattern = _pattern(tuple(columns), f"(?:{NESTED}|{REWRITTEN})" if numbers else NESTED)
    return not _contains(data, pattern)


def _contains(data: bytes, pattern: str) -> bool:
    """Return whether data contain a pattern, in time that grows with their size only (the engine is RE2)."""
    offsets = pa.py_buffer(np.array([0, len(data)], dtype=np.int64))
    whole = pa.LargeBinaryArray.from_buffers(pa.large_binary(), 1, [None, offsets, pa.py_buffer(data)])  # not copied
    return bool(pc.match_substring_regex(whole, pattern=pattern)[0].as_py())


@cache
def _pattern(columns: tuple[str, ...], value: str) -> str:
    """Return a pattern of the keys of columns with a value, however writers of JSON escape a key."""
    keys = [json.dumps(name, ensure_ascii=is_ascii)[1:-1] for name in columns for is_ascii in (False, True)]
    keys += [key.replace("/", r"\/") for key in keys]
    return f'"(?:{"|".join(pl.escape_regex(key) for key in dict.fromkeys(keys))})"{SPACE}:{SPACE}{value}'


def unused_mark(data: bytes) -> str:
    """Return characters that do not follow each other in `data`, neither as they are nor escaped."""
    if MARKS[0].encode() not in data and not ESCAPED_MARK.search(data):
        return MARKS[0]
    escaped = Counter(match.lower() for match in ESCAPED_MARK.findall(data))
    uses = {mark: data.count(mark.encode()) + escaped[rb"\u%04x" % ord(mark)] for mark in MARKS}
    rarest = min(MARKS, key=uses.__getitem__)
    return rarest * (uses[rarest] + 1)


def quote_numbers(data: bytes, mark: str) -> bytes | None:
    """Return lines of JSON in which numbers with a point or an exponent, and `-0`, are strings that begin with `mark`.

    None when a number is not one of JSON. Lines with a quote too many stay broken: quotes are added in pairs.
    """
    piece = np.frombuffer(data, np.uint8)
    quotes = quotes_of(piece)
    places = _number_places(piece)
    places = places[np.searchsorted(quotes, places) % 2 == 0]
    if not len(places):
        return data
    bounds = _bounds(piece, places)
    if bounds is None:
        return None
    begins, ends = bounds
    if not LITERALS.fullmatch(_pieces(piece, begins, ends + 1)):  # with the character after each number
        return None
    before = np.frombuffer(b'"' + mark.encode(), np.uint8)
    positions = np.concatenate([np.repeat(begins, len(before)), ends])
    added = np.concatenate([np.tile(before, len(begins)), np.full(len(ends), QUOTE, dtype=np.uint8)])
    quoted: bytes = np.insert(piece, positions, added).tobytes()
    return quoted


def _number_places(piece: Any) -> Any:
    """Return a position in each number with a point or an exponent, and in each `-0`; also in strings; ascending."""
    here, following = piece[:-1], piece[1:]
    in_number = (following == POINT) | ((following | 0x20) == EXPONENT)
    in_number &= here - ZERO < NUM_DIGITS  # bytes below the zero become large
    below_zero = (here == MINUS) & (following == ZERO)
    return np.sort(np.concatenate([np.flatnonzero(in_number) + 1, np.flatnonzero(below_zero)]))


def _bounds(piece: Any, places: Any) -> tuple[Any, Any] | None:
    """Return where the numbers at `places` begin, and the positions after their ends; None when one is too long."""
    begins, ends = places.copy(), places + 1
    for _ in range(MAX_CHARACTERS):
        back = (begins > 0) & IN_NUMBERS[piece[begins - 1]]
        on = (ends < len(piece)) & IN_NUMBERS[piece[np.minimum(ends, len(piece) - 1)]]
        if not back.any() and not on.any():
            is_new = np.diff(begins, prepend=-1) != 0
            return None if ends[-1] >= len(piece) else (begins[is_new], ends[is_new])
        begins -= back
        ends += on
    return None


def _pieces(piece: Any, begins: Any, ends: Any) -> bytes:
    """Return the bytes between positions, one after the other."""
    lengths = ends - begins
    shifts = begins - np.concatenate([[0], np.cumsum(lengths)[:-1]])
    joined: bytes = piece[np.repeat(shifts, lengths) + np.arange(lengths.sum())].tobytes()
    return joined


def unquote_numbers(values: pl.DataFrame, mark: str) -> pl.DataFrame:
    """Take the numbers in values out of their quotes again."""
    changed = []
    for series in values:
        if series.str.contains(mark, literal=True).any():
            inside = series.str.replace_all(f'"{mark}([^"]*)"', "$1")
            changed.append(inside.str.replace_all(mark, "", literal=True))
    return values.with_columns(changed)


def load_json(text: str) -> Any:
    """Parse JSON; numbers are `NumberLiteral`, and NaN, Infinity and -Infinity, which some programs write, are null.

    Raises:
        ValueError: when it is not JSON.
        RecursionError: when it is nested too deeply.
    """
    return json.loads(text, parse_float=NumberLiteral, parse_int=NumberLiteral, parse_constant=_null)


def _null(_: str) -> None:
    """Read a word that is not a number as null."""


def json_text(value: Any, line: str, separators: tuple[str, str] | None = None) -> str | None:
    """Write a value of a line as a block of lines gives it, so that a row never depends on its neighbours."""
    if value is None:
        return None
    if isinstance(value, NumberLiteral):
        return value.characters
    if isinstance(value, bool):
        return "true" if value else "false"
    if isinstance(value, str):
        text = value
    else:
        mark = unused_mark(line.encode("utf-8", "replace"))
        quoted = json.dumps(
            value, ensure_ascii=False, separators=separators, default=lambda number: f"{mark}{number.characters}"
        )
        text = re.sub(f'"{mark}([^"]*)"', r"\1", quoted)
    return text.encode("utf-8", "replace").decode()  # lone surrogates are not Unicode text


def field_in_json(texts: pl.Series, path: Sequence[str]) -> pl.Series:
    """Return the value at `path` inside each text that is JSON; null where it has none, or is not JSON."""
    if any("'" in name or "\\" in name for name in path):  # the path of JSON would need escapes
        return pl.Series([_field_of(text, path) for text in texts], dtype=pl.String)
    found = texts.str.json_path_match("$" + "".join(f"['{name}']" for name in path))
    is_changed = found.is_not_null() & texts.str.contains(REWRITTEN_INSIDE)
    if not is_changed.any():
        return found
    pairs = zip(texts, found, is_changed, strict=True)
    return pl.Series([_field_of(text, path) if asked else value for text, value, asked in pairs], dtype=pl.String)


def _field_of(text: str | None, path: Sequence[str]) -> str | None:
    try:
        value = None if text is None else load_json(text)
    except (ValueError, RecursionError):
        return None
    for name in path:
        value = value.get(name) if isinstance(value, dict) else None
    return json_text(value, text or "", (",", ":"))

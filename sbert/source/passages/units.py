"""The units of documents: sentences, and the parts of a sentence that is too long for a passage.

Polars splits all texts of a block at once: into lines, and lines at the ends of sentences. What looks like an end and is
none (an abbreviation, an initial, a lower-case letter that follows) is put together again by comparing neighbours.

Shapes: P pieces, U units; places are numbers of characters, counted through all documents of the block.
"""

import itertools
import re
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt
import polars as pl

from sbert.source.passages.cuts import Level

__all__ = ["LONG_WORD", "Headings", "Units", "split_long_units", "split_units"]

Ints = npt.NDArray[np.int64]

LINES = r"[^\n]*\n|[^\n]+"
CLOSING = r"""["'\u201D\u2019\u00BB\u203A)\]*_]*"""
ENDS = rf"[.!?\u2026]+{CLOSING}\s+|[\u3002\uFF01\uFF1F\uFF61]+[\u201D\u2019\u300D\u300F\uFF09]*\s*"
SENTENCES = rf"(?s).*?(?:{ENDS})|.+"
IS_END = rf"(?:[.!?\u2026]+{CLOSING}|[\u3002\uFF01\uFF1F\uFF61]+[\u201D\u2019\u300D\u300F\uFF09]*)\s*$"
ABBREVIATIONS = (
    "mr|mrs|ms|dr|prof|rev|hon|st|sr|jr|inc|ltd|co|corp|dept|univ|vs|etc|approx|ca|cf|al|fig|figs|eq|eqs|ref|refs|sec|ch"
    "|vol|pp|ed|eds|art|par|nr|bzw|usw|vgl|bspw|evtl|ggf|sog|inkl|tel|jan|feb|mar|apr|jun|jul|aug|sep|sept|oct|nov|dec"
)
NO_END = (
    rf"(?i:(?:^|[\s(\[])(?:{ABBREVIATIONS})\.\s*$)"  # Dr. Smith
    r"|(?:^|[\s(\[.])\p{L}\.\s*$"  # J. Smith, e.g. this, U.S. law
    r"|^\s*[(\[]?(?:\d{1,3}|\p{L}|[ivxIVX]{1,5})[.)]\s*$"  # the number of a list item
)
STARTS_LOWER = r"^\s*\p{Ll}"
HAS_UPPER = r"\p{Lu}"
"""In a text without capitals a sentence may begin with a small letter."""
LIST_ITEM = r"^\s*(?:[-*+\u2022\u2023\u25AA\u00B7\u2013\u2014]|[(\[]?(?:\d{1,3}|\p{L})[.)\]])\s|^\s*\|"
"""A line that begins so is no continuation of the line before: a list item, or a row of a table."""

LONG_WORD = 64
"""Characters of a word that is cut like a sentence, into parts of `WORD_PART` characters."""
WORD_PART = 16
WORDS = re.compile(r"\s*\S+\s*")


@dataclass(frozen=True)
class Headings:
    """The headings of all documents of a block, in the order of their places; each is whole lines."""

    starts: Ints
    ends: Ints
    levels: Ints


@dataclass(frozen=True)
class Units:
    """Units of all documents of a block, one after the other; together they are the whole text."""

    starts: Ints
    """Begin of each unit, shape (U,)."""
    ends: Ints
    """End of each unit, shape (U,)."""
    levels: npt.NDArray[np.uint8]
    """Level of the place after each unit (`Level`), shape (U,)."""
    bodies: Ints
    """Begin of the text of each unit, after the headings at its beginning, shape (U,)."""


def split_units(texts: pl.Series, headings: Headings) -> Units:
    """Split documents into sentences. A heading belongs to the sentence that follows it.

    Args:
        texts: D documents, each of at least one character.
        headings: their headings.
    """
    lines = pl.DataFrame({"document": np.arange(len(texts)), "piece": texts.str.extract_all(LINES)}).explode("piece")
    pieces = lines.with_columns(pl.col("piece").str.extract_all(SENTENCES)).explode("piece")
    ends = pieces["piece"].str.len_chars().cast(pl.Int64).cum_sum().to_numpy()
    starts = np.concatenate([np.zeros(1, dtype=np.int64), ends[:-1]])
    levels = _levels(pieces, starts, headings)
    is_end = levels >= Level.SENTENCE
    last = np.flatnonzero(is_end)
    first = np.concatenate([np.zeros(1, dtype=np.int64), last[:-1] + 1])
    unit_starts = starts[first]
    bodies = unit_starts.copy()
    if len(headings.starts):
        # The last heading that begins inside the unit: headings are at the beginning of their unit.
        which = np.searchsorted(headings.starts, ends[last], side="left") - 1
        has = (which >= 0) & (headings.starts[np.maximum(which, 0)] >= unit_starts)
        bodies[has] = headings.ends[which[has]]
    return Units(unit_starts, ends[last], levels[last], bodies)


def _levels(pieces: pl.DataFrame, starts: Ints, headings: Headings) -> npt.NDArray[np.uint8]:
    """Return the level of the place after each piece, shape (P,)."""
    piece, following = pl.col("piece"), pl.col("piece").shift(-1)
    is_blank = piece.str.strip_chars().str.len_bytes() == 0
    has_text = ~is_blank
    marks = pieces.select(
        last=pl.col("document") != pl.col("document").shift(-1, fill_value=-1),
        blank=is_blank,
        blank_next=is_blank.shift(-1, fill_value=False),
        begun=has_text.cast(pl.UInt32).cum_max().over("document") > 0,
        line_end=piece.str.ends_with("\n"),
        item_next=following.str.contains(LIST_ITEM).fill_null(value=False),
        sentence_end=piece.str.contains(IS_END)
        & ~piece.str.contains(NO_END)
        & ~(following.str.contains(STARTS_LOWER).fill_null(value=False) & piece.str.contains(HAS_UPPER)),
    )
    last, blank, blank_next, begun, line_end, item_next, sentence_end = (
        marks[name].to_numpy() for name in marks.columns
    )
    levels = np.full(len(starts), Level.WORD, dtype=np.uint8)
    levels[line_end] = Level.LINE
    levels[sentence_end | (line_end & item_next)] = Level.SENTENCE
    levels[blank] = Level.PARAGRAPH
    levels[blank_next | ~begun] = Level.NONE
    if len(headings.starts):
        in_heading = _which(starts, headings.starts, headings.ends)
        levels[in_heading >= 0] = Level.NONE
        at = np.searchsorted(starts, headings.starts)
        before = at - 1
        levels[before[before >= 0]] = Level.HEADING
        # A heading is not cut from a deeper heading that follows it.
        owner = _last_text_before(blank, at)
        inside = np.where(owner >= 0, in_heading[np.maximum(owner, 0)], -1)
        deeper = (inside >= 0) & (headings.levels[np.maximum(inside, 0)] < headings.levels)
        levels[before[deeper & (before >= 0)]] = Level.NONE
        blank_after_heading = blank & (in_heading[np.maximum(_last_text_before(blank, np.arange(len(blank))), 0)] >= 0)
        levels[blank_after_heading & (levels == Level.PARAGRAPH)] = Level.NONE
    levels[last] = Level.ALWAYS
    return levels


def _which(places: Ints, starts: Ints, ends: Ints) -> Ints:
    """Return the range that each place lies in, -1 for none; ranges ascend and do not overlap."""
    span_before = np.searchsorted(starts, places, side="right") - 1
    inside = (span_before >= 0) & (places < ends[np.maximum(span_before, 0)])
    which: Ints = np.where(inside, span_before, -1)
    return which


def _last_text_before(blank: npt.NDArray[np.bool_], places: Ints) -> Ints:
    """Return the last piece with text before each of the pieces `places`; -1 for none."""
    latest = np.maximum.accumulate(np.where(blank, -1, np.arange(len(blank))))
    text_numbers: Ints = np.where(places > 0, latest[np.maximum(places - 1, 0)], -1)
    return text_numbers


def split_long_units(units: Units, long: Ints, texts: Sequence[str]) -> tuple[Units, Ints]:
    """Replace units that are too long by their parts; return the new units, and the old unit of each.

    Parts are words; a word of more than `LONG_WORD` characters is cut into parts of `WORD_PART` characters.

    Args:
        units: U units.
        long: the units to replace, ascending.
        texts: the text of each of them, from its body to its end.
    """
    parts = [_parts_of_unit(text) for text in texts]
    counts = np.ones(len(units.starts), dtype=np.int64)
    counts[long] = [len(ends) for ends, _ in parts]
    owner = np.repeat(np.arange(len(counts)), counts)
    is_part = np.isin(owner, long)
    is_last = np.append(owner[1:] != owner[:-1], True)
    ends, levels = units.ends[owner], units.levels[owner]
    lengths = np.fromiter(itertools.chain.from_iterable(ends for ends, _ in parts), dtype=np.int64)
    ends[is_part] = units.bodies[owner[is_part]] + lengths
    ends[is_last] = units.ends
    inner = np.fromiter(itertools.chain.from_iterable(levels for _, levels in parts), dtype=np.uint8)
    levels[is_part] = inner
    levels[is_last] = units.levels
    is_first = np.insert(is_last[:-1], 0, True)
    before = np.insert(ends[:-1], 0, 0)
    starts = np.where(is_first, units.starts[owner], before)
    bodies = np.where(is_first, units.bodies[owner], before)
    return Units(starts, ends, levels, bodies), owner


def _parts_of_unit(text: str) -> tuple[list[int], list[int]]:
    """Return where the parts of a unit end, and the level of the place after each."""
    ends: list[int] = []
    levels: list[int] = []
    for match in WORDS.finditer(text):
        word, begin, end = match[0], match.start(), match.end()
        if end - begin > LONG_WORD:
            inner = range(begin + WORD_PART, end - WORD_PART, WORD_PART)
            ends += inner
            levels += [Level.CHARACTER] * len(inner)
        ends.append(end)
        levels.append(Level.LINE if "\n" in word[len(word.rstrip()) :] else Level.WORD)
    return (ends, levels) if ends else ([len(text)], [Level.WORD])

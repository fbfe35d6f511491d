"""Cut documents into passages: one row for each passage.

The token counts of all sentences of a block come from one call of the encoder's tokenizer. NumPy then chooses the cuts of
all its documents at once. Python loops over sentences and passages only to take their slices of the text.
"""

from collections.abc import Callable, Sequence
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt
import polars as pl
import polars_hash as plh

from sbert.rows.cleaning import CleaningSettings, clean_texts
from sbert.source.passages.cuts import Level, choose_cuts, level_of, place_keys
from sbert.source.passages.outline import PAGE, markdown_outline
from sbert.source.passages.settings import PassagesBy, PassageSettings
from sbert.source.passages.units import LONG_WORD, Headings, Units, split_long_units, split_units

__all__ = ["PASSAGE_COLUMNS", "PATH_SEPARATOR", "PassageCutter", "TokenCounter"]

Ints = npt.NDArray[np.int64]

PASSAGE_COLUMNS: dict[str, pl.DataType] = {
    "document_id": pl.String(),
    "passage": pl.String(),
    "start": pl.Int64(),
    "end": pl.Int64(),
    "headings": pl.String(),
}
"""Columns of a table of passages: the document's id; the passage as the document has it; its first character and the one
after its last; the titles above it, the highest first."""
PATH_SEPARATOR = " > "
HASHED_CHARACTERS = 32
"""The beginning of a sentence decides how well a cut fits before it, so a change behind it moves no cut."""


@dataclass(frozen=True)
class TokenCounter:
    """The part of an encoder that the cutter uses."""

    count: Callable[[list[str]], Ints]
    """Return the number of tokens of each text, without special tokens."""
    limit: int
    """Most tokens of a passage."""
    overhead: int
    """Tokens of them that special tokens and the prompt take."""


@dataclass(frozen=True)
class _Outline:
    """The headings of a block of documents, and the page marks."""

    headings: Headings
    paths: list[str]
    """The path of each heading: its own title after those of the headings above it."""
    path_tokens: Ints
    """Tokens of each path; 0 where it is not put before passages."""
    documents: Ints
    """The document of each heading."""
    page_starts: Ints
    pages: Ints


@dataclass(frozen=True)
class _Sized:
    """Units that are not too long, with their documents, limits, tokens, and the keys of the places after them."""

    units: Units
    document: Ints
    limits: Ints
    num_tokens: Ints
    keys: npt.NDArray[np.uint64]


@dataclass(frozen=True)
class _Passages:
    """The passages of a block; places count through all its documents."""

    document: Ints
    starts: Ints
    """Begin of the own text of each passage, after the text that it repeats."""
    begins: Ints
    ends: Ints


class PassageCutter:
    """Cuts blocks of documents."""

    def __init__(self, settings: PassageSettings, cleaning: CleaningSettings, tokens: TokenCounter) -> None:
        """Prepare to cut for an encoder."""
        self._settings = settings
        self._cleaning = cleaning
        self._tokens = tokens
        self._room = max(1, tokens.limit - tokens.overhead - settings.overlap_tokens)

    def cut(self, documents: pl.DataFrame, prefix: str) -> pl.DataFrame:
        """Return a row for each passage, document by document.

        Args:
            documents: rows with the columns id, text (not null), and optionally ``outline``; all other columns are
                repeated for each passage, ``<prefix>page`` becomes the page on which the passage begins.
            prefix: begins the names of the columns of `PASSAGE_COLUMNS` in the result.
        """
        if not documents.height:
            return _no_passages(documents, prefix)
        texts = documents["text"].to_list()
        lengths = documents["text"].str.len_chars().cast(pl.Int64).to_numpy()
        padded = documents["text"].replace("", " ")  # a document has at least one character
        sizes = np.maximum(lengths, 1)
        firsts = np.cumsum(sizes) - sizes
        outline = self._outline(documents, texts, firsts)
        units = split_units(padded, outline.headings)
        if self._settings.by is PassagesBy.SENTENCES:
            units.levels[(units.levels >= Level.SENTENCE) & (units.levels < Level.ALWAYS)] = Level.SENTENCE
        if self._settings.by is PassagesBy.HEADINGS:
            units.levels[units.levels == Level.HEADING] = Level.ALWAYS
        document = np.searchsorted(firsts, units.starts, side="right") - 1
        limits = self._limits(units, outline, document)
        sized = self._sized(units, texts, firsts, document, limits)
        last = np.flatnonzero(choose_cuts(sized.num_tokens, sized.keys, sized.limits))
        first = np.insert(last[:-1] + 1, 0, 0)
        passages = _Passages(
            document=sized.document[first],
            starts=sized.units.bodies[first],
            begins=(sized.units.bodies if self._settings.with_headings else sized.units.starts)[
                self._with_overlap(first, last, sized)
            ],
            ends=sized.units.ends[last],
        )
        return self._rows(documents, prefix, texts, firsts, outline, passages)

    def _outline(self, documents: pl.DataFrame, texts: Sequence[str], firsts: Ints) -> _Outline:
        """Return the headings of all documents; a document without an outline is read as Markdown."""
        outlines = documents["outline"].to_list() if "outline" in documents.columns else [None] * len(texts)
        marks, paths, owners = [], [], []
        page_starts, pages = [], []
        for number, (outline, text, offset) in enumerate(zip(outlines, texts, firsts.tolist(), strict=True)):
            above: list[tuple[int, str]] = []
            for mark in markdown_outline(text) if outline is None else outline:
                level, title = int(mark["level"]), " ".join(str(mark["title"]).split())
                if level == PAGE:
                    page_starts.append(mark["start"] + offset)
                    pages.append(int(title))
                    continue
                above = [*(heading for heading in above if heading[0] < level), (level, title)]
                marks.append((mark["start"] + offset, mark["end"] + offset, level))
                paths.append(PATH_SEPARATOR.join(heading for _, heading in above if heading))
                owners.append(number)
        starts, ends, levels = np.array(marks, dtype=np.int64).reshape(-1, 3).T
        return _Outline(
            Headings(starts, ends, levels),
            paths,
            self._path_tokens(paths),
            np.array(owners, dtype=np.int64),
            np.array(page_starts, dtype=np.int64),
            np.array(pages, dtype=np.int64),
        )

    def _limits(self, units: Units, outline: _Outline, document: Ints) -> Ints:
        """Return the tokens that a passage may have at each unit, where the path of its section leaves less room."""
        limits = np.full(len(units.starts), self._room, dtype=np.int64)
        if not (self._settings.with_headings and outline.paths):
            return limits
        heading = _heading_at(outline, units.bodies, document)
        path_tokens = np.where(heading >= 0, outline.path_tokens[np.maximum(heading, 0)], 0)
        if self._settings.by is not PassagesBy.HEADINGS:  # passages cross sections: room for the longest path
            sections = np.insert(np.cumsum(units.levels == Level.ALWAYS)[:-1], 0, 0)
            longest = np.zeros(sections[-1] + 1, dtype=np.int64)
            np.maximum.at(longest, sections, path_tokens)
            path_tokens = longest[sections]
        return limits - path_tokens

    def _path_tokens(self, paths: list[str]) -> Ints:
        """Return the tokens of each path; 0 for a path that takes more than half of a passage, which is left out."""
        if not (self._settings.with_headings and paths):
            return np.zeros(len(paths), dtype=np.int64)
        different = list(dict.fromkeys(paths))
        counted = dict(zip(different, self._tokens.count(self._clean(different)).tolist(), strict=True))
        sizes = np.array([counted[path] for path in paths], dtype=np.int64)
        return np.where(sizes > self._room // 2, 0, sizes)

    def _sized(self, units: Units, texts: Sequence[str], firsts: Ints, document: Ints, limits: Ints) -> "_Sized":
        """Count the tokens of all units, and replace a unit that is too long by itself by its parts."""
        begins = units.bodies if self._settings.with_headings else units.starts
        cleaned = self._clean(_slices(texts, firsts, document, begins, units.ends))
        num_tokens = self._tokens.count(cleaned)
        long = np.flatnonzero(num_tokens > limits + self._settings.overlap_tokens)  # by itself it may take that room
        if len(long):
            whole = _slices(texts, firsts, document[long], units.bodies[long], units.ends[long])
            units, owner = split_long_units(units, long, whole)
            document, limits, num_tokens = document[owner], limits[owner], num_tokens[owner]
            parts = np.flatnonzero(np.isin(owner, long))
            begins = units.bodies if self._settings.with_headings else units.starts
            cut = _slices(texts, firsts, document[parts], begins[parts], units.ends[parts])
            cleaned = [cleaned[unit] for unit in owner.tolist()]
            cleaned_parts = self._clean(cut)
            for place, text in zip(parts.tolist(), cleaned_parts, strict=True):
                cleaned[place] = text
            num_tokens[parts] = self._tokens.count(cleaned_parts)
        heads = pl.DataFrame({"head": pl.Series(cleaned, dtype=pl.String).str.head(HASHED_CHARACTERS)})
        hashes = heads.select(plh.col("head").nchash.xxhash64()).to_series().to_numpy().astype(np.uint64)
        keys = place_keys(units.levels, np.append(hashes[1:], np.uint64(0)))
        return _Sized(units, document, limits, num_tokens, keys)

    def _clean(self, texts: list[str]) -> list[str]:
        """Return texts as the tokenizer will see them, but with blanks in words that no tokenizer knows."""
        cleaned = clean_texts(pl.Series([text.strip() for text in texts], dtype=pl.String), self._cleaning)
        return cleaned.str.replace_all(rf"(\S{{{LONG_WORD}}})", "$1 ").to_list()

    def _with_overlap(self, first: Ints, last: Ints, sized: "_Sized") -> Ints:
        """Return the unit that each passage begins with when it repeats units before its first, as far as there is room."""
        overlap = self._settings.overlap_tokens
        if not overlap:
            return first
        ends = np.cumsum(sized.num_tokens)
        before = ends - sized.num_tokens
        room = np.minimum(overlap, sized.limits[first] + overlap - (ends[last] - before[first]))
        begin = np.searchsorted(before, before[first] - room, side="left")
        sections = np.insert(np.flatnonzero(level_of(sized.keys) == Level.ALWAYS) + 1, 0, 0)
        own = sections[np.searchsorted(sections, first, side="right") - 1]
        begin_in_own: Ints = np.minimum(np.maximum(begin, own), first)
        return begin_in_own

    def _rows(
        self,
        documents: pl.DataFrame,
        prefix: str,
        texts: Sequence[str],
        firsts: Ints,
        outline: _Outline,
        cut: "_Passages",
    ) -> pl.DataFrame:
        """Return the rows of passages."""
        offsets = firsts[cut.document]
        places = zip(cut.document.tolist(), (cut.begins - offsets).tolist(), (cut.ends - offsets).tolist(), strict=True)
        starts, ends, passages = zip(
            *(_trimmed(texts[document], begin, end) for document, begin, end in places), strict=True
        )
        heading = _heading_at(outline, cut.starts, cut.document).tolist()
        passage = pl.Series(passages, dtype=pl.String)
        rows = documents.drop("outline", strict=False)[cut.document]
        columns = {
            "document_id": rows["id"],
            "passage": passage,
            "start": pl.Series(starts, dtype=pl.Int64),
            "end": pl.Series(ends, dtype=pl.Int64),
            "headings": pl.Series([*outline.paths, None], dtype=pl.String)[heading],
        }
        text = passage
        if self._settings.with_headings and outline.paths:
            shown = [path if size else None for path, size in zip(outline.paths, outline.path_tokens, strict=True)]
            above = pl.Series([*shown, None], dtype=pl.String)[heading]
            text = pl.select(pl.concat_str(above, passage, separator="\n", ignore_nulls=True)).to_series()
        number = np.arange(len(offsets)) - np.searchsorted(cut.document, cut.document, side="left") + 1
        result = rows.with_columns(
            pl.format("{}#{}", "id", pl.Series(number)).alias("id"),
            text.alias("text"),
            *(series.alias(prefix + name) for name, series in columns.items()),
        )
        if prefix + "page" in result.columns and len(outline.pages):
            own = result[prefix + "page"]  # of documents without pages among those that have some
            pages = self._pages(outline, cut.starts, offsets).cast(own.dtype).fill_null(own)
            result = result.with_columns(pages.alias(prefix + "page"))
        return result

    @staticmethod
    def _pages(outline: _Outline, places: Ints, document_starts: Ints) -> pl.Series:
        """Return the page of each place; null where the document has none before it."""
        page_numbers = np.searchsorted(outline.page_starts, places, side="right") - 1
        has_page = (page_numbers >= 0) & (outline.page_starts[np.maximum(page_numbers, 0)] >= document_starts)
        return pl.Series(outline.pages[np.maximum(page_numbers, 0)]).set(pl.Series(~has_page), None)


def _no_passages(documents: pl.DataFrame, prefix: str) -> pl.DataFrame:
    nothing = {prefix + name: pl.Series([], dtype=kind) for name, kind in PASSAGE_COLUMNS.items()}
    return documents.drop("outline", strict=False).with_columns(**nothing)


def _heading_at(outline: _Outline, places: Ints, document: Ints) -> Ints:
    """Return the heading above each place, -1 for none."""
    if not outline.paths:
        return np.full(len(places), -1, dtype=np.int64)
    heading_numbers = np.searchsorted(outline.headings.starts, places, side="right") - 1
    heading_numbers[(heading_numbers >= 0) & (outline.documents[np.maximum(heading_numbers, 0)] != document)] = -1
    return heading_numbers


def _slices(texts: Sequence[str], firsts: Ints, document: Ints, starts: Ints, ends: Ints) -> list[str]:
    offsets = firsts[document]
    places = zip(document.tolist(), (starts - offsets).tolist(), (ends - offsets).tolist(), strict=True)
    return [texts[place][start:end] for place, start, end in places]


def _trimmed(text: str, start: int, end: int) -> tuple[int, int, str]:
    """Return a part of a text without white space around it, and where it is."""
    part = text[start:end]
    without_left = part.lstrip()
    passage = without_left.rstrip()
    begin = start + len(part) - len(without_left)
    return begin, begin + len(passage), passage

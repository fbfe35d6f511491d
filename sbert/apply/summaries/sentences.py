"""The sentences of documents, by the rules that cut documents into passages (`sbert.source.passages.units`)."""

import re
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import polars as pl

from sbert.apply.summaries.documents import Document, Int64
from sbert.index.words.terms import terms_of
from sbert.source.passages.outline import markdown_outline
from sbert.source.passages.units import Headings, split_units

__all__ = ["SentenceList", "count_words", "split_documents", "terms_of_texts"]

HAS_WORD = re.compile(r"\w")
WORD = r"[\p{Han}\p{Hiragana}\p{Katakana}\p{Thai}\p{Lao}\p{Khmer}\p{Myanmar}]|[^\s\p{Han}\p{Hiragana}\p{Katakana}]+"
"""A run without spaces; in scripts that put no spaces between words a character counts as a word."""


@dataclass(frozen=True)
class SentenceList:
    """The S sentences of one document that are ranked."""

    texts: tuple[str, ...]
    starts_S: Int64
    """Begin of each sentence in the document (characters)."""
    ends_S: Int64
    """End of each sentence (characters)."""
    num_words_S: Int64
    terms: tuple[tuple[str, ...], ...]
    """The terms of each, in lower case."""
    num_sentences: int
    """Sentences of the document; more than S when the document is longer than what is ranked."""

    def __len__(self) -> int:
        return len(self.texts)


def split_documents(documents: Sequence[Document], max_sentences: int) -> list[SentenceList]:
    """Return the first `max_sentences` sentences of each document; headings and lines without a word are none."""
    bounds: list[list[tuple[int, int]]] = [[] for _ in documents]
    with_text = [number for number, document in enumerate(documents) if document.has_text]
    if with_text:
        texts = [documents[number].text for number in with_text]
        firsts = np.cumsum([0, *map(len, texts)])
        units = split_units(pl.Series(texts, dtype=pl.String), _headings(texts, firsts))
        which = np.searchsorted(firsts, units.starts, side="right") - 1
        for at, begin, end in zip(which.tolist(), units.bodies.tolist(), units.ends.tolist(), strict=True):
            sentence = texts[at][begin - firsts[at] : end - firsts[at]]
            if HAS_WORD.search(sentence):
                start = int(begin - firsts[at]) + len(sentence) - len(sentence.lstrip())
                bounds[with_text[at]].append((start, start + len(sentence.strip())))
    return _lists(documents, bounds, max_sentences)


def count_words(texts: Sequence[str]) -> Int64:
    """Return the number of words of each text."""
    counts = pl.Series(texts, dtype=pl.String).str.count_matches(WORD)
    return counts.cast(pl.Int64).to_numpy()


def terms_of_texts(texts: Sequence[str]) -> list[tuple[str, ...]]:
    """Return the terms of each text, in lower case."""
    return [tuple(terms) for terms in terms_of(pl.Series(texts, dtype=pl.String)).to_list()]


def _lists(
    documents: Sequence[Document], bounds: Sequence[Sequence[tuple[int, int]]], max_sentences: int
) -> list[SentenceList]:
    kept = [places[:max_sentences] for places in bounds]
    texts = [
        document.text[start:end] for document, places in zip(documents, kept, strict=True) for start, end in places
    ]
    words_N = count_words(texts)
    terms = terms_of_texts(texts)
    lists, first = [], 0
    for document, places, all_places in zip(documents, kept, bounds, strict=True):
        last = first + len(places)
        starts_S, ends_S = np.array(places, np.int64).reshape(-1, 2).T
        lists.append(
            SentenceList(
                texts=tuple(texts[first:last]),
                starts_S=document.places(starts_S),
                ends_S=document.places(ends_S - 1) + 1,
                num_words_S=words_N[first:last],
                terms=tuple(terms[first:last]),
                num_sentences=len(all_places),
            )
        )
        first = last
    return lists


def _headings(texts: Sequence[str], firsts: Int64) -> Headings:
    """Return the headings of texts that are Markdown, at their places through all texts."""
    marks = [
        (int(mark["start"]) + offset, int(mark["end"]) + offset, int(mark["level"]))
        for text, offset in zip(texts, firsts.tolist(), strict=False)
        for mark in markdown_outline(text)
    ]
    starts, ends, levels = np.array(marks, np.int64).reshape(-1, 3).T
    return Headings(starts, ends, levels)

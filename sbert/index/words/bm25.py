"""Rows that hold the words of a query, ranked by BM25 over all segments of a version.

The score of a row is the sum over the query's terms of ``idf * f (k1 + 1) / (f + k1 (1 - b + b l / L))``, where ``f`` is
how often the row holds the term, ``l`` the number of the row's terms and ``L`` the mean of it. With ``n`` of ``N`` rows that
hold the term, ``idf`` is ``ln(1 + (N - n + 0.5) / (n + 0.5))`` (Robertson and Zaragoza 2009, "The Probabilistic Relevance
Framework: BM25 and Beyond", with the idf of Lucene, which is never negative). ``N``, ``n`` and ``L`` are counted over the
rows of the version. So the score does not depend on the segments, and rows that left do not count.
"""

import logging
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt
import polars as pl

from sbert.errors import MissingError, SettingsError, TableError
from sbert.index.segment_cache import shrink_cache
from sbert.index.top_k import NO_ROW, Int64
from sbert.index.version_rows import VersionRows
from sbert.index.words.postings import Postings, build_postings, hash_terms, open_segment
from sbert.index.words.settings import words_fingerprint, words_text_column
from sbert.index.words.terms import terms_of
from sbert.index.words.word_index import read_texts
from sbert.storage.files import join
from sbert.table.shard_layout import filled_splits, locate_splits
from sbert.table.word_segments import WORDS_FOLDER, WordRecord, choose_word_segments, read_word_segments
from sbert.vectors.precision import Float32

__all__ = ["BM25_B", "BM25_K1", "MAX_ROWS_READ", "Part", "WordScores", "WordView"]

log = logging.getLogger(__name__)

BM25_K1 = 1.6
BM25_B = 0.9
"""Chosen on dev queries by `tests/benchmarks/hybrid.py choose`."""
MAX_ROWS_READ = 250_000
"""Rows without a segment that a search reads at most."""


@dataclass(frozen=True)
class Part:
    """Postings that take part in a search."""

    postings: Postings
    numbers_R: Int64
    """Number in the version of each row; `NO_ROW` for rows that left, or that another segment answers for."""

    @property
    def is_whole(self) -> bool:
        """Whether no row left."""
        return bool((self.numbers_R >= 0).all())


class WordScores:
    """BM25 over parts of a version."""

    def __init__(self, parts: Sequence[Part], num_rows: int) -> None:
        """Count the terms of the rows of a version; each of its `num_rows` rows is in one part."""
        self._parts = parts
        self._num_rows = num_rows
        total = sum(int(part.postings.lengths_R[part.numbers_R >= 0].sum(dtype=np.int64)) for part in parts)
        self._mean_length = max(total / max(num_rows, 1), 1e-9)

    def search(
        self,
        queries: Sequence[str],
        k: int,
        matching: Int64 | None = None,
        *,
        k1: float = BM25_K1,
        b: float = BM25_B,
    ) -> tuple[Float32, Int64]:
        """Return scores and row numbers of the k best rows of each query, best first, shape (Q, k).

        Places without a row have the number `NO_ROW`: only rows that hold a term of the query are found.

        Args:
            queries: clean texts.
            k: rows a query.
            matching: numbers of the rows to search among; None for all.
            k1: how soon repetitions of a term stop to count.
            b: how much long rows are discounted (0 to 1).
        """
        scores_QK = np.full((len(queries), k), -np.inf, np.float32)
        numbers_QK = np.full((len(queries), k), NO_ROW, np.int64)
        is_chosen = None
        if matching is not None:
            is_chosen = np.zeros(self._num_rows, np.bool_)
            is_chosen[matching] = True
        for query, terms in enumerate(terms_of(pl.Series(queries, dtype=pl.String)).to_list()):
            numbers, scores = self._score(hash_terms(sorted(set(terms))), k, is_chosen, k1, b)
            numbers_QK[query, : len(numbers)], scores_QK[query, : len(numbers)] = numbers, scores
        return scores_QK, numbers_QK

    def _score(
        self,
        terms: npt.NDArray[np.uint64],
        k: int,
        is_chosen: npt.NDArray[np.bool_] | None,
        k1: float,
        b: float,
    ) -> tuple[Int64, Float32]:
        """Return numbers and scores of the k best rows for the hashes of a query's terms, best first."""
        postings_of: dict[tuple[int, int], tuple[npt.NDArray[np.uint32], npt.NDArray[np.uint16]]] = {}
        num_holders = dict.fromkeys(terms.tolist(), 0)
        for at, part in enumerate(self._parts):
            for term in num_holders:
                rows, counts = part.postings.of(term)
                if not part.is_whole:
                    is_live = part.numbers_R[rows] >= 0
                    rows, counts = rows[is_live], counts[is_live]
                postings_of[at, term] = rows, counts
                num_holders[term] += len(rows)
        every_number, every_score = [np.zeros(0, np.int64)], [np.zeros(0, np.float32)]
        for at, part in enumerate(self._parts):
            sums = np.zeros(len(part.numbers_R), np.float32)
            for term, holders in num_holders.items():
                rows, counts = postings_of[at, term]
                if not len(rows):
                    continue
                idf = np.log1p((self._num_rows - holders + 0.5) / (holders + 0.5))
                lengths = part.postings.lengths_R[rows] / self._mean_length
                frequency = counts.astype(np.float32)
                sums[rows] += (idf * frequency * (k1 + 1) / (frequency + k1 * (1 - b + b * lengths))).astype(np.float32)
            hit = np.flatnonzero(sums)
            if is_chosen is not None:
                hit = hit[is_chosen[part.numbers_R[hit]]]
            if len(hit) > k:  # every row that ties with the k-th is kept, so that the order below decides among them
                hit = hit[sums[hit] >= np.partition(sums[hit], len(hit) - k)[len(hit) - k]]
            every_number.append(part.numbers_R[hit])
            every_score.append(sums[hit])
        numbers, scores = np.concatenate(every_number), np.concatenate(every_score)
        order = np.lexsort((numbers, -scores))[:k]
        return numbers[order], scores[order]


class WordView(WordScores):
    """The words of one version. Threads may share it."""

    def __init__(self, rows: VersionRows, column: str | None = None) -> None:
        """Open the segments that serve the version, and read the texts of splits without one.

        Args:
            rows: rows of the version.
            column: kept column whose words are searched; by default the encoded text.

        Raises:
            ColumnError: the table keeps no column of texts.
            SettingsError: too many rows have no segment.
        """
        table = rows.table
        self.column = words_text_column(table, column)
        self._shards = locate_splits(table.uri, rows.shards)
        self._ranges: dict[str, list[Int64]] = {}
        for shard, start in zip(self._shards, rows.starts.tolist(), strict=False):
            for split in (split for split in shard.splits if split.num_rows):
                numbers = np.arange(split.num_rows, dtype=np.int64) + start + split.first_row
                self._ranges.setdefault(split.fingerprint, []).append(numbers)
        splits = filled_splits(self._shards)
        fingerprint = words_fingerprint(table, self.column)
        parts: list[Part] = []
        covered: set[str] = set()
        opened: list[WordRecord] = []
        for record, answered in choose_word_segments(read_word_segments(table.uri), splits, fingerprint):
            part = _open(table.uri, record, self._numbers(record, answered))
            if part is not None:
                parts.append(part)
                opened.append(record)
                covered |= answered
        self.num_segments = len(parts)
        shrink_cache((join(table.uri, WORDS_FOLDER), record.data.name) for record in opened)
        missing = sorted(splits.keys() - covered)
        self.num_rows_read = sum(splits[name] for name in missing)
        """Rows without a segment, whose texts were read."""
        if self.num_rows_read > MAX_ROWS_READ:
            raise SettingsError(
                f"{table.uri}: {self.num_rows_read:,} rows are in no segment of the word index, but a search reads at most "
                f"{MAX_ROWS_READ:,}: run `sbert index-words` first"
            )
        if missing:
            postings = build_postings(read_texts(table, self._shards, self.column, missing))
            parts.append(Part(postings, np.concatenate([part for name in missing for part in self._ranges[name]])))
        super().__init__(parts, len(rows))

    def _numbers(self, record: WordRecord, answered: frozenset[str]) -> Int64:
        """Return the number in the version of each row of a segment."""
        parts = [
            part
            for split in record.splits
            for part in (
                self._ranges[split.fingerprint]
                if split.fingerprint in answered
                else [np.full(split.num_rows, NO_ROW, np.int64)]
            )
        ]
        return np.concatenate(parts)


def _open(table_uri: str, record: WordRecord, numbers_R: Int64) -> Part | None:
    """Open a segment. A missing or damaged segment is logged and left out; its rows are read instead."""
    try:
        postings = open_segment(table_uri, record)
    except (MissingError, TableError) as error:
        log.warning("a segment of the word index is left out, its rows are read: %s", error)
        return None
    return Part(postings, numbers_R)

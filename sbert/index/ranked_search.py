"""Search by words, by words and vectors together, and with rows that differ from each other.

Each way ranks more rows than are asked for. Reciprocal rank fusion puts the rankings together, which needs no scale
common to cosines and BM25. Maximal marginal relevance then chooses among the best.
"""

from collections.abc import Callable, Sequence
from typing import NamedTuple

import numpy as np
import polars as pl

from sbert.encoder.tokenization.texts import check_text
from sbert.errors import SettingsError
from sbert.index.fusion import diversify, fuse_rankings
from sbert.index.queries import RejectedQuery
from sbert.index.search_settings import SearchMode, SearchSettings
from sbert.index.top_k import NO_ROW, Int64
from sbert.index.version_rows import VersionRows
from sbert.index.words.bm25 import WordView
from sbert.rows.cleaning import clean_texts
from sbert.rows.rejects import RejectReason
from sbert.table.delta import Table
from sbert.table.recorded_settings import table_cleaning
from sbert.table.shards import vector_matrix, vector_names
from sbert.vectors.precision import Float32

__all__ = ["PreparedQueries", "check_modes", "clean_queries", "num_ranked", "rank_rows"]

MIN_RANKED = 100
RANKED_PER_ROW = 3
"""Rows that each way ranks for each row that is asked for: a row must be in both rankings to gain from both."""
FUSION_CONSTANT = 5.0
VECTOR_WEIGHT = 1.0
WORD_WEIGHT = 0.7
"""Constant and weight were chosen on dev queries by `tests/benchmarks/hybrid.py choose`."""

Ranking = tuple[Float32, Int64]
"""Scores and row numbers of each query, best first."""


class PreparedQueries(NamedTuple):
    """Queries that can be searched, and the others."""

    numbers: Int64
    """Place of each query among the given queries."""
    texts: Sequence[str]
    """The clean texts; none when vectors were given."""
    vectors_QD: Float32
    """Shape (Q, dim); (Q, 0) where no vectors are needed."""
    rejected: tuple[RejectedQuery, ...]


def clean_queries(table: Table, queries: Sequence[str]) -> PreparedQueries:
    """Clean queries as the table's texts were; the encoder is not needed.

    Raises:
        SettingsError: one of the texts is no valid Unicode string.
    """
    for number, text in enumerate(queries):
        check_text(text, "the query" if len(queries) == 1 else f"query {number}")
    cleaned = clean_texts(pl.Series(queries, dtype=pl.String), table_cleaning(table)).to_list()
    detail = "the query is empty after cleaning: give a text"
    return PreparedQueries(
        np.array([number for number, text in enumerate(cleaned) if text], np.int64),
        [text for text in cleaned if text],
        np.zeros((sum(bool(text) for text in cleaned), 0), np.float32),
        tuple(
            RejectedQuery(number, RejectReason.EMPTY_TEXT, detail) for number, text in enumerate(cleaned) if not text
        ),
    )


def num_ranked(asked: SearchSettings) -> int:
    """Return the rows that each way ranks."""
    if asked.mode is not SearchMode.HYBRID and not asked.diversity:
        return asked.k
    return max(MIN_RANKED, RANKED_PER_ROW * asked.k)


def rank_rows(
    rows: VersionRows,
    texts: Sequence[str],
    asked: SearchSettings,
    *,
    by_vectors: Callable[[int], Ranking],
    words: Callable[[], WordView],
    matching: Int64 | None,
) -> Ranking:
    """Return the best rows of each query, shape (Q, k).

    Args:
        rows: rows of the version.
        texts: the queries, clean.
        asked: mode and diversity.
        by_vectors: gives the nearest rows of each query, as many as it is told.
        words: opens the words of the version.
        matching: numbers of the rows to search among; None for all.
    """
    count = num_ranked(asked)
    if asked.mode is SearchMode.WORDS:
        ranking = words().search(texts, count, matching)
    elif asked.mode is SearchMode.VECTOR:
        ranking = by_vectors(count)
    else:
        _, near = by_vectors(count)
        _, worded = words().search(texts, count, matching)
        scores_QK, numbers_QK = fuse_rankings([near, worded], [VECTOR_WEIGHT, WORD_WEIGHT], count, FUSION_CONSTANT)
        most = (VECTOR_WEIGHT + WORD_WEIGHT) / (FUSION_CONSTANT + 1)  # the best row of both has score 1
        ranking = scores_QK / np.float32(most), numbers_QK
    return (
        _different_rows(rows, ranking, asked)
        if asked.diversity
        else (ranking[0][:, : asked.k], ranking[1][:, : asked.k])
    )


def _different_rows(rows: VersionRows, ranking: Ranking, asked: SearchSettings) -> Ranking:
    scores_QK = np.full((len(ranking[0]), asked.k), -np.inf, np.float32)
    numbers_QK = np.full((len(ranking[0]), asked.k), NO_ROW, np.int64)
    for query, (scores, numbers) in enumerate(zip(*ranking, strict=True)):
        is_row = numbers != NO_ROW
        row_numbers, relevance = numbers[is_row], scores[is_row]
        if not len(row_numbers):
            continue
        if asked.mode is SearchMode.WORDS:
            relevance = relevance / relevance[0]  # BM25 has no upper end; cosines and fused scores end at 1
        order = diversify(relevance, _vectors(rows, row_numbers), asked.k, asked.diversity)
        scores_QK[query, : len(order)], numbers_QK[query, : len(order)] = scores[is_row][order], row_numbers[order]
    return scores_QK, numbers_QK


def _vectors(rows: VersionRows, numbers: Int64) -> Float32:
    """Read the vectors of rows, in their order."""
    info = rows.table.encoder
    table = rows.columns(numbers, vector_names(info.precision)).to_arrow()
    return vector_matrix(table, info.dim, info.precision)


def check_modes(asked: SearchSettings, queries: object) -> None:
    """Refuse vectors as queries where words are searched.

    Raises:
        SettingsError: the queries are vectors.
    """
    if asked.mode is not SearchMode.VECTOR and isinstance(queries, np.ndarray):
        raise SettingsError(f"the queries are vectors, mode {asked.mode.value} needs texts: give texts, or mode vector")

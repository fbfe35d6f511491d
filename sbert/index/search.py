"""Search a version of a table: queries in, the nearest rows out.

>>> from sbert.index.search import search_table
>>> result = search_table(Table.open("data/table"), "how do I reset my password")  # doctest: +SKIP
>>> [(hit.score, hit.id) for hit in result.hits()]  # doctest: +SKIP

`Searcher` keeps what a search opens, for the next search in the same process.
"""

import math
from collections.abc import Sequence
from functools import cached_property

import numpy as np
import polars as pl

from sbert.errors import SettingsError
from sbert.index.column_cache import ColumnCache
from sbert.index.queries import QueryEncoder, RejectedQuery
from sbert.index.ranked_search import PreparedQueries, check_modes, clean_queries, num_ranked, rank_rows
from sbert.index.row_filter import RowFilter
from sbert.index.search_settings import SearchMode, SearchResult, SearchSettings, SearchWay
from sbert.index.segment import num_proposed
from sbert.index.segment_search import IndexView
from sbert.index.top_k import NO_ROW, Int64, TopK, in_order
from sbert.index.version_rows import VersionRows
from sbert.index.words.bm25 import WordView
from sbert.table.delta import Table
from sbert.vectors.precision import Float32

__all__ = ["QUERIES_PER_PASS", "Searcher", "search_table"]

QUERIES_PER_PASS = 32_768
"""Queries that share one reading of the table: their vectors and best rows stay in memory."""
FILTER_MARGIN = 1.5
"""Factor by which a segment proposes more rows than a filter is expected to leave."""
MAX_PROPOSED = 2_000
"""Most rows that a segment proposes under a filter. Above it, comparing all rows that the filter leaves is quicker."""
MAX_FILTERED_ROWS = 8_000_000
"""Row numbers of filters that are kept for the next search: 64 MB."""


def search_table(
    table: Table, queries: str | Sequence[str] | Float32, *, settings: SearchSettings | None = None
) -> SearchResult:
    """Return the rows of a table nearest to each query.

    Args:
        table: the version to search.
        queries: one text, several texts, or vectors of the table's encoder of shape (Q, dim). Texts are cleaned, encoded and
            truncated as the table's texts were, with the encoder's prompt for queries.
        settings: what is asked; by default the ten nearest rows.

    Raises:
        SettingsError: the only query cannot be one, vectors have another dim than the table, the filter is wrong, or words
            are searched and too many rows have no word index.
        ColumnError: words are searched and no text is kept.
        ModelError: the table's encoder cannot be loaded.
        EncoderMismatchError: the model of that name is no longer the same encoder.
    """
    return Searcher(table).search(queries, settings=settings)


class Searcher:
    """Searches one version of a table again and again. Threads may share one."""

    def __init__(self, table: Table) -> None:
        """Read the list of the version's shards."""
        self.table = table
        self._rows = VersionRows(table)
        self._columns = ColumnCache(self._rows)
        self._filters: dict[str, Int64] = {}
        self._word_views: dict[str | None, WordView] = {}

    def search(self, queries: str | Sequence[str] | Float32, *, settings: SearchSettings | None = None) -> SearchResult:
        """Return the rows nearest to each query, as `search_table` does."""
        asked = settings or SearchSettings()
        check_modes(asked, queries)
        matching = None if asked.where is None else self._matching(asked.where)
        prepared = self._prepare(queries, asked.mode)
        way = SearchWay(
            version=self.table.version,
            num_rows=len(self._rows),
            num_rows_filtered=None if matching is None else len(matching),
            mode=asked.mode,
        )
        proposed = 0
        if asked.mode is not SearchMode.WORDS:
            proposed = self._num_proposed(asked, matching)
            by_index = {
                "by_index": True,
                "num_segments": len(self._index.segments),
                "num_splits_without_segment": len(self._index.splits_without_segment),
            }
            way = way.model_copy(update=by_index if proposed else {})
        if asked.mode is not SearchMode.VECTOR:
            words = self._words(asked.words_column)
            read = {"num_word_segments": words.num_segments, "num_rows_read": words.num_rows_read}
            way = way.model_copy(update=read)
        ranking = rank_rows(
            self._rows,
            prepared.texts,
            asked,
            by_vectors=lambda count: self._by_vectors(prepared.vectors_QD, count, matching, proposed),
            words=lambda: self._words(asked.words_column),
            matching=None if asked.mode is SearchMode.VECTOR else matching,
        )
        return self._result(prepared.numbers, [ranking], prepared.rejected, way)

    @cached_property
    def _index(self) -> IndexView:
        """The segments of the index that serve the version."""
        return IndexView(self._rows)

    def _num_proposed(self, asked: SearchSettings, matching: Int64 | None) -> int:
        """Return the rows that each segment proposes for a query; 0 if every row is compared."""
        proposed = num_proposed(num_ranked(asked))
        if matching is not None and len(matching):
            proposed = math.ceil(FILTER_MARGIN * proposed * len(self._rows) / len(matching))
        return proposed if self._index.segments and not asked.exact and proposed <= MAX_PROPOSED else 0

    def _matching(self, where: str) -> Int64:
        """Return the numbers of the rows that satisfy a filter; the numbers of the last filters are cached."""
        if where not in self._filters:
            matching = self._rows.matching(RowFilter(where, self.table))
            while self._filters and sum(map(len, self._filters.values())) + len(matching) > MAX_FILTERED_ROWS:
                self._filters.pop(next(iter(self._filters)))
            self._filters[where] = matching
        return self._filters[where]

    @cached_property
    def _encoder(self) -> QueryEncoder:
        return QueryEncoder(self.table)

    def _words(self, column: str | None) -> WordView:
        """Open the words of a column, once."""
        if column not in self._word_views:
            self._word_views[column] = WordView(self._rows, column)
        return self._word_views[column]

    def _prepare(self, queries: str | Sequence[str] | Float32, mode: SearchMode) -> PreparedQueries:
        """Return the queries that can be searched, and the others."""
        if isinstance(queries, np.ndarray):
            dim = self.table.encoder.dim
            if queries.ndim != 2 or queries.shape[1] != dim:
                raise SettingsError(
                    f"the vectors of the queries have shape {queries.shape}, the table has dim {dim}: give vectors of its "
                    f"encoder {self.table.encoder.model}, shape (queries, {dim})"
                )
            return PreparedQueries(np.arange(len(queries)), (), queries, ())
        texts = [queries] if isinstance(queries, str) else queries
        if mode is SearchMode.WORDS:
            prepared = clean_queries(self.table, texts)
        else:
            encoded = self._encoder.encode_queries(texts)
            numbers = np.array(encoded.numbers, np.int64)
            prepared = PreparedQueries(numbers, encoded.texts, encoded.vectors_QD, encoded.rejected)
        if isinstance(queries, str) and prepared.rejected:
            raise SettingsError(prepared.rejected[0].detail)
        return prepared

    def _by_vectors(self, vectors_QD: Float32, k: int, matching: Int64 | None, proposed: int) -> tuple[Float32, Int64]:
        """Return scores and row numbers of the k nearest rows of each query, best first, shape (Q, k)."""
        parts = [
            self._nearest(vectors_QD[first : first + QUERIES_PER_PASS], k, matching, proposed)
            for first in range(0, len(vectors_QD), QUERIES_PER_PASS)
        ]
        if not parts:
            return np.zeros((0, k), np.float32), np.zeros((0, k), np.int64)
        return np.concatenate([scores for scores, _ in parts]), np.concatenate([numbers for _, numbers in parts])

    def _nearest(self, vectors_QD: Float32, k: int, matching: Int64 | None, proposed: int) -> tuple[Float32, Int64]:
        """Return scores and row numbers of the k best rows of each query, best first.

        Args:
            vectors_QD: the queries.
            k: rows a query.
            matching: numbers of the rows to search among, ascending; None for all.
            proposed: rows that each segment proposes for a query; 0 compares every row.
        """
        best = TopK(vectors_QD, k)
        if proposed:
            self._index.search(best, vectors_QD, proposed, matching)
            wanted = min(k, len(self._rows) if matching is None else len(matching))
            short = np.flatnonzero((best.numbers_QK != NO_ROW).sum(axis=1) < wanted)
            if len(short):  # the lists, or the filter, left fewer rows than expected
                best.scores_QK[short], best.numbers_QK[short] = self._nearest(vectors_QD[short], k, matching, 0)
        else:
            blocks = self._index.vectors() if matching is None else self._index.vectors_at(matching)
            for block in blocks:
                best.add(block.vectors_ND, block.numbers_N)
        return in_order(best.scores_QK, best.numbers_QK)

    def _result(
        self,
        queries: Int64,
        nearest: list[tuple[Float32, Int64]],
        rejected: tuple[RejectedQuery, ...],
        way: SearchWay,
    ) -> SearchResult:
        """Read the columns of the rows that were found."""
        scores_QK = np.concatenate([np.zeros((0, 1), np.float32)] if not nearest else [part for part, _ in nearest])
        numbers_QK = np.concatenate([np.zeros((0, 1), np.int64)] if not nearest else [part for _, part in nearest])
        is_row = numbers_QK != NO_ROW
        query, rank = np.nonzero(is_row)
        places = pl.DataFrame(
            {
                "query": queries[query],
                "rank": (rank + 1).astype(np.int32),
                "score": scores_QK[is_row],
            },
            schema={"query": pl.Int64, "rank": pl.Int32, "score": pl.Float32},
        )
        rows = self._columns.rows(numbers_QK[is_row])
        return SearchResult(places=places, rows=rows, rejected=rejected, way=way)

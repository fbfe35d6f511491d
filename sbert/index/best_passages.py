"""Search a table of passages for documents: of each document, its best passage.

>>> from sbert.index.best_passages import search_documents
>>> search_documents(Searcher(table), "how do I change the oil").hits()  # doctest: +SKIP

Rows are asked for until there are enough documents among them, so the answer is that of a search over all passages.
"""

from collections.abc import Sequence

import polars as pl

from sbert.errors import ColumnError
from sbert.index.search import Searcher
from sbert.index.search_settings import SearchResult, SearchSettings
from sbert.vectors.precision import Float32

__all__ = ["DOCUMENT_COLUMN", "search_documents"]

DOCUMENT_COLUMN = "document_id"
FIRST_FACTOR = 4
"""Rows that are asked for at first, for each document."""
MAX_ROWS = 10_000
"""Most rows of a query (the bound of the setting ``k``)."""


def search_documents(
    searcher: Searcher, queries: str | Sequence[str] | Float32, *, settings: SearchSettings | None = None
) -> SearchResult:
    """Return the best passage of each of the ``k`` best documents of each query, best first.

    A query gets fewer than ``k`` documents if there are no more, or if the 10,000 best passages are of fewer documents.

    Args:
        searcher: of a table of passages.
        queries: as those of `Searcher.search`.
        settings: what is asked; ``k`` counts documents.

    Raises:
        ColumnError: the table has no passages.
        SettingsError: as `Searcher.search`.
    """
    asked = settings or SearchSettings()
    if DOCUMENT_COLUMN not in searcher.table.kept_schema:
        raise ColumnError(
            f"{searcher.table.uri}: no column {DOCUMENT_COLUMN!r}, so its rows are not passages: refresh it with --passages "
            "everything, or search it for rows"
        )
    num_rows = min(FIRST_FACTOR * asked.k, MAX_ROWS)
    while True:
        found = searcher.search(queries, settings=asked.model_copy(update={"k": num_rows}))
        best = _best_of_each(found)
        is_short = _counts(best.places) < asked.k
        may_have_more = _counts(found.places) >= num_rows
        if num_rows == MAX_ROWS or not (is_short & may_have_more).any():
            return _first(best, asked.k)
        num_rows = min(FIRST_FACTOR * num_rows, MAX_ROWS)


def _best_of_each(found: SearchResult) -> SearchResult:
    """Keep the first row of each document and query."""
    keys = found.rows.select("source", DOCUMENT_COLUMN).with_columns(found.places["query"])
    return _rows(found, keys.select(pl.struct(pl.all()).is_first_distinct()).to_series())


def _first(found: SearchResult, k: int) -> SearchResult:
    """Keep the first `k` rows of each query, ranked anew."""
    ranked = found.places.with_columns(rank=pl.int_range(1, pl.len() + 1, dtype=pl.Int32).over("query"))
    result = SearchResult(places=ranked, rows=found.rows, rejected=found.rejected, way=found.way)
    return _rows(result, ranked["rank"] <= k)


def _rows(found: SearchResult, keep: pl.Series) -> SearchResult:
    return SearchResult(
        places=found.places.filter(keep), rows=found.rows.filter(keep), rejected=found.rejected, way=found.way
    )


def _counts(places: pl.DataFrame) -> pl.Series:
    """Return the number of rows of each query that has some, in the order of the queries."""
    return places.group_by("query", maintain_order=True).len()["len"]

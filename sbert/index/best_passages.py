"""Search a table of passages for documents: of each document, its best passage.

>>> from sbert.index.best_passages import search_documents
>>> search_documents(Searcher(table), "how do I change the oil").hits()  # doctest: +SKIP

The search asks for more rows until they hold enough documents. So the answer equals that of a search over all passages. Only
the
queries that have too few documents are searched again.
"""

from collections.abc import Sequence
from dataclasses import replace

import numpy as np
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
    result = searcher.search(queries, settings=asked.model_copy(update={"k": num_rows}))
    parts = [_best_of_each(result)]
    while num_rows < MAX_ROWS and (short := _short_queries(result.places, parts[-1].places, asked.k, num_rows)):
        num_rows = min(FIRST_FACTOR * num_rows, MAX_ROWS)
        wider = searcher.search(_at(queries, short), settings=asked.model_copy(update={"k": num_rows}))
        result = _renumbered(wider, short)
        is_kept = ~parts[-1].places["query"].is_in(short)
        parts[-1] = _filtered(parts[-1], is_kept)
        parts.append(_best_of_each(result))
    return _ranked(parts, asked.k)


def _short_queries(rows: pl.DataFrame, best: pl.DataFrame, k: int, num_rows: int) -> list[int]:
    """Return the queries with fewer than `k` documents that may have more: they got as many rows as were asked for."""
    num_found = rows.group_by("query").len("num_rows")
    num_documents = best.group_by("query").len("num_documents")
    counts = num_found.join(num_documents, on="query")
    is_short = (pl.col("num_documents") < k) & (pl.col("num_rows") >= num_rows)
    return counts.filter(is_short)["query"].sort().to_list()


def _at(queries: str | Sequence[str] | Float32, numbers: Sequence[int]) -> str | Sequence[str] | Float32:
    """Return the queries of these numbers."""
    if isinstance(queries, str):
        return queries
    return queries[np.array(numbers)] if isinstance(queries, np.ndarray) else [queries[number] for number in numbers]


def _renumbered(result: SearchResult, numbers: Sequence[int]) -> SearchResult:
    """Return a result whose queries have the given numbers, for a search of some queries only."""
    places = result.places.with_columns(query=pl.Series(numbers, dtype=pl.Int64).gather(result.places["query"]))
    return replace(result, places=places)


def _best_of_each(result: SearchResult) -> SearchResult:
    """Keep the first row of each document and query."""
    keys = result.rows.select("source", DOCUMENT_COLUMN).with_columns(result.places["query"])
    return _filtered(result, keys.select(pl.struct(pl.all()).is_first_distinct()).to_series())


def _ranked(parts: Sequence[SearchResult], k: int) -> SearchResult:
    """Put the results of several searches together, and keep the first `k` rows of each query, ranked anew."""
    places = pl.concat([part.places for part in parts])
    order = places["query"].arg_sort()
    places = places[order].with_columns(rank=pl.int_range(1, pl.len() + 1, dtype=pl.Int32).over("query"))
    rows = pl.concat([part.rows for part in parts])[order]
    together = SearchResult(places=places, rows=rows, rejected=parts[0].rejected, way=parts[0].way)
    return _filtered(together, places["rank"] <= k)


def _filtered(result: SearchResult, is_kept: pl.Series) -> SearchResult:
    return replace(result, places=result.places.filter(is_kept), rows=result.rows.filter(is_kept))

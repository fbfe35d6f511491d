"""Settings of a search, and its answer."""

from dataclasses import dataclass
from typing import Any

import polars as pl
from pydantic import BaseModel, ConfigDict, Field

from sbert.index.queries import RejectedQuery

__all__ = ["HIT_COLUMNS", "Hit", "SearchResult", "SearchSettings", "SearchWay"]

HIT_COLUMNS = ("query", "rank", "score")
"""Columns of a hit beside those of its row."""


class SearchSettings(BaseModel):
    """Settings of a search."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    k: int = Field(default=10, ge=1, le=10_000, title="Rows", description="Rows that each query gets at most (rows).")
    where: str | None = Field(
        default=None,
        title="Filter",
        description="Rows to search among, as SQL over kept columns, such as lang = 'en' and price < 10; empty for all.",
    )


class SearchWay(BaseModel):
    """Ways of finding rows."""

    model_config = ConfigDict(frozen=True)

    version: int = Field(description="Version of the table that was searched.")
    by_index: bool = Field(default=False, description="Whether an index was used; else every row was compared.")
    num_rows: int = Field(description="Rows of the version.")
    is_filtered: bool = Field(default=False, description="Whether only rows that satisfy a filter were searched.")
    num_segments: int = Field(default=0, description="Segments of the index that were used.")
    num_splits_without_segment: int = Field(
        default=0, description="Splits that no segment holds; their rows were compared one by one."
    )

    def describe(self) -> str:
        """Return the way in words."""
        rows = f"{'the filtered of ' if self.is_filtered else ''}{self.num_rows:,} rows of version {self.version}"
        if not self.by_index:
            return f"exact, {rows}"
        missing = self.num_splits_without_segment
        rest = f", {missing:,} splits without a segment exactly" if missing else ""
        return f"index of {self.num_segments:,} segments{rest}, {rows}"


@dataclass(frozen=True)
class Hit:
    """A row near a query."""

    id: str
    source: str
    score: float
    """Cosine of query and row (inner product when the table's vectors are not normalized)."""
    kept: dict[str, Any]
    """The row's kept columns."""


@dataclass(frozen=True)
class SearchResult:
    """The rows that were found, and how."""

    places: pl.DataFrame
    """Columns ``query`` (number of the query, from 0), ``rank`` (from 1) and ``score``; best first within a query."""
    rows: pl.DataFrame
    """The row of each line of `places`: ``id``, ``source`` and the table's kept columns."""
    rejected: tuple[RejectedQuery, ...]
    """Queries that could not be searched."""
    way: SearchWay

    def hits(self, query: int = 0) -> list[Hit]:
        """Return the rows of one query, best first."""
        chosen = self.places["query"] == query
        return [
            Hit(row.pop("id"), row.pop("source"), score, row)
            for row, score in zip(
                self.rows.filter(chosen).to_dicts(), self.places["score"].filter(chosen).to_list(), strict=True
            )
        ]

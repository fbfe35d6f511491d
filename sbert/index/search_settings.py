"""Settings of a search, and its answer."""

from dataclasses import dataclass
from enum import StrEnum
from typing import Any

import polars as pl
from pydantic import BaseModel, ConfigDict, Field

from sbert.counted import counted
from sbert.index.queries import RejectedQuery

__all__ = ["Hit", "SearchMode", "SearchResult", "SearchSettings", "SearchWay"]


class SearchMode(StrEnum):
    """Method that finds rows."""

    VECTOR = "vector"
    """The nearest vectors: rows of similar meaning."""
    WORDS = "words"
    """The words of the query, ranked by BM25: names, codes, rare words."""
    HYBRID = "hybrid"
    """Both, put together by reciprocal rank fusion."""


class SearchSettings(BaseModel):
    """Settings of a search."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    k: int = Field(default=10, ge=1, le=10_000, title="Rows", description="Rows that each query gets at most (rows).")
    exact: bool = Field(
        default=False, title="Exact", description="Whether to compare every row, and use no index that is there."
    )
    where: str | None = Field(
        default=None,
        title="Filter",
        description="Rows to search among, as SQL over kept columns, such as lang = 'en' and price < 10; empty for all.",
    )

    mode: SearchMode = Field(
        default=SearchMode.VECTOR, title="Mode", description="How rows are found: by vectors, by words, or by both."
    )
    diversity: float = Field(
        default=0.0,
        ge=0,
        le=1,
        title="Diversity",
        description="How much each row must differ from the rows above it: 0 not at all, 1 whatever the query (0 to 1).",
    )
    words_column: str | None = Field(
        default=None,
        title="Words of",
        description="Kept column whose words are searched; empty for the column that was encoded, else text.",
    )


class SearchWay(BaseModel):
    """Ways of finding rows."""

    model_config = ConfigDict(frozen=True)

    version: int = Field(description="Version of the table that was searched.")
    by_index: bool = Field(default=False, description="Whether an index was used; else every row was compared.")
    num_rows: int = Field(description="Rows of the version.")
    num_rows_filtered: int | None = Field(
        default=None, description="Rows that satisfy the filter; empty when there was none."
    )
    num_segments: int = Field(default=0, description="Segments of the index that were used.")
    num_splits_without_segment: int = Field(
        default=0, description="Splits that no segment holds; their rows were compared one by one."
    )

    mode: SearchMode = Field(default=SearchMode.VECTOR, description="How rows were found.")
    num_word_segments: int = Field(default=0, description="Segments of the word index that were used.")
    num_rows_read: int = Field(
        default=0, description="Rows in no segment of the word index; their texts were read for the search."
    )

    def describe(self) -> str:
        """Return the way in words."""
        if self.mode is SearchMode.VECTOR:
            return self._describe_vectors()
        number = self.num_word_segments
        index = f"{counted(number, 'segment')} of the word index" if number else "no word index"
        read = f", the texts of {counted(self.num_rows_read, 'row')} were read" if self.num_rows_read else ""
        words = f"words: {index}{read}"
        if self.mode is SearchMode.WORDS:
            return f"{words}, {counted(self.num_rows, 'row')} of version {self.version}"
        return f"{words}; vectors: {self._describe_vectors()}"

    def _describe_vectors(self) -> str:
        rows = f"{counted(self.num_rows, 'row')} of version {self.version}"
        if self.num_rows_filtered is not None:
            rows = f"{self.num_rows_filtered:,} of {rows} satisfy the filter"
        if not self.by_index:
            return f"exact, {rows}"
        missing = self.num_splits_without_segment
        rest = f", {counted(missing, 'split')} without a segment exactly" if missing else ""
        return f"index of {counted(self.num_segments, 'segment')}{rest}, {rows}"


@dataclass(frozen=True)
class Hit:
    """A row near a query."""

    id: str
    source: str
    score: float
    """By vectors the cosine of query and row (inner product when the table's vectors are not normalized), by words BM25, by
    both the fused rank: 1 for the best row of both."""
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
        is_of_query = self.places["query"] == query
        return [
            Hit(row.pop("id"), row.pop("source"), score, row)
            for row, score in zip(
                self.rows.filter(is_of_query).to_dicts(),
                self.places["score"].filter(is_of_query).to_list(),
                strict=True,
            )
        ]

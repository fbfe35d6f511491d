"""Settings of the index."""

import hashlib

from pydantic import BaseModel, ConfigDict, Field

__all__ = ["IndexSettings"]


class IndexSettings(BaseModel):
    """Settings of an index."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    min_recall: float = Field(
        default=0.95,
        ge=0,
        le=1,
        title="Least recall",
        description="Least recall@10 against exact search; a segment that stays below it is refused (0 to 1).",
    )
    aimed_recall: float = Field(
        default=0.99,
        ge=0,
        le=1,
        title="Recall aimed at",
        description="Recall@10 at which queries look at no more candidates (0 to 1).",
    )
    recall_queries: int = Field(
        default=200,
        ge=200,
        le=100_000,
        title="Recall queries",
        description="Rows of the table that recall is measured with (rows).",
    )
    connectivity: int = Field(
        default=16, ge=4, le=256, title="Connectivity", description="Neighbours of a row in the graph (rows)."
    )
    expansion_add: int = Field(
        default=96,
        ge=8,
        le=4_096,
        title="Candidates while building",
        description="Candidates that are looked at for each row when the graph is built (rows).",
    )
    segment_rows: int = Field(
        default=2_000_000,
        ge=1,
        le=100_000_000,
        title="Largest segment",
        description="Rows that a segment holds at most, unless one split has more; it is built in memory (rows).",
    )
    max_gone_share: float = Field(
        default=0.3,
        ge=0,
        le=1,
        title="Largest share of rows gone",
        description="Share of a segment's rows that may have left the table before it is built anew (0 to 1).",
    )
    merge_segments: int = Field(
        default=4,
        ge=2,
        le=64,
        title="Segments to merge",
        description="Segments of about one size that are merged into one (segments).",
    )
    concurrency: int = Field(
        default=1, ge=1, le=64, title="Concurrency", description="Segments that are built at the same time (segments)."
    )

    def graph_hash(self) -> str:
        """Return a hash of the settings that decide a segment; others leave finished segments as they are."""
        deciding = self.model_dump_json(include={"connectivity", "expansion_add"})
        return hashlib.sha256(deciding.encode()).hexdigest()[:16]

"""Settings of the index."""

import hashlib
import logging

from pydantic import BaseModel, ConfigDict, Field, model_validator

__all__ = ["IndexSettings"]

log = logging.getLogger(__name__)

FORMER_SETTINGS = {"connectivity", "expansion_add"}


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
        default=0.98,
        ge=0,
        le=1,
        title="Recall aimed at",
        description="Recall@10 at which queries look into no more lists (0 to 1).",
    )
    recall_queries: int = Field(
        default=200,
        ge=200,
        le=100_000,
        title="Recall queries",
        description="Rows of the table that recall is measured with (rows).",
    )
    list_factor: float = Field(
        default=1.5,
        gt=0,
        le=100,
        title="Lists",
        description="Lists of rows in a segment, as a multiple of the square root of its rows.",
    )
    max_probes: int = Field(
        default=1_024,
        ge=1,
        le=65_536,
        title="Most lists a query",
        description="Lists that a query looks into at most; fewer where the recall that is aimed at is reached (lists).",
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

    @model_validator(mode="before")
    @classmethod
    def _leave_out_former_settings(cls, settings: object) -> object:
        """Accept settings of the graph that an index of an earlier release had."""
        if not isinstance(settings, dict) or not FORMER_SETTINGS & settings.keys():
            return settings
        log.warning(
            "the settings connectivity and expansion_add of the index have no effect any more and will be refused: set "
            "list_factor and max_probes"
        )
        return {name: value for name, value in settings.items() if name not in FORMER_SETTINGS}

    def segment_hash(self) -> str:
        """Return a hash of the settings whose change makes new segments; others leave finished segments as they are."""
        deciding = self.model_dump_json(include={"list_factor"})
        return hashlib.sha256(deciding.encode()).hexdigest()[:16]

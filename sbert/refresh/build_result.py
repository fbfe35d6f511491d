"""The outcome of a planned split."""

from pydantic import BaseModel, ConfigDict, Field

from sbert.refresh.fingerprints import PlannedSplit
from sbert.rows.counts import RowCounts
from sbert.table.split_records import SplitRecord

__all__ = ["BuildResult"]


class BuildResult(BaseModel):
    """A split that was built whole, or without the objects that cannot be read."""

    model_config = ConfigDict(frozen=True)

    planned: PlannedSplit = Field(description="The split as it was planned.")
    built: PlannedSplit | None = Field(default=None, description="The split whose rows are there now, if any.")
    record: SplitRecord | None = Field(default=None, description="Its record; empty when the table has it already.")
    broken: dict[str, str] = Field(default_factory=dict, description="Reason for each unreadable object, by URI.")
    cut_off: dict[str, str] = Field(
        default_factory=dict,
        description="Reason for each object of which only the rows before a break were built, by URI.",
    )

    @property
    def counts(self) -> RowCounts:
        """Row counts of the split; empty when no record was written."""
        return self.record.counts if self.record is not None else RowCounts()

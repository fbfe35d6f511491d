"""The results of a run of `sbert topics`."""

from pydantic import ConfigDict, Field

from sbert.apply.topics.report_figures import TopicSummary
from sbert.counted import counted
from sbert.derived.run import DerivedReport

__all__ = ["FIRST_RUN", "TopicsReport"]

FIRST_RUN = "first run"
"""Reason of the first fit."""


class TopicsReport(DerivedReport):
    """The results of a run; scripts rely on the keys."""

    model_config = ConfigDict(frozen=True)

    num_topics: int = Field(description="Topics now.")
    num_outliers: int = Field(description="Rows of no topic.")
    refitted: str = Field(description="Why the topics were fitted in this run; empty if they were not.")
    new_topics: tuple[int, ...] = Field(description="Topics that were not there before.")
    ended_topics: tuple[int, ...] = Field(description="Topics that are no longer there.")
    topics: tuple[TopicSummary, ...] = Field(description="The topics, the largest first.")
    over_time: tuple[dict[str, str | int], ...] = Field(description="Rows of each topic in each period.")
    period: str = Field(default="week", description="Length of a period: day, week or month.")
    num_without_time: int = Field(description="Rows without a time, which are in no period; 0 without a time column.")
    report_uri: str = Field(description="The report for people, an HTML file.")

    def summary(self) -> str:
        """Return the outcome in one line."""
        changes = f"{len(self.new_topics):,} new, {len(self.ended_topics):,} ended"
        return f"{super().summary()}; {counted(self.num_topics, 'topic')}, {changes}"

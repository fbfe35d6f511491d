"""Describe topics: rows, typical texts, and counts over time."""

import polars as pl
from pydantic import BaseModel, ConfigDict, Field

from sbert.apply.named_topics import OUTLIER
from sbert.apply.times import moments_of
from sbert.apply.topics.model import TopicModel
from sbert.derived.derived_table import DerivedTable
from sbert.derived.run import DerivedReport
from sbert.table.delta import Table

__all__ = ["TopicSummary", "count_outliers", "counts_over_time", "summaries"]

NUM_TEXTS = 3
MAX_CHARACTERS = 200
PERIODS = {"day": "1d", "week": "1w", "month": "1mo"}


class TopicSummary(BaseModel):
    """One topic in numbers and words."""

    model_config = ConfigDict(frozen=True)

    topic: int
    parent: int = Field(description="Its group on the upper level.")
    words: tuple[str, ...] = Field(description="Words that set it apart.")
    num_rows: int
    share: float = Field(description="Share of all rows (0 to 1).")
    texts: tuple[str, ...] = Field(description="The texts nearest to its centroid.")


def count_outliers(output: DerivedReport) -> int:
    """Return the number of rows of no topic."""
    rows = DerivedTable.open(output.out_uri, output.version).scan()
    return int(rows.filter(pl.col("topic") == OUTLIER).select(pl.len()).collect().item())


def summaries(derived: DerivedTable, table: Table, model: TopicModel, text_name: str) -> tuple[TopicSummary, ...]:
    """Return the topics, the largest first; a topic without rows comes last."""
    rows = derived.scan().filter(pl.col("topic") != OUTLIER)
    counts = dict(rows.group_by("topic").agg(pl.len()).collect(engine="streaming").iter_rows())
    nearest = (
        rows.select("topic", "similarity", "text_hash")
        .unique()
        .group_by("topic")
        .agg(pl.col("text_hash").top_k_by("similarity", NUM_TEXTS))
        .collect(engine="streaming")
    )
    wanted = nearest.explode("text_hash")["text_hash"].unique()
    texts = (
        table.scan()
        .filter(pl.col("text_hash").is_in(wanted.implode()))
        .select("text_hash", text=pl.col(text_name).cast(pl.String).str.slice(0, MAX_CHARACTERS))
        .unique("text_hash")
        .collect(engine="streaming")
    )
    by_hash = dict(texts.iter_rows())
    typical = {topic: tuple(by_hash.get(name) or "" for name in hashes) for topic, hashes in nearest.iter_rows()}
    total = max(derived.num_rows, 1)
    topics = [
        TopicSummary(
            topic=topic.id,
            parent=topic.parent,
            words=topic.words,
            num_rows=counts.get(topic.id, 0),
            share=round(counts.get(topic.id, 0) / total, 6),
            texts=typical.get(topic.id, ()),
        )
        for topic in model.record.topics
    ]
    return tuple(sorted(topics, key=lambda item: (-item.num_rows, item.topic)))


def counts_over_time(
    derived: DerivedTable, table: Table, column: str | None, period: str
) -> tuple[tuple[dict[str, str | int], ...], int]:
    """Return the rows of each topic in each period, ordered by period and topic, and the number of rows without a time.

    Without a column there is nothing to count, and no row lacks a time.

    Raises:
        ColumnError: the column holds no times.
    """
    if column is None:
        return (), 0
    rows = table.scan().select("source", "id", column).collect(engine="streaming")
    moments = moments_of(rows[column])
    times = rows.select("source", "id", period=moments.dt.date().dt.truncate(PERIODS[period]))
    counts = (
        derived.scan()
        .select("source", "id", "topic")
        .join(times.lazy(), on=["source", "id"])
        .drop_nulls("period")
        .group_by("period", "topic")
        .agg(rows=pl.len())
        .collect(engine="streaming")
        .sort("period", "topic")
    )
    counted = tuple({"period": str(when), "topic": topic, "rows": num} for when, topic, num in counts.iter_rows())
    return counted, moments.null_count()

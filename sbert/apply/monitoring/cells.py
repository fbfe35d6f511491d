"""Count the rows of each cell, a topic in a bucket of time, by class."""

import datetime as dt
from dataclasses import dataclass

import polars as pl

from sbert.apply.kept_columns import check_kept
from sbert.apply.monitoring.monitored_table import MonitoredTable
from sbert.apply.monitoring.settings import MonitoringSettings
from sbert.apply.times import check_times, first_shown, moments_of, without_value
from sbert.counted import counted
from sbert.errors import SettingsError

__all__ = ["ALL_ROWS", "CellCounts", "buckets_between", "buckets_of", "count_cells", "with_cells"]

ALL_ROWS = "all rows"
"""Topic of every row when no topic column is named."""
NO_TOPIC = "(none)"
FUTURE = dt.timedelta(days=1)
"""Times up to a day ahead are taken: clocks and zones differ."""


@dataclass(frozen=True)
class CellCounts:
    """Rows by topic, bucket and class, and the rows that have no cell."""

    counts: pl.DataFrame
    """Columns ``topic``, ``bucket`` (a moment in the zone of the settings), ``label`` and ``count``. Without classes
    labels are null. Where a row can have several classes, it counts once with a null label, and once for each of its
    classes."""
    num_rows: int
    num_without_time: int
    """Rows without a value in the time column."""
    num_unreadable_time: int
    """Rows whose value there is no time."""
    unreadable_time: str | None
    """The first such value, in quotes."""
    num_in_future: int


def count_cells(monitored: MonitoredTable, settings: MonitoringSettings, now: dt.datetime) -> CellCounts:
    """Count rows block by block; memory holds the cells, not the rows.

    Raises:
        ColumnError: the table does not keep the time or topic column, or no value of the first is a time.
        SettingsError: the topic column has more values than the settings accept.
    """
    check_kept(monitored.table, [settings.topic_column])
    check_times(monitored.table, settings.time_column)
    label = pl.lit(None, pl.String) if monitored.label_column is None else pl.col(monitored.label_column)
    parts: list[pl.DataFrame] = []
    num_rows = num_without = num_unreadable = num_future = 0
    unreadable: str | None = None
    columns = [settings.time_column, *([settings.topic_column] if settings.topic_column else [])]
    for block in monitored.blocks(list(dict.fromkeys(columns))):
        frame = pl.from_arrow(block)
        assert isinstance(frame, pl.DataFrame)
        placed = with_cells(frame, settings)
        is_future = placed["moment"] > now + FUTURE
        num_rows += len(placed)
        times = frame[settings.time_column]
        is_without = without_value(times)
        wrong = times.filter(~is_without & placed["moment"].is_null())
        num_without += int(is_without.sum() or 0)
        num_unreadable += len(wrong)
        if unreadable is None and len(wrong):
            unreadable = first_shown(wrong)
        num_future += int(is_future.sum() or 0)
        kept = placed.filter(~is_future.fill_null(value=True))
        if monitored.is_multi_label and monitored.label_column is not None:
            parts.append(_counted(kept, pl.lit(None, pl.String)))
            kept = kept.explode(monitored.label_column, empty_as_null=False, keep_nulls=False)
        parts.append(_counted(kept, label))
        if len(parts) > 64:
            parts = [_merged(parts)]
    counts = (
        _merged(parts)
        if parts
        else pl.DataFrame(
            schema={
                "topic": pl.String,
                "bucket": pl.Datetime("ms", settings.time_zone),
                "label": pl.String,
                "count": pl.UInt32,
            }
        )
    )
    num_topics = counts["topic"].n_unique()
    if num_topics > settings.max_topics:
        raise SettingsError(
            f"{monitored.table.uri}: the column {settings.topic_column!r} has {num_topics:,} values, but at most "
            f"{counted(settings.max_topics, 'topic')} {'is' if settings.max_topics == 1 else 'are'} watched (max_topics): "
            "name another column, or raise max_topics"
        )
    return CellCounts(counts, num_rows, num_without, num_unreadable, unreadable, num_future)


def _counted(rows: pl.DataFrame, label: pl.Expr) -> pl.DataFrame:
    return rows.group_by("topic", "bucket", label.alias("label")).agg(pl.len().alias("count"))


def with_cells(rows: pl.DataFrame, settings: MonitoringSettings) -> pl.DataFrame:
    """Add ``topic``, ``moment`` and ``bucket`` to rows."""
    moments = moments_of(rows[settings.time_column], settings.time_zone, settings.time_format)
    topic = (
        pl.lit(ALL_ROWS)
        if settings.topic_column is None
        else pl.col(settings.topic_column).cast(pl.String).fill_null(NO_TOPIC)
    )
    return rows.with_columns(
        topic.alias("topic"), moments.alias("moment"), buckets_of(moments, settings).alias("bucket")
    )


def buckets_of(moments: pl.Series, settings: MonitoringSettings) -> pl.Series:
    """Return the begin of the bucket of each moment, in the zone of the settings; weeks begin on Monday."""
    return moments.dt.convert_time_zone(settings.time_zone).dt.truncate(settings.bucket)


def buckets_between(first: dt.datetime, last: dt.datetime, settings: MonitoringSettings) -> list[dt.datetime]:
    """Return every bucket from one to another, both included, without gaps.

    Buckets follow the local clock: where it is put forward or back, one of them is an hour shorter or longer. So moments
    that lie closer than a bucket are cut down to their buckets, as the rows are.

    Args:
        first: begin of the first bucket.
        last: begin of the last bucket.
        settings: bucket and zone.
    """
    step = f"{max(60, settings.bucket_seconds // 4)}s"
    moments = pl.datetime_range(
        first.astimezone(dt.UTC), last.astimezone(dt.UTC), step, time_unit="ms", time_zone="UTC", eager=True
    )
    ends = pl.Series([first.astimezone(dt.UTC), last.astimezone(dt.UTC)], dtype=pl.Datetime("ms", "UTC"))
    return buckets_of(pl.concat([moments, ends]), settings).unique().sort().to_list()


def _merged(parts: list[pl.DataFrame]) -> pl.DataFrame:
    return pl.concat(parts).group_by("topic", "bucket", "label").agg(pl.col("count").sum())

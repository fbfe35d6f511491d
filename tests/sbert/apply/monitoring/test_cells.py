"""Buckets follow the local clock, also in the nights in which it is put forward or back."""

import datetime as dt

import polars as pl
import pytest

from sbert.apply.monitoring.alerts import walk_topic
from sbert.apply.monitoring.cells import buckets_between, buckets_of
from sbert.apply.monitoring.settings import MonitoringSettings

FORWARD = dt.datetime(2026, 3, 29, 1, tzinfo=dt.UTC)
BACK = dt.datetime(2026, 10, 25, 1, tzinfo=dt.UTC)


def moments(change: dt.datetime, days: int, step: str) -> pl.Series:
    ends = change - dt.timedelta(days=days), change + dt.timedelta(days=days)
    return pl.datetime_range(*ends, step, time_unit="ms", time_zone="UTC", eager=True)


@pytest.mark.parametrize("change", [FORWARD, BACK])
@pytest.mark.parametrize("bucket", ["15m", "1h", "2h", "6h", "12h", "1d", "1w"])
def test_the_buckets_between_two_are_those_of_the_rows_across_a_change_of_clocks(
    change: dt.datetime, bucket: str
) -> None:
    settings = MonitoringSettings(time_column="at", bucket=bucket, time_zone="Europe/Berlin")
    of_rows = buckets_of(moments(change, 10, "5m"), settings).unique().sort().to_list()
    between = buckets_between(of_rows[0], of_rows[-1], settings)
    assert [moment.timestamp() for moment in between] == [moment.timestamp() for moment in of_rows]


def test_the_hour_that_a_clock_put_back_repeats_is_two_buckets() -> None:
    settings = MonitoringSettings(time_column="at", bucket="1h", time_zone="Europe/Berlin")
    rows = pl.DataFrame({"bucket": buckets_of(moments(BACK, 1, "30m"), settings), "label": "bad"})
    cells = rows.group_by("bucket", "label").agg(count=pl.len()).sort("bucket")
    buckets = buckets_between(cells["bucket"][0], cells["bucket"][-1], settings)
    counts_BS = walk_topic("shoes", cells, buckets, ["bad"], settings).counts_BS
    assert len(buckets) == 49
    assert counts_BS[:-1, 0].tolist() == [2] * 48  # the last bucket holds one moment

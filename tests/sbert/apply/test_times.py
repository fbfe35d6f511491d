"""Times as people write them become moments, each value by itself."""

import datetime as dt
from pathlib import Path

import polars as pl
import pytest

from sbert.apply.monitoring.cells import buckets_of
from sbert.apply.monitoring.settings import MonitoringSettings
from sbert.apply.times import TimeFormat, check_times, first_shown, moments_of
from sbert.errors import ColumnError, SettingsError
from tests.support.made_texts import make_text_version

NOON = dt.datetime(2015, 2, 24, 12, 0, tzinfo=dt.UTC)


def settings(**fields: object) -> MonitoringSettings:
    return MonitoringSettings(time_column="at", **fields)


@pytest.mark.parametrize(
    "value",
    [
        "2015-02-24T12:00:00Z", "2015-02-24T13:00:00+01:00", "2015-02-24 12:00:00", "2015-02-24T12:00", " 42059.5 ",
        "1424779200", "1424779200000",
    ],
)  # fmt: skip
def test_text_of_any_spelling_is_the_same_moment(value: str) -> None:
    assert moments_of(pl.Series("at", [value])).to_list() == [NOON]


def test_each_value_of_a_mixed_column_is_read_by_itself_and_holes_stay_holes() -> None:
    column = pl.Series("at", ["2015-02-24T12:00:00Z", "soon", None, "", "42059.5", "nan"])
    assert moments_of(column).to_list() == [NOON, None, None, None, NOON, None]


@pytest.mark.parametrize(
    ("column", "form"),
    [
        (pl.Series("at", [42_059.5]), TimeFormat.AUTO),
        (pl.Series("at", [1_424_779_200]), TimeFormat.AUTO),
        (pl.Series("at", [1_424_779_200_000]), TimeFormat.AUTO),
        (pl.Series("at", [1_424_779_200.0]), TimeFormat.UNIX_SECONDS),
        (pl.Series("at", [1_424_779_200_000]), TimeFormat.UNIX_MILLISECONDS),
        (pl.Series("at", [42_059.5]), TimeFormat.EXCEL),
    ],
)
def test_numbers_are_days_seconds_or_milliseconds(column: pl.Series, form: TimeFormat) -> None:
    assert moments_of(column, form=form).to_list() == [NOON]


def test_times_without_a_zone_are_of_the_zone_of_the_settings() -> None:
    berlin = "Europe/Berlin"
    noon = NOON - dt.timedelta(hours=1)
    assert moments_of(pl.Series("at", ["2015-02-24 12:00:00", "42059.5"]), berlin).to_list() == [noon, noon]
    naive = pl.Series("at", [dt.datetime(2015, 2, 24, 12)])  # noqa: DTZ001
    assert moments_of(naive, berlin).to_list() == [noon]
    assert moments_of(pl.Series("at", [dt.date(2015, 2, 24)]), berlin).to_list() == [NOON - dt.timedelta(hours=13)]
    aware = pl.Series("at", [NOON], dtype=pl.Datetime("us", "UTC"))
    assert moments_of(aware, berlin).to_list() == [NOON]


def test_buckets_begin_in_the_zone_of_the_settings() -> None:
    moments = pl.Series("at", [dt.datetime(2015, 2, 24, 23, 30, tzinfo=dt.UTC)], dtype=pl.Datetime("ms", "UTC"))
    assert buckets_of(moments, settings(time_zone="Europe/Berlin"))[0].isoformat() == "2015-02-25T00:00:00+01:00"
    assert buckets_of(moments, settings(bucket="6h"))[0].hour == 18
    assert buckets_of(moments, settings(bucket="1w"))[0].weekday() == 0


def test_a_column_that_holds_no_times_is_named() -> None:
    with pytest.raises(ColumnError, match="at: holds List"):
        moments_of(pl.Series("at", [[1]]))


@pytest.mark.parametrize(
    ("field", "value", "message"),
    [
        ("bucket", "6 hours", "bucket is '6 hours'"),
        ("bucket", "900d", "up to 366d"),
        ("time_zone", "Berlin", "IANA name"),
    ],
)
def test_settings_that_cannot_work_are_named(field: str, value: str, message: str) -> None:
    with pytest.raises((SettingsError, ValueError), match=message):
        settings(**{field: value})


def test_a_column_of_which_no_value_is_a_time_is_named_with_an_example(tmp_path: Path) -> None:
    rows = {"a": [("1", "one", [1.0, 0.0]), ("2", "two", [0.0, 1.0])]}
    kept = {"at": {"1": "soon", "2": "2015-02-24"}, "kind": {"1": None, "2": "method"}, "none": {"1": "", "2": ""}}
    table = make_text_version(str(tmp_path / "table"), rows, kept=kept)
    check_times(table, "at")
    with pytest.raises(
        ColumnError, match=r"none of the 2 values of the kept column 'kind' is a time \(for example 'method'"
    ):
        check_times(table, "kind")
    with pytest.raises(ColumnError, match=r"no kept column 'when' \(kept: text, at, kind, none\)"):
        check_times(table, "when")


FAR = 2**62


@pytest.mark.parametrize("zone", ["UTC", "America/New_York", "Europe/Berlin"])
@pytest.mark.parametrize(
    ("column", "shown"),
    [
        (pl.Series("at", [FAR]), f"'{FAR}'"),
        (pl.Series("at", [-FAR]), f"'{-FAR}'"),
        (pl.Series("at", [-(2**40) * 1000]), "'-1099511627776000'"),
        (pl.Series("at", [1e300]), "'1e+300'"),
        (pl.Series("at", [str(-FAR)]), f"'{-FAR}'"),
        (pl.Series("at", [dt.date(1, 1, 1)]), "'0001-01-01'"),
        (pl.Series("at", [FAR]).cast(pl.Datetime("ms")), f"'{FAR} (Datetime(time_unit='ms', time_zone=None))'"),
        (
            pl.Series("at", [-FAR]).cast(pl.Datetime("us", "UTC")),
            f"'{-FAR} (Datetime(time_unit='us', time_zone='UTC'))'",
        ),
        (pl.Series("at", [2**31 - 1], dtype=pl.Int32).cast(pl.Date), f"'{2**31 - 1} (Date)'"),
    ],
)
def test_a_value_of_an_impossible_year_is_no_time_and_is_shown(column: pl.Series, shown: str, zone: str) -> None:
    for form in TimeFormat:
        assert moments_of(column, zone, form).to_list() == [None]
    written = first_shown(column)
    assert written is not None
    assert written.replace('"', "'")[:40] == shown[:40]


def test_the_last_day_of_the_last_year_is_a_time() -> None:
    last = dt.datetime(9999, 12, 31, tzinfo=dt.UTC)
    assert moments_of(pl.Series("at", ["9999-12-31", "0002-01-01"])).to_list() == [last, last.replace(2, 1, 1)]
    assert first_shown(pl.Series("at", [None], dtype=pl.Int64)) is None

"""Read the times of rows, in many spellings, as moments."""

import datetime as dt
from enum import StrEnum

import polars as pl

from sbert.apply.kept_columns import check_kept
from sbert.errors import ColumnError
from sbert.table.delta import Table
from sbert.table.shard_file import open_shard

__all__ = ["TimeFormat", "check_times", "first_shown", "moments_of", "without_value"]

EXCEL_EPOCH_DAYS = 25_569
"""Days from Excel's day 0, 30 December 1899, to 1 January 1970."""
DAY_MILLISECONDS = 86_400_000
EXCEL_DAYS = 1.0, 200_000.0
"""Excel's days from 1900 to 2447: smaller than any Unix second of this century."""
LEAST_MILLISECONDS = 1e11
"""Unix milliseconds from 1973 on; as seconds this number would be the year 5138."""
EARLIEST = dt.datetime(2, 1, 1, tzinfo=dt.UTC)
"""Earlier moments are no times: a zone or a bucket could move a moment of the year 1 to before the first year of Python."""
LATEST = dt.datetime(9999, 12, 31, 23, 59, 59, 999_000, tzinfo=dt.UTC)
MAX_WRITTEN_MILLISECONDS = 10**15
"""Unix milliseconds of the year 33658: Polars cannot write dates of far later years."""
MAX_SHOWN = 60
"""Characters of a value that an error shows."""


class TimeFormat(StrEnum):
    """Unit of a column of numbers that holds times."""

    AUTO = "auto"
    """By the size of each number: Excel's days, Unix seconds or Unix milliseconds."""
    EXCEL = "excel"
    """Days since 30 December 1899, with fractions."""
    UNIX_SECONDS = "unix_seconds"
    UNIX_MILLISECONDS = "unix_milliseconds"


def check_times(table: Table, column: str) -> None:
    """Check, before any work, that a kept column says when rows were written: at least one of its values is a time.

    Raises:
        ColumnError: no such column is kept, its type holds no times, or none of its values is a time.
    """
    check_kept(table, [column])
    num_rows, example = 0, None
    for shard in table.shards():
        if not shard.num_rows:
            continue
        with open_shard(table.shard_uri(shard.name)) as parquet:
            for batch in parquet.iter_batches(columns=[column]):
                values = pl.Series(batch.column(column)).alias(column)
                if moments_of(values).count():
                    return
                num_rows += len(values)
                example = first_shown(values) if example is None else example
    if num_rows:
        seen = "all are empty" if example is None else f"for example {example}"
        raise ColumnError(
            f"{table.uri}: none of the {num_rows:,} values of the kept column {column!r} is a time ({seen}): name a "
            "column of timestamps, dates, ISO text, or Unix or Excel numbers"
        )


def moments_of(column: pl.Series, zone: str = "UTC", form: TimeFormat = TimeFormat.AUTO) -> pl.Series:
    """Return moments in UTC, milliseconds; null where a value is no time of the years 2 to 9999.

    Text may be ISO 8601 (with or without zone), a date, or a number; each value by itself.

    Args:
        column: timestamps, dates, text or numbers.
        zone: IANA name of the zone of times that name none.
        form: how numbers are read.

    Raises:
        ColumnError: the column holds neither times, nor text, nor numbers.
    """
    kind = column.dtype
    if isinstance(kind, pl.Datetime):
        moments = column.dt.cast_time_unit("ms")
        return _possible(moments.dt.convert_time_zone("UTC")) if kind.time_zone else _in_zone(moments, zone)
    if kind == pl.Date:
        return _in_zone(column.cast(pl.Datetime("ms")), zone)
    if kind.is_numeric():
        return _numbers(column.cast(pl.Float64), zone, form)
    if kind == pl.String:
        return _texts(column, zone, form)
    raise ColumnError(f"{column.name}: holds {kind}, not times: name a column of timestamps, dates, text or numbers")


def without_value(column: pl.Series) -> pl.Series:
    """Return whether each value is missing: null, not a number (NaN), or text without a character."""
    if column.dtype == pl.String:
        return column.str.strip_chars().fill_null("") == ""
    if column.dtype.is_float():
        return column.is_null() | column.is_nan().fill_null(value=False)
    return column.is_null()


def first_shown(values: pl.Series) -> str | None:
    """Return the first value of a time column that is not null, in quotes, cut to `MAX_SHOWN` characters; None without one.

    A time of a year that nothing can write as a date is shown as its number, with the type.
    """
    first = values.drop_nulls().head(1)
    if not len(first):
        return None
    if first.dtype.is_temporal():
        milliseconds = first.cast(pl.Datetime("ms")).to_physical()
        if milliseconds.abs()[0] > MAX_WRITTEN_MILLISECONDS:
            return repr(f"{first.to_physical()[0]} ({first.dtype})"[:MAX_SHOWN])
    return repr(first.cast(pl.String)[0][:MAX_SHOWN])


def _texts(column: pl.Series, zone: str, form: TimeFormat) -> pl.Series:
    text = column.str.strip_chars()
    with_zone = text.str.to_datetime("%+", strict=False, time_unit="ms", time_zone="UTC")
    plain = text.str.replace("T", " ", literal=True)
    local = pl.DataFrame(
        [
            plain.str.to_datetime(form, strict=False, time_unit="ms").alias(f"{number}")
            for number, form in enumerate(("%Y-%m-%d %H:%M:%S%.f", "%Y-%m-%d %H:%M", "%Y-%m-%d"))
        ]
    ).select(pl.coalesce(pl.all()))
    in_zone = _in_zone(local.to_series(), zone)
    numbers = _numbers(text.cast(pl.Float64, strict=False), zone, form)
    return (
        pl.DataFrame({"a": _possible(with_zone), "b": in_zone, "c": numbers})
        .select(pl.coalesce("a", "b", "c"))
        .to_series()
    )


def _numbers(values: pl.Series, zone: str, form: TimeFormat) -> pl.Series:
    value = pl.col("value")
    days = _in_zone(
        pl.DataFrame({"value": values})
        .select(
            ((value - EXCEL_EPOCH_DAYS) * DAY_MILLISECONDS).round().cast(pl.Int64, strict=False).cast(pl.Datetime("ms"))
        )
        .to_series(),
        zone,
    )
    frame = pl.DataFrame({"value": values, "days": days})
    seconds = (value * 1_000).round().cast(pl.Int64, strict=False).cast(pl.Datetime("ms", "UTC"))
    milliseconds = value.round().cast(pl.Int64, strict=False).cast(pl.Datetime("ms", "UTC"))
    match form:
        case TimeFormat.EXCEL:
            moment = pl.col("days")
        case TimeFormat.UNIX_SECONDS:
            moment = seconds
        case TimeFormat.UNIX_MILLISECONDS:
            moment = milliseconds
        case TimeFormat.AUTO:
            moment = (
                pl.when(value.is_between(*EXCEL_DAYS))
                .then(pl.col("days"))
                .when(value.abs() < LEAST_MILLISECONDS)
                .then(seconds)
                .otherwise(milliseconds)
            )
    return _possible(frame.select(pl.when(value.is_finite()).then(moment).alias("moment")).to_series())


def _in_zone(naive: pl.Series, zone: str) -> pl.Series:
    """Read local times in a zone, as moments in UTC.

    An hour that summer time skips has no time, of one that comes twice the first counts. Polars cannot compute with all
    times that it can hold, so those of impossible years are left out before.
    """
    local = _possible(naive.dt.replace_time_zone("UTC")).dt.replace_time_zone(None)
    moments = local.dt.replace_time_zone(zone, ambiguous="earliest", non_existent="null")
    return _possible(moments.dt.convert_time_zone("UTC"))


def _possible(moments: pl.Series) -> pl.Series:
    """Return moments with null in place of those before `EARLIEST` and after `LATEST`."""
    moment = pl.col("moment")
    is_possible = moment.is_between(pl.lit(EARLIEST), pl.lit(LATEST))
    return pl.DataFrame({"moment": moments}).select(pl.when(is_possible).then(moment)).to_series()

"""Read the times of rows, in many spellings, as moments."""

from enum import StrEnum

import polars as pl

from sbert.apply.kept_columns import check_kept
from sbert.errors import ColumnError
from sbert.table.delta import Table
from sbert.table.shard_file import open_shard

__all__ = ["TimeFormat", "check_times", "moments_of", "shown_value", "without_value"]

EXCEL_EPOCH_DAYS = 25_569
"""Days from Excel's day 0, 30 December 1899, to 1 January 1970."""
DAY_MILLISECONDS = 86_400_000
EXCEL_DAYS = 1.0, 200_000.0
"""Excel's days from 1900 to 2447: smaller than any Unix second of this century."""
LEAST_MILLISECONDS = 1e11
"""Unix milliseconds from 1973 on; as seconds this number would be the year 5138."""
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
                example = values.drop_nulls().first() if example is None else example
    if num_rows:
        seen = "all are empty" if example is None else f"for example {shown_value(example)}"
        raise ColumnError(
            f"{table.uri}: none of the {num_rows:,} values of the kept column {column!r} is a time ({seen}): name a "
            "column of timestamps, dates, ISO text, or Unix or Excel numbers"
        )


def moments_of(column: pl.Series, zone: str = "UTC", form: TimeFormat = TimeFormat.AUTO) -> pl.Series:
    """Return moments in UTC, milliseconds; null where a value is no time.

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
        zoned = column if kind.time_zone else _in_zone(column, zone)
        return zoned.dt.convert_time_zone("UTC").dt.cast_time_unit("ms")
    if kind == pl.Date:
        return _in_zone(column.cast(pl.Datetime("ms")), zone).dt.convert_time_zone("UTC")
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


def shown_value(value: object) -> str:
    """Return a value of a time column in quotes, cut to `MAX_SHOWN` characters."""
    return repr(str(value)[:MAX_SHOWN])


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
    in_zone = _in_zone(local.to_series(), zone).dt.convert_time_zone("UTC")
    numbers = _numbers(text.cast(pl.Float64, strict=False), zone, form)
    return pl.DataFrame({"a": with_zone, "b": in_zone, "c": numbers}).select(pl.coalesce("a", "b", "c")).to_series()


def _numbers(values: pl.Series, zone: str, form: TimeFormat) -> pl.Series:
    value = pl.col("value")
    days = _in_zone(
        pl.DataFrame({"value": values})
        .select(
            ((value - EXCEL_EPOCH_DAYS) * DAY_MILLISECONDS).round().cast(pl.Int64, strict=False).cast(pl.Datetime("ms"))
        )
        .to_series(),
        zone,
    ).dt.convert_time_zone("UTC")
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
    return frame.select(pl.when(value.is_finite()).then(moment).alias("moment")).to_series()


def _in_zone(naive: pl.Series, zone: str) -> pl.Series:
    """Read local times in a zone; an hour that summer time skips has no time, of one that comes twice the first counts."""
    return naive.dt.replace_time_zone(zone, ambiguous="earliest", non_existent="null")

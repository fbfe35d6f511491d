"""Values as text, and values brought to the type of their kept column."""

import json

import polars as pl

from sbert.source.encodings import mended_utf8
from sbert.source.numbers import parse_numbers
from sbert.source.types import storable_type

__all__ = ["as_text", "convert", "decode_utf8"]

NOT_A_NUMBER = r"(?i)^[+-]?(nan|inf|infinity)$"
"""Words that programs write where there is no number."""
ISO_TIME = "%Y-%m-%dT%H:%M:%S%.f"


def decode_utf8(raw: pl.Series) -> pl.Series:
    """Return bytes as text, null where they are not UTF-8; characters that are cut off become U+FFFD."""
    try:
        return raw.cast(pl.String)
    except pl.exceptions.PolarsError:  # some value is not: look at each
        return pl.Series(raw.name, [_decoded(value) for value in raw], dtype=pl.String)


def _decoded(value: bytes | None) -> str | None:
    return None if value is None else mended_utf8(value)


def as_text(raw: pl.Series) -> pl.Series:
    """Return values as text: bytes that are not UTF-8 and NaN become null, nested values become JSON."""
    if raw.dtype == pl.String:
        return raw
    if raw.dtype == pl.Binary:
        return decode_utf8(raw)
    if raw.dtype.is_nested():
        return _as_json(raw)
    if raw.dtype.is_float():
        return raw.fill_nan(None).cast(pl.String)
    if isinstance(raw.dtype, pl.Duration | pl.Time):  # a cast would cut off fractions of a second
        return raw.dt.to_string("iso")
    return raw.cast(pl.String, strict=False)


def _as_json(raw: pl.Series) -> pl.Series:
    """Return each nested value as the JSON of the value itself."""
    if "Binary" in str(raw.dtype):  # Polars does not write bytes as JSON
        texts = [None if value is None else json.dumps(_plain(value), ensure_ascii=False) for value in raw.to_list()]
        return pl.Series(raw.name, texts, dtype=pl.String)
    encoded = raw.alias("v").to_frame().select(pl.struct("v").struct.json_encode()).to_series()  # {"v":…}
    values = encoded.str.slice(len('{"v":')).str.head(-1)
    return values.to_frame("v").select(pl.when(raw.is_not_null()).then(pl.col("v"))).to_series().alias(raw.name)


def _plain(value: object) -> object:
    if isinstance(value, dict):
        return {str(key): _plain(part) for key, part in value.items()}
    if isinstance(value, list):
        return [_plain(part) for part in value]
    if isinstance(value, bytes):
        return value.decode("utf-8", "replace")
    return value if value is None or isinstance(value, bool | int | float | str) else str(value)


def convert(raw: pl.Series, kind: pl.DataType) -> tuple[pl.Series, pl.Series]:
    """Bring values to the type of their column; return them and a mask of the values that do not fit.

    A value that does not fit is null in the result. A value fits when it is the same value in the new type: ``7`` and
    ``7.0`` are the whole number 7, and ``1.10`` is the number 1.1; ``3.5`` is not a whole number; ``02139`` is not a number,
    because its zero would be lost; a number with more digits than the new type holds is another number there.
    """
    if raw.dtype == kind:
        return raw, pl.Series([False]).new_from_index(0, len(raw))
    if raw.dtype == pl.String() and kind != pl.String():
        nothing = raw == ""
        if kind.is_numeric():
            nothing |= raw.str.contains(NOT_A_NUMBER)
        raw = raw.set(nothing.fill_null(value=False), None)
        if kind.is_numeric():
            converted, misfit = parse_numbers(raw, kind)
            return (converted.set(misfit, None) if misfit.any() else converted), misfit
    try:
        converted = _converted(raw, kind)
    except pl.exceptions.PolarsError:  # no value of the one type is a value of the other
        converted = pl.Series(raw.name, [None], dtype=kind).new_from_index(0, len(raw))
    misfit = converted.is_null() & raw.is_not_null()
    if raw.dtype.is_float():
        misfit &= ~raw.is_nan().fill_null(value=False)  # not a number: null in a column that cannot hold it
        if kind.is_integer():  # a cast would cut the fraction off
            misfit |= (raw.is_finite() & (raw != raw.floor())).fill_null(value=False)
    if raw.dtype != pl.String() and kind != pl.String() and not _by_a_rule(raw.dtype, kind):
        misfit |= _changed(raw, converted)
    return (converted.set(misfit, None) if misfit.any() else converted), misfit


def _by_a_rule(before: pl.DataType, after: pl.DataType) -> bool:
    """Return whether values of one type are converted to the other by a stated rule, such as times to microseconds."""
    are_times = isinstance(before, pl.Datetime) and isinstance(after, pl.Datetime)
    return are_times or (not before.is_nested() and storable_type("", before) == after)


def _changed(raw: pl.Series, converted: pl.Series) -> pl.Series:
    """Return which values are no longer the same, as a date is not that was cut out of a time."""
    try:
        back = converted.cast(raw.dtype, strict=False)
    except pl.exceptions.PolarsError:  # there is no way back to compare by
        return pl.Series([False]).new_from_index(0, len(raw))
    return (converted.is_not_null() & (back.is_null() | (back != raw))).fill_null(value=False)


def _converted(raw: pl.Series, kind: pl.DataType) -> pl.Series:
    if kind == pl.String():
        return as_text(raw)
    if isinstance(raw.dtype, pl.Duration) and kind == pl.Int64():
        return raw.dt.total_microseconds()
    return _parsed(raw, kind) if raw.dtype == pl.String() else raw.cast(kind, strict=False)


def _parsed(texts: pl.Series, kind: pl.DataType) -> pl.Series:
    if kind == pl.Boolean():
        return texts.str.to_lowercase().replace_strict({"true": True, "false": False}, default=None)
    if kind == pl.Date():
        return texts.str.to_date("%Y-%m-%d", strict=False)
    if isinstance(kind, pl.Datetime):
        return _times(texts, kind)
    return texts.cast(kind, strict=False)


def _times(texts: pl.Series, kind: pl.Datetime) -> pl.Series:
    """Parse times of ISO 8601; a time without an offset is taken as UTC where the column has a time zone."""
    iso = texts.str.replace(" ", "T", literal=True)
    times = iso.str.to_datetime(ISO_TIME, time_unit=kind.time_unit, time_zone=kind.time_zone, strict=False)
    if kind.time_zone is None:
        return times
    with_offset = iso.str.replace("Z$", "+00:00").str.to_datetime(
        f"{ISO_TIME}%:z", time_unit=kind.time_unit, time_zone=kind.time_zone, strict=False
    )
    return times.to_frame("a").select(pl.coalesce("a", with_offset)).to_series().alias(texts.name)

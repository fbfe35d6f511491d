"""Types of kept columns: the types that a table can hold, and the one type for the values of several objects.

The rules, which `sbert/source/README.md` states for users:

- Text has no types. A column of CSV is of numbers only when every value seen writes back to the same characters.
- A type that Delta Lake does not have is replaced by the nearest one that loses nothing.
- Where objects disagree, the wider number type holds both; types without a common one become text.
"""

import re
from collections.abc import Iterable

import numpy as np
import polars as pl

from sbert.errors import ColumnError, SettingsError

__all__ = ["fixed_type", "json_type", "merged_type", "storable_type", "written_type"]

WHOLE_NUMBER = re.compile(r"-?(0|[1-9][0-9]*)")
DECIMAL_NUMBER = re.compile(r"-?(0|[1-9][0-9]*)\.[0-9]+")
NOT_A_NUMBER = frozenset({"nan", "+nan", "-nan", "inf", "+inf", "-inf", "infinity", "+infinity", "-infinity"})
FIXED: dict[str, pl.DataType] = {
    "string": pl.String(),
    "int32": pl.Int32(),
    "int64": pl.Int64(),
    "float32": pl.Float32(),
    "float64": pl.Float64(),
    "bool": pl.Boolean(),
    "date": pl.Date(),
    "datetime": pl.Datetime("us"),
    "datetime_utc": pl.Datetime("us", "UTC"),
}
"""Types that the setting ``column_types`` can name, beside decimals."""
NUMBERS: dict[pl.DataType, pl.DataType] = {
    pl.UInt8(): pl.Int64(),
    pl.UInt16(): pl.Int64(),
    pl.UInt32(): pl.Int64(),
    pl.UInt64(): pl.Decimal(20, 0),
    pl.Int128(): pl.String(),
    pl.UInt128(): pl.String(),
    pl.Float16(): pl.Float32(),
}
"""The type that holds every value of a number type that Delta Lake does not have."""
MAX_DECIMAL_DIGITS = 38
FLOAT_CHARACTERS = 24
"""No number of 64 bits needs more to be written without an exponent, within the range where it is written so."""


def written_type(values: Iterable[str]) -> pl.DataType:
    """Return the type of a column of written values, as CSV has them; Null when all are empty."""
    kind: pl.DataType = pl.Null()
    for value in values:
        kind = merged_type(kind, _type_of_written(value))
        if kind == pl.String():
            break
    return kind


def _type_of_written(value: str) -> pl.DataType:
    if not value or value.lower() in NOT_A_NUMBER:
        return pl.Null()
    if value.lower() in {"true", "false"}:
        return pl.Boolean()
    if WHOLE_NUMBER.fullmatch(value) and value != "-0":
        return pl.Int64() if len(value) <= FLOAT_CHARACTERS and _fits_64_bits(int(value)) else pl.String()
    if len(value) <= FLOAT_CHARACTERS and DECIMAL_NUMBER.fullmatch(value):
        number = float(value)
        same = {np.format_float_positional(number, trim="-"), np.format_float_positional(number, trim="0")}
        return pl.Float64() if value in same else pl.String()
    return pl.String()


def json_type(value: object) -> pl.DataType:
    """Return the type of one JSON value; arrays and objects are text that holds JSON."""
    if value is None:
        return pl.Null()
    if isinstance(value, bool):
        return pl.Boolean()
    if isinstance(value, int):  # larger numbers would lose digits
        return pl.Int64() if _fits_64_bits(value) else pl.String()
    return pl.Float64() if isinstance(value, float) else pl.String()


def _fits_64_bits(value: int) -> bool:
    return -(2**63) <= value < 2**63


def merged_type(one: pl.DataType, other: pl.DataType) -> pl.DataType:
    """Return the type that holds the values of both."""
    if one == other or other == pl.Null():
        return one
    if one == pl.Null():
        return other
    if one.is_integer() and other.is_integer():
        return max(one, other, key=_integer_bits)
    are_numbers = all(kind.is_integer() or kind.is_float() for kind in (one, other))
    return pl.Float64() if are_numbers else pl.String()


def _integer_bits(kind: pl.DataType) -> int:
    return int(re.sub(r"\D", "", str(kind)))


def storable_type(name: str, kind: pl.DataType) -> pl.DataType:
    """Return the type in which a table keeps a column of type `kind`.

    Raises:
        ColumnError: when the table can hold the values in no type.
    """
    if kind in {pl.Unknown(), pl.Object()}:
        raise ColumnError(
            f"column {name!r} has a type that no table can hold: leave it out of keep_columns, or convert it in the source"
        )
    if isinstance(kind, pl.Datetime):
        return pl.Datetime("us", "UTC" if kind.time_zone else None)
    if isinstance(kind, pl.Duration):
        return pl.Int64()  # microseconds
    if kind in NUMBERS:
        return NUMBERS[kind]
    is_too_wide = isinstance(kind, pl.Decimal) and (kind.precision or 0) > MAX_DECIMAL_DIGITS
    is_text = kind == pl.Null() or isinstance(kind, pl.Categorical | pl.Enum | pl.Time) or kind.is_nested()
    return pl.String() if is_text or is_too_wide else kind


def fixed_type(name: str) -> pl.DataType:
    """Return the type that the setting ``column_types`` names.

    Raises:
        SettingsError: for a decimal that a table cannot hold.
    """
    if name in FIXED:
        return FIXED[name]
    precision, scale = (int(number) for number in re.findall("[0-9]+", name))
    if not 1 <= precision <= MAX_DECIMAL_DIGITS or scale > precision:
        raise SettingsError(
            f"source.column_types has {name}: a decimal has a precision of 1 to {MAX_DECIMAL_DIGITS} digits, and a scale of "
            "at most its precision"
        )
    return pl.Decimal(precision, scale)

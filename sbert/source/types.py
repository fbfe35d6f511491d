"""Types of kept columns: the types that a table can hold, and the one type for the values of several objects.

The rules, which `sbert/source/README.md` states for users:

- A column of CSV or JSON is of numbers only when every value seen writes back to the same characters.
- A type that Delta Lake does not have is replaced by the nearest one that loses nothing.
- Where objects disagree, the wider number type holds both; types without a common one become text.
"""

import re
from collections.abc import Iterable

import numpy as np
import polars as pl

from sbert.errors import ColumnError, SettingsError

__all__ = ["NumberLiteral", "fixed_type", "json_type", "merged_type", "storable_type", "written_type"]

WHOLE_NUMBER = re.compile(r"-?(0|[1-9][0-9]*)")
DECIMAL_NUMBER = re.compile(r"-?(0|[1-9][0-9]*)(\.[0-9]+)?(e[-+][0-9]+)?")
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
"""No number of 64 bits needs more to be written, within the range where it is written without an exponent."""
EXACT_WHOLE_NUMBERS = 2**53
"""A float of 64 bits holds every whole number up to this."""


class NumberLiteral:
    """A number of JSON as it is written."""

    __slots__ = ("characters",)

    def __init__(self, characters: str) -> None:
        """Keep the characters."""
        self.characters = characters


def written_type(values: Iterable[str]) -> pl.DataType:
    """Return the type of a column of written values, as CSV has them; Null when all are empty."""
    return _common_type((value, _type_of_written(value)) for value in values)


def json_type(values: Iterable[object]) -> pl.DataType:
    """Return the type of a column of JSON values, whose numbers are `NumberLiteral`; arrays and objects are text."""
    return _common_type(
        (value.characters, _type_of_written(value.characters))
        if isinstance(value, NumberLiteral)
        else ("", pl.Null() if value is None else pl.Boolean() if isinstance(value, bool) else pl.String())
        for value in values
    )


def _common_type(typed: Iterable[tuple[str, pl.DataType]]) -> pl.DataType:
    """Return the type of a column of values, given each with its type; Null when there is none."""
    kind: pl.DataType = pl.Null()
    has_large = False
    for characters, own in typed:
        has_large |= own == pl.Int64() and abs(int(characters)) > EXACT_WHOLE_NUMBERS
        kind = merged_type(kind, own)
        if kind == pl.String():
            break
    return pl.String() if kind == pl.Float64() and has_large else kind


def _type_of_written(value: str) -> pl.DataType:
    if not value or value.lower() in NOT_A_NUMBER:
        return pl.Null()
    if value.lower() in {"true", "false"}:
        return pl.Boolean()
    if len(value) > FLOAT_CHARACTERS:
        return pl.String()
    if WHOLE_NUMBER.fullmatch(value):
        return pl.Int64() if value != "-0" and _fits_64_bits(int(value)) else pl.String()
    return pl.Float64() if DECIMAL_NUMBER.fullmatch(value) and _writes_back(value) else pl.String()


def _writes_back(value: str) -> bool:
    """Return whether a float is written so: with its fewest digits, without an exponent or with one as Python has it."""
    number = float(value)
    shortest = repr(number)
    return value in {shortest, shortest.replace("e-0", "e-")} or value in {
        np.format_float_positional(number, trim=trim) for trim in ("-", "0")
    }


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

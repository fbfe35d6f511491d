"""Numbers that are written as text: the number in a column's type, as long as it is the very number that is written."""

from decimal import Decimal, InvalidOperation

import polars as pl

__all__ = ["parse_numbers"]

LEADING_ZERO = r"^[+-]?0[0-9]"
"""A code such as a postal code: as a number it would lose its zeros."""
WITH_FRACTION = r"^[+-]?[0-9]+(?:\.[0-9]*)?(?:[eE][+-]?[0-9]{1,3})?$"
"""A number with a point or an exponent, which may be a whole number: ``7.0``, ``1e5``."""
MAX_CHARACTERS = 64
"""Longer texts are not read as whole numbers with a point or an exponent."""
EXACT_DIGITS = 15
"""A float of 64 bits holds every number of so many decimal digits, unless it is near the least or beyond the greatest."""


def parse_numbers(texts: pl.Series, kind: pl.DataType) -> tuple[pl.Series, pl.Series]:
    """Return texts as numbers, and which texts are others: not a number, a code, or more digits than the type holds."""
    numbers = texts.cast(kind, strict=False)
    if kind.is_integer():
        numbers = _with_whole_numbers(texts, numbers)
    misfit = (numbers.is_null() & texts.is_not_null()) | texts.str.contains(LEADING_ZERO).fill_null(value=False)
    return numbers, misfit if kind.is_integer() else misfit | _are_others(texts, numbers)


def _with_whole_numbers(texts: pl.Series, numbers: pl.Series) -> pl.Series:
    """Add the whole numbers that are written with a point or an exponent."""
    if numbers.null_count() == texts.null_count():
        return numbers
    is_open = numbers.is_null() & texts.str.contains(WITH_FRACTION) & (texts.str.len_bytes() <= MAX_CHARACTERS)
    if not is_open.any():
        return numbers
    whole = [_whole(text) if asked else None for text, asked in zip(texts, is_open, strict=True)]
    found = pl.Series("found", whole, dtype=pl.Int64).cast(numbers.dtype, strict=False)
    frame = pl.DataFrame([numbers.alias("parsed"), found])
    return frame.select(pl.coalesce("parsed", "found")).to_series().alias(numbers.name)


def _whole(text: str) -> int | None:
    number = Decimal(text)
    fits = -(2**63) <= number < 2**63 and number == number.to_integral_value()
    return int(number) if fits else None


def _are_others(texts: pl.Series, numbers: pl.Series) -> pl.Series:
    """Return which numbers are others than those that are written, because they have fewer digits."""
    back = numbers.cast(pl.String)
    differ = (back != texts).fill_null(value=False)
    if numbers.dtype == pl.Float64():
        differ &= (texts.str.len_bytes() > EXACT_DIGITS) | texts.str.contains("[eE]")
    if not differ.any():
        return differ
    pairs = zip(texts, back, differ, strict=True)
    return pl.Series([asked and not _is_same(text, number) for text, number, asked in pairs], dtype=pl.Boolean)


def _is_same(one: str, other: str) -> bool:
    try:
        return Decimal(one) == Decimal(other)
    except InvalidOperation:  # an exponent beyond all bounds
        return False

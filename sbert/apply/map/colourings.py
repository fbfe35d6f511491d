"""Colourings of a map: each gives every row the number of an entry of a legend."""

from dataclasses import dataclass
from enum import StrEnum
from itertools import pairwise

import numpy as np
import numpy.typing as npt
import polars as pl

__all__ = ["MAX_ENTRIES", "Colouring", "ColouringKind", "column_colouring", "is_colourable"]

MAX_ENTRIES = 100
"""Entries of a legend; the rows of all other values are `OTHER`."""
NUM_BINS = 8
OTHER = "other values"
NONE = "no value"


class ColouringKind(StrEnum):
    """Kind of the entries of a legend."""

    TOPIC = "topic"
    CATEGORY = "category"
    NUMBER = "number"
    """Ranges of numbers or times, in ascending order, with as many rows each as the values allow."""


@dataclass(frozen=True)
class Colouring:
    """A legend, and the entry of each of N rows."""

    name: str
    kind: ColouringKind
    labels: tuple[str, ...]
    num_rest: int
    """Entries at the end that stand for other values or none; they are grey."""
    codes_N: npt.NDArray[np.uint8]


def is_colourable(values: pl.Series) -> bool:
    """Return whether a column is offered as a colouring: numbers, times, or few enough different values."""
    if values.dtype.is_nested() or values.dtype == pl.Binary:
        return False
    num_different = values.drop_nulls().n_unique()
    if num_different < 2:
        return False
    return (
        values.dtype.is_numeric() or values.dtype.is_temporal() or num_different <= min(MAX_ENTRIES, len(values) // 2)
    )


def column_colouring(name: str, values: pl.Series) -> Colouring:
    """Return the colouring by a column: ranges of numbers and times, else the most frequent values."""
    if (values.dtype.is_numeric() or values.dtype.is_temporal()) and values.n_unique() > NUM_BINS:
        return _ranges(name, values)
    return _categories(name, values)


def _categories(name: str, values: pl.Series) -> Colouring:
    texts = values.cast(pl.String).alias("value")
    counts = texts.drop_nulls().value_counts(name="rows").sort(["rows", "value"], descending=[True, False])
    labels = counts["value"].head(MAX_ENTRIES).to_list()
    if values.dtype.is_numeric():
        labels.sort(key=float)
    codes = texts.replace_strict(labels, list(range(len(labels))), default=None, return_dtype=pl.Int64)
    return _with_rest(name, ColouringKind.CATEGORY, labels, codes, texts.is_not_null())


def _ranges(name: str, values: pl.Series) -> Colouring:
    number = values.cast(pl.Float64) if values.dtype.is_numeric() else values.to_physical().cast(pl.Float64)
    number = number.set(~number.is_finite().fill_null(value=False), None)
    there = number.drop_nulls().to_numpy()
    edges = np.unique(np.quantile(there, np.linspace(0, 1, NUM_BINS + 1), method="nearest")) if len(there) else there
    inner = edges[1:-1]
    codes = pl.Series(np.searchsorted(inner, number.fill_null(0.0).to_numpy(), side="right"), dtype=pl.Int64)
    codes = codes.set(number.is_null(), None)
    shown = [_shown(values, edge) for edge in edges]
    labels = [f"{low} to {high}" for low, high in pairwise(shown)] or shown[:1]
    return _with_rest(name, ColouringKind.NUMBER, labels, codes, values.is_not_null() & number.is_not_null())


def _shown(values: pl.Series, edge: float) -> str:
    if values.dtype.is_numeric():
        return f"{edge:,.4g}" if abs(edge) < 1e4 else f"{edge:,.0f}"
    exact = pl.Series([round(edge)], dtype=pl.Int64).cast(values.to_physical().dtype).cast(values.dtype)[0]
    return f"{exact:%Y-%m-%d}" if hasattr(exact, "year") else str(exact)


def _with_rest(name: str, kind: ColouringKind, labels: list[str], codes: pl.Series, is_there: pl.Series) -> Colouring:
    """Add entries for rows of other values and for rows without a value, if there are any."""
    rest: list[str] = []
    for label, rows in ((OTHER, codes.is_null() & is_there), (NONE, codes.is_null() & ~is_there)):
        if rows.any():
            codes = codes.set(rows, len(labels) + len(rest))
            rest.append(label)
    return Colouring(name, kind, (*labels, *rest), len(rest), codes.to_numpy().astype(np.uint8))

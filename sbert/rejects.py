"""Rows that are not embedded: why, and what they were.

Every input row ends as embedded, carried over or rejected; the rejected ones are kept with their original bytes so
that nothing disappears silently.
"""

from enum import StrEnum

import polars as pl

__all__ = ["REJECT_SCHEMA", "RejectReason", "empty_rejects"]


class RejectReason(StrEnum):
    """Why a row is not in the table."""

    BROKEN_ROW = "broken_row"
    """The line is not a JSON object, or the CSV record has another number of fields than the header."""
    INVALID_UTF8 = "invalid_utf8"
    """The bytes of the row are not UTF-8."""
    NULL_TEXT = "null_text"
    """The text is missing or null."""
    NULL_ID = "null_id"
    """The id column is missing or null in this row."""
    BAD_VALUE = "bad_value"
    """A kept column's value does not fit the column's type."""
    EMPTY_TEXT = "empty_text"
    """No text is left after cleaning."""
    TOO_SHORT = "too_short"
    """Fewer characters than ``min_chars`` after cleaning."""
    TOO_LONG = "too_long"
    """More characters than ``max_chars`` after cleaning, or more bytes than a row may have."""
    TOO_MANY_TOKENS = "too_many_tokens"
    """More tokens than the encoder takes, under the truncation policy ``reject``."""
    DUPLICATE_ID = "duplicate_id"
    """A later row of the same object has the same id; the later one stays."""
    DUPLICATE_TEXT = "duplicate_text"
    """An earlier row of the same object has the same cleaned text, and duplicates are to be dropped."""


REJECT_SCHEMA: dict[str, pl.DataType] = {
    "source": pl.String(),
    "row": pl.Int64(),
    "id": pl.String(),
    "reason": pl.String(),
    "detail": pl.String(),
    "original": pl.Binary(),
}
"""``row`` counts from 1 within the object (the line of JSON Lines and text, the record of CSV and Parquet);
``original`` holds the raw line when it could not be parsed, else a JSON object of the selected columns."""


def empty_rejects() -> pl.DataFrame:
    """Give a frame of no rejected rows."""
    return pl.DataFrame(schema=REJECT_SCHEMA)

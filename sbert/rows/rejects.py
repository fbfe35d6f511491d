"""Rows that are not encoded: the reasons, and the original values.

Every input row ends as encoded, carried over or rejected. Rejected rows are kept with their original bytes, so nothing
disappears silently.
"""

from enum import StrEnum

import polars as pl

__all__ = ["REJECT_SCHEMA", "RejectReason", "empty_rejects", "original_of"]


class RejectReason(StrEnum):
    """Reasons for keeping a row out of the table."""

    BROKEN_ROW = "broken_row"
    """The line is not a JSON object, or the CSV record has another number of fields than the header."""
    INVALID_UTF8 = "invalid_utf8"
    """The bytes of the row are not UTF-8."""
    NULL_TEXT = "null_text"
    """The text is missing or null."""
    NULL_ID = "null_id"
    """The id column is missing or null in this row."""
    BAD_VALUE = "bad_value"
    """The text or the id is an array or an object."""
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
    ERASED = "erased"
    """A person erased the row (`sbert erase`); neither its id nor its values are kept."""


REJECT_SCHEMA = pl.Schema(
    {
        "source": pl.String(),
        "row": pl.Int64(),
        "id": pl.String(),
        "reason": pl.String(),
        "detail": pl.String(),
        "original": pl.Binary(),
    }
)
"""``row`` counts from 1 within the object (the line of JSON Lines and text, the record of CSV and Parquet);
``original`` holds the raw line when it could not be parsed, else a JSON object of the selected columns."""
NO_REJECTS = pl.DataFrame(schema=REJECT_SCHEMA)


def empty_rejects() -> pl.DataFrame:
    """Return a frame of no rejected rows."""
    return NO_REJECTS.clone()  # made once: every block begins with one


def original_of(rows: pl.DataFrame) -> pl.Series:
    """Return each row's original values as a JSON object of id, text and kept columns, in UTF-8."""
    names = [name for name in rows.columns if name in {"id", "text"} or name.startswith("kept:")]
    values = [
        pl.col(name) if rows.schema[name] == pl.String() else pl.col(name).cast(pl.String, strict=False)
        for name in names
    ]
    named = [
        value.alias(name.removeprefix("kept:")) for name, value in zip(names, values, strict=True) if name != "text"
    ]
    text = [pl.col("text").alias("text")] if "text" in names else []
    if not named and not text:
        return pl.Series("original", [b"{}"] * rows.height, dtype=pl.Binary)
    unique = {value.meta.output_name(): value for value in [*named, *text]}
    return rows.select(pl.struct(unique.values()).struct.json_encode().cast(pl.Binary).alias("original")).to_series()

"""Settings of the word index and of its scores."""

import hashlib
from collections.abc import Mapping
from typing import Any

import polars as pl
from pydantic import BaseModel, ConfigDict, Field

from sbert.errors import ColumnError
from sbert.index.words.terms import TERMS_VERSION
from sbert.table.delta import Table
from sbert.table.recorded_settings import table_cleaning

__all__ = ["WordSettings", "find_text_column", "words_fingerprint", "words_text_column"]


class WordSettings(BaseModel):
    """Settings of the word index of a table."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    text_column: str | None = Field(
        default=None,
        title="Text column",
        description="Kept column whose words are indexed; empty for the column that was encoded, else text.",
    )
    segment_rows: int = Field(
        default=200_000,
        ge=1,
        le=10_000_000,
        title="Largest segment",
        description="Rows that a segment holds at most, unless one split has more; it is built in memory (rows).",
    )
    merge_segments: int = Field(
        default=4,
        ge=2,
        le=64,
        title="Segments to merge",
        description="Segments of about one size that are made into one (segments).",
    )
    max_gone_share: float = Field(
        default=0.3,
        ge=0,
        le=1,
        title="Largest share of rows gone",
        description="Share of a segment's rows that may have left the table before it is built anew (0 to 1).",
    )


def words_text_column(table: Table, asked: str | None = None) -> str:
    """Return the kept column that holds the texts whose words are searched.

    Raises:
        ColumnError: no such column is kept.
    """
    kept = table.kept_schema
    texts = [name for name, kind in kept.items() if kind == pl.String]
    shown = ", ".join(kept) or "none"
    if asked is not None:
        if asked not in texts:
            raise ColumnError(
                f"{table.uri}: no kept column of texts {asked!r} (kept: {shown}): name one of these, or keep it with "
                "`sbert refresh --keep-columns`"
            )
        return asked
    source: Mapping[str, Any] = (table.recorded_settings or {}).get("source") or {}
    encoded = source.get("text_column")
    own_texts = ("passage",) if "document_id" in texts else ()  # a table of passages
    for name in (*own_texts, encoded, "text"):
        if name in texts:
            return str(name)
    raise ColumnError(
        f"{table.uri}: no kept column holds the encoded text ({encoded or 'text'}; kept: {shown}): name another column, "
        f"or run `sbert refresh` with --keep-columns {encoded or 'text'}"
    )


def find_text_column(table: Table, asked: str | None = None) -> str | None:
    """Return the kept column that holds the texts; None if none was asked for and the encoded text is not kept.

    Raises:
        ColumnError: the column that was asked for is not kept.
    """
    try:
        return words_text_column(table, asked)
    except ColumnError:
        if asked is not None:
            raise
        return None


def words_fingerprint(table: Table, column: str) -> str:
    """Return a hash of everything that decides the terms of a split beside its rows."""
    parts = f"{TERMS_VERSION}|{column}|{table_cleaning(table).model_dump_json()}"
    return hashlib.sha256(parts.encode()).hexdigest()[:32]

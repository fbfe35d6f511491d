"""Blocks of rows, with the rows that could not become one."""

from dataclasses import dataclass
from typing import Any

import polars as pl

from sbert.rows.rejects import REJECT_SCHEMA, RejectReason, empty_rejects, original_of
from sbert.source.settings import SourceSettings
from sbert.source.splits import Span
from sbert.storage.files import base_name

__all__ = ["KEPT_PREFIX", "RowBlock", "convert_kept", "decode_utf8", "finish_block", "rejected_lines"]

KEPT_PREFIX = "kept:"
"""Kept columns carry this prefix until they are written, so that none can collide with a column of the pipeline."""
MAX_ORIGINAL_BYTES = 64 * 1024
"""Of a raw line that is rejected at most this much is kept."""


@dataclass(frozen=True)
class RowBlock:
    """Some rows of an object.

    ``rows`` has the columns source, row, id, text (not null) and ``kept:<name>`` for every kept column; ``rejects`` those
    of `REJECT_SCHEMA`.
    """

    rows: pl.DataFrame
    rejects: pl.DataFrame

    @property
    def num_rows_read(self) -> int:
        """Rows of the source in this block."""
        return self.rows.height + self.rejects.height


def rejected_lines(span: Span, found: list[tuple[int, RejectReason, str, bytes]]) -> pl.DataFrame:
    """Describe raw lines that are not rows: (row number, reason, detail, bytes of the line) each."""
    if not found:
        return empty_rejects()
    return pl.DataFrame(
        {
            "source": [span.object.uri] * len(found),
            "row": [row for row, *_ in found],
            "id": [None] * len(found),
            "reason": [reason.value for _, reason, _, _ in found],
            "detail": [detail for _, _, detail, _ in found],
            "original": [line[:MAX_ORIGINAL_BYTES] for *_, line in found],
        },
        schema=REJECT_SCHEMA,
    )


def decode_utf8(raw: pl.Series) -> pl.Series:
    """Give bytes as text, null where they are not UTF-8."""
    try:
        return raw.cast(pl.String)
    except pl.exceptions.PolarsError:  # some value is not: look at each
        return pl.Series(raw.name, [_decoded(value) for value in raw], dtype=pl.String)


def _decoded(value: bytes | None) -> str | None:
    try:
        return None if value is None else value.decode("utf-8")
    except UnicodeDecodeError:
        return None


def convert_kept(
    parsed: pl.DataFrame, kept_schema: dict[str, pl.DataType]
) -> tuple[pl.DataFrame, list[tuple[int, RejectReason, str, bytes]]]:
    """Bring kept columns to their types; give the rows that fit, and what is wrong with the others."""
    found: list[tuple[int, RejectReason, str, bytes]] = []
    for name, kind in kept_schema.items():
        column = KEPT_PREFIX + name
        raw = parsed[column]
        if raw.dtype == kind:
            continue
        if kind == pl.Boolean() and raw.dtype == pl.String():
            converted = raw.str.to_lowercase().replace_strict({"true": True, "false": False}, default=None)
        elif kind == pl.String() and raw.dtype.is_nested():
            converted = parsed.select(pl.struct(column).struct.json_encode()).to_series()
        else:
            converted = raw.cast(kind, strict=False)
        misfit = converted.is_null() & raw.is_not_null()
        if raw.dtype.is_float() and kind.is_integer():  # a cast would cut the fraction off
            misfit |= (raw != raw.floor()).fill_null(value=False)
        for row, value in parsed.filter(misfit).select("row", column).rows():
            detail = f"column {name!r} holds {str(value)[:80]!r}, which is no {kind}"
            found.append((row, RejectReason.BAD_VALUE, detail, str(value).encode()))
        parsed = parsed.with_columns(converted.alias(column)).filter(~misfit)
    return parsed, found


def finish_block(
    span: Span,
    source: SourceSettings,
    parsed: pl.DataFrame,
    kept_schema: dict[str, pl.DataType],
    rejects: pl.DataFrame,
) -> RowBlock:
    """Check parsed rows (columns row, id, text and kept ones, null where missing) and give the block.

    Rows without text, or without an id where one was asked for, are rejected; other ids are derived from the object's
    name and the row's number.
    """
    derived = pl.format("{}:{}", pl.lit(base_name(span.object.uri)), pl.col("row"))
    kept = [pl.col(KEPT_PREFIX + name).cast(kind) for name, kind in kept_schema.items()]
    rows = parsed.select(
        pl.lit(span.object.uri).alias("source"),
        pl.col("row").cast(pl.Int64),
        pl.col("id").cast(pl.String),
        "text",
        *kept,
    )
    reason: Any = pl.when(pl.col("text").is_null()).then(pl.lit(RejectReason.NULL_TEXT.value))
    if source.id_column is not None:
        reason = reason.when(pl.col("id").is_null()).then(pl.lit(RejectReason.NULL_ID.value))
    rows = rows.with_columns(reason.otherwise(None).alias("reason"))
    bad = rows.filter(pl.col("reason").is_not_null())
    if bad.height:
        described = bad.select(
            "source",
            "row",
            "id",
            "reason",
            pl.when(pl.col("reason") == RejectReason.NULL_TEXT.value)
            .then(pl.lit(f"column {source.text_column!r} is missing or null"))
            .otherwise(pl.lit(f"column {source.id_column!r} is missing or null"))
            .alias("detail"),
            original_of(bad.drop("reason")).alias("original"),
        )
        rejects = pl.concat([rejects, described.cast(REJECT_SCHEMA)])
        rows = rows.filter(pl.col("reason").is_null())
    rows = rows.drop("reason")
    if source.id_column is None:
        rows = rows.with_columns(pl.coalesce("id", derived).alias("id"))
    return RowBlock(rows, rejects)

"""Blocks of rows: records with their id, text and kept columns, and the records that could not become a row."""

from dataclasses import dataclass, field
from typing import Any

import polars as pl

from sbert.rows.misfits import MISFIT_SCHEMA, empty_misfits
from sbert.rows.rejects import REJECT_SCHEMA, RejectReason, empty_rejects, original_of
from sbert.source.formats.base import BadRecord, RecordBlock
from sbert.source.objects import Span
from sbert.source.settings import SourceSettings
from sbert.source.templates import parts_of
from sbert.source.values import convert
from sbert.storage.files import base_name

__all__ = ["KEPT_PREFIX", "RowBlock", "make_rows"]

KEPT_PREFIX = "kept:"
"""Kept columns carry this prefix until they are written, so that none can collide with a column of the pipeline."""
MAX_ORIGINAL_BYTES = 64 * 1024
"""At most this much of a rejected line or of a misfit is kept."""


@dataclass(frozen=True)
class RowBlock:
    """Some rows of an object.

    ``rows`` has the columns source, row, id, text (not null), ``kept:<name>`` for every kept column, and ``outline`` if
    they are documents; ``rejects`` has
    those of `REJECT_SCHEMA`; ``misfits`` those of `MISFIT_SCHEMA`, one line for each kept value that does not fit.
    """

    rows: pl.DataFrame
    rejects: pl.DataFrame
    misfits: pl.DataFrame = field(default_factory=empty_misfits)
    num_documents_read: int = 0
    """Documents that the passages of this block, or the rejects, are from; 0 when no documents are cut."""

    @property
    def num_rows_read(self) -> int:
        """Rows of the source in this block."""
        return self.rows.height + self.rejects.height


def make_rows(
    span: Span,
    source: SourceSettings,
    records: RecordBlock,
    kept_schema: dict[str, pl.DataType],
    *,
    null_is_empty: bool,
) -> RowBlock:
    """Make rows of records.

    Records without text, or without an id where an id column was named, are rejected. Other missing ids are derived from
    the object's name and the row's number. A kept value that does not fit its column is null and becomes a misfit.
    """
    kept, misfits = _kept_columns(span, source, records, kept_schema)
    identity = records.values[source.id_column or "id"]
    if null_is_empty:
        identity = identity.set((identity == "").fill_null(value=False), None)
    if records.outline is not None:
        kept = [*kept, records.outline.alias("outline")]
    rows = pl.DataFrame(
        [
            pl.Series("source", [span.object.uri], pl.String).new_from_index(0, len(records.row_numbers)),
            records.row_numbers.alias("row"),
            identity.alias("id"),
            records.values[source.text_column].alias("text"),
            *kept,
        ]
    )
    rejects = _rejected_records(span, records.bad)
    if not _lacks_values(rows):  # each expression costs as much as reading hundreds of rows
        return RowBlock(rows, rejects, misfits)
    reason: Any = pl.when(pl.col("text").is_null()).then(pl.lit(RejectReason.NULL_TEXT.value))
    if source.id_column is not None:
        reason = reason.when(pl.col("id").is_null()).then(pl.lit(RejectReason.NULL_ID.value))
    reasons = rows.select(reason.otherwise(None).alias("reason")).to_series()
    is_bad = reasons.is_not_null()
    if is_bad.any():
        rejects = pl.concat([rejects, _rejected_rows(rows.filter(is_bad), reasons.filter(is_bad), source)])
        rows = rows.filter(~is_bad)
        misfits = misfits.filter(~pl.col("row").is_in(records.row_numbers.filter(is_bad).implode()))
    if source.id_column is None:
        derived = pl.format("{}:{}", pl.lit(base_name(span.object.uri)), pl.col("row"))
        rows = rows.with_columns(pl.coalesce("id", derived).alias("id"))
    return RowBlock(rows, rejects, misfits)


def _lacks_values(rows: pl.DataFrame) -> bool:
    """Return whether a row has no text or no id."""
    return bool(rows["text"].null_count() or rows["id"].null_count())


def _kept_columns(
    span: Span, source: SourceSettings, records: RecordBlock, kept_schema: dict[str, pl.DataType]
) -> tuple[list[pl.Series], pl.DataFrame]:
    """Bring kept columns to their types."""
    kept: list[pl.Series] = []
    misfits = [empty_misfits()]
    for name, kind in kept_schema.items():
        raw = records.values[name]
        converted, misfit = convert(raw, kind)
        kept.append(converted.alias(KEPT_PREFIX + name))
        if misfit.any():
            originals = convert(raw.filter(misfit), pl.String())[0].str.head(MAX_ORIGINAL_BYTES)
            misfits.append(
                pl.DataFrame(
                    [
                        records.row_numbers.filter(misfit).alias("row"),
                        records.values[source.id_column or "id"].filter(misfit).alias("id"),
                        originals.alias("original"),
                    ]
                )
                .with_columns(source=pl.lit(span.object.uri), column=pl.lit(name), type=pl.lit(str(kind)))
                .select(MISFIT_SCHEMA.names())
            )
    return kept, pl.concat(misfits) if len(misfits) > 1 else misfits[0]


def _rejected_records(span: Span, bad: list[BadRecord]) -> pl.DataFrame:
    if not bad:
        return empty_rejects()
    return pl.DataFrame(
        {
            "source": [span.object.uri] * len(bad),
            "row": [record.row for record in bad],
            "id": [None] * len(bad),
            "reason": [record.reason.value for record in bad],
            "detail": [record.detail for record in bad],
            "original": [record.original[:MAX_ORIGINAL_BYTES] for record in bad],
        },
        schema=REJECT_SCHEMA,
    )


def _rejected_rows(rows: pl.DataFrame, reasons: pl.Series, source: SourceSettings) -> pl.DataFrame:
    described = rows.select(
        "source",
        "row",
        "id",
        reasons.alias("reason"),
        pl.when(reasons == RejectReason.NULL_TEXT.value)
        .then(pl.lit(_missing(source.text_column)))
        .otherwise(pl.lit(_missing(source.id_column or "id")))
        .alias("detail"),
        original_of(rows).alias("original"),
    )
    return described.cast(REJECT_SCHEMA)


def _missing(name: str) -> str:
    return f"all parts of {name!r} are empty" if parts_of(name) else f"column {name!r} is missing or null"

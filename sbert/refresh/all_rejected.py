"""Say why a run rejected every row that it read: most often a setting names the wrong column, format or encoding."""

from collections.abc import Sequence

from sbert.refresh.job import RefreshSettings
from sbert.rows.counts import RowCounts
from sbert.rows.rejects import RejectReason
from sbert.source.formats.all_formats import format_of_name
from sbert.storage.files import join
from sbert.table.split_records import REJECTED_FOLDER, SplitRecord, read_rejects

__all__ = ["explain_all_rejected"]

TEXT = "Check that text_column (--text-column), which is {text_column!r}, names the column that holds the text"
REMEDIES = {
    RejectReason.NULL_TEXT: TEXT,
    RejectReason.EMPTY_TEXT: TEXT,
    RejectReason.NULL_ID: "Check that id_column (--id-column), which is {id_column!r}, names a column that is never empty, "
    "or leave it out",
    RejectReason.BAD_VALUE: "Name a value inside the column, with braces, such as {{column.field}}, in text_column or "
    "id_column",
    RejectReason.BROKEN_ROW: "Check that the objects are written in the format that their names say, and for CSV that "
    "source.csv.delimiter and source.csv.quote are right",
    RejectReason.INVALID_UTF8: "Set source.encoding to the encoding of the objects",
    RejectReason.TOO_SHORT: f"{TEXT}; or lower cleaning.min_chars, which is {{min_chars}}",
    RejectReason.TOO_LONG: "Raise cleaning.max_chars, which is {max_chars}, or reading.max_row_bytes, which is "
    "{max_row_bytes}",
    RejectReason.TOO_MANY_TOKENS: "Set encoding.truncation to truncate or window",
}
"""Remedy for each reason that can reject every row of a source. Other reasons alone never reject all rows."""


def explain_all_rejected(table_uri: str, records: Sequence[SplitRecord], settings: RefreshSettings, result: str) -> str:
    """Return what happened, an example, and the remedy; empty unless every row of `records` was rejected.

    Rows that a person had erased do not count: nothing is wrong with them.

    Args:
        table_uri: the table.
        records: completion records of the splits that were read.
        settings: the settings of the run.
        result: what became of the table, to be put after the number of rows.
    """
    counts = RowCounts.total(record.counts for record in records)
    reasons = {name: number for name, number in counts.rejects_by_reason.items() if name != RejectReason.ERASED}
    if not reasons or counts.num_rows_rejected < counts.num_rows_read:
        return ""
    main = max(reasons, key=reasons.__getitem__)
    numbers = ", ".join(f"{number:,} {name}" for name, number in counts.rejects_by_reason.items())
    remedy = REMEDIES.get(RejectReason(main), "").format(
        text_column=settings.source.text_column,
        id_column=settings.source.id_column or "id",
        min_chars=settings.cleaning.min_chars,
        max_chars=settings.cleaning.max_chars,
        max_row_bytes=settings.reading.max_row_bytes,
    )
    source, row, detail = _example(table_uri, records, main)
    if main == RejectReason.EMPTY_TEXT and _is_document(source):
        remedy = ""  # the detail has it
    number = f"{counts.num_rows_rejected:,} of {counts.num_rows_read:,} rows were rejected"
    rejected = join(table_uri, REJECTED_FOLDER)
    return (
        f"{number} ({numbers}){result}: {source}, row {row}: {detail}. "
        f"{f'{remedy}; {rejected}' if remedy else rejected} holds the rejected rows"
    )


def _example(table_uri: str, records: Sequence[SplitRecord], reason: str) -> tuple[str, int, str]:
    """Return object, row and detail of the first row that was rejected for a reason."""
    record = next(record for record in records if record.counts.rejects_by_reason.get(reason))
    rejects = read_rejects(table_uri, [record])
    source, row, detail = rejects.filter(rejects["reason"] == reason).select("source", "row", "detail").row(0)
    return source, row, detail


def _is_document(uri: str) -> bool:
    kind = format_of_name(uri)
    return kind is not None and kind[0].is_document

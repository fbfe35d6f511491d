"""Read one object of labels whole, as texts, through the formats that raw text is read by."""

import polars as pl

from sbert.errors import BrokenObjectError, LabelError, StorageError
from sbert.labels.class_lists import as_lists
from sbert.labels.settings import LabelSettings
from sbert.rows.rejects import RejectReason
from sbert.source.formats.all_formats import format_of
from sbert.source.formats.base import BadRecord, ColumnRequest, Hints
from sbert.source.objects import SourceObject, Span
from sbert.source.settings import ReadSettings
from sbert.source.values import as_text

__all__ = ["read_label_object"]

TEXT = "text"
"""Name of the only column of plain text."""
COMPLAINTS = {
    RejectReason.INVALID_UTF8: "save the labels as UTF-8",
    RejectReason.BROKEN_ROW: "mend the row or remove it",
    RejectReason.TOO_LONG: "shorten the row or remove it",
}


class _NestedError(LabelError):
    """A value is an array or an object where a text is expected."""


def read_label_object(
    item: SourceObject, settings: LabelSettings, *, lists: frozenset[str] = frozenset()
) -> pl.DataFrame:
    """Return all columns of an object as texts; a frame without rows and columns for an empty object.

    Args:
        item: the object.
        settings: how it is written.
        lists: columns that may hold lists of classes; one that does is a column of lists of texts.

    Raises:
        BrokenObjectError: when the object cannot be read to its end, or a row is broken; the message has its number.
        ColumnError: when ``csv_columns`` does not fit a CSV object.
        LabelError: when a column holds lists or objects, or a list holds something else than classes.
    """
    try:
        return _read(item, settings, frozenset())
    except _NestedError:
        if not lists:
            raise
    rows = _read(item, settings, lists)
    columns = [as_text(rows[name]) for name in rows.columns if name in lists]
    converted = [as_lists(column, item.uri) for column in columns]
    return rows.with_columns(columns).with_columns(column for column in converted if column is not None)


def _read(item: SourceObject, settings: LabelSettings, as_they_are: frozenset[str]) -> pl.DataFrame:
    """Read an object; values of the columns `as_they_are` may be nested."""
    if item.unreadable:
        raise BrokenObjectError(item.uri, item.unreadable)
    if item.num_bytes == 0:
        return pl.DataFrame()
    source_format = format_of(item.format)
    header = settings.csv_columns if source_format.name == "csv" else ()
    try:
        hints = Hints(encoding=settings.encoding, csv=settings.csv)
        names = _column_names(item, header, hints, as_they_are)
        if not names:
            _raise_first_bad(item, header, hints)
            return pl.DataFrame()
        request = ColumnRequest(
            texts=tuple(name for name in names if name not in as_they_are),
            kept=tuple(name for name in names if name in as_they_are),
            required=frozenset(names),
            csv_header=header,
            hints=hints,
        )
        frames = []
        for block in source_format.read(Span(object=item), request, ReadSettings()):
            if block.bad:
                _raise_bad(item, min(block.bad))
            frames.append(block.values)
    except StorageError as error:
        if error.transient:
            raise
        raise BrokenObjectError(item.uri, f"cannot be opened: {error}") from error
    rows = pl.concat(frames) if frames else pl.DataFrame(schema=dict.fromkeys(names, pl.String()))
    if source_format.null_is_empty:
        rows = rows.with_columns(pl.all().replace("", None))
    return rows


def _column_names(item: SourceObject, header: tuple[str, ...], hints: Hints, as_they_are: frozenset[str]) -> list[str]:
    source_format = format_of(item.format)
    if not source_format.has_columns:
        return [TEXT]
    if header:
        return list(header)
    columns = source_format.columns(item, 0, hints) or {}
    for name, kind in columns.items():
        if kind.is_nested() and not (name in as_they_are and isinstance(kind, pl.List | pl.Array)):
            raise _NestedError(
                f"{item.uri}: column {name!r} holds {kind}, not one text a row: write each value as text"
            )
    return list(columns)


def _raise_first_bad(item: SourceObject, header: tuple[str, ...], hints: Hints) -> None:
    """Raise the error of an object that shows no columns, if it has one."""
    request = ColumnRequest(texts=(TEXT,), csv_header=header, hints=hints)
    for block in format_of(item.format).read(Span(object=item), request, ReadSettings()):
        if block.bad:
            _raise_bad(item, min(block.bad))


def _raise_bad(item: SourceObject, bad: BadRecord) -> None:
    if bad.reason is RejectReason.BAD_VALUE:
        raise _NestedError(f"{item.uri}: row {bad.row}: {bad.detail}: write each value as text")
    remedy = COMPLAINTS.get(bad.reason, "mend the row")
    raise BrokenObjectError(item.uri, f"row {bad.row}: {bad.detail}: {remedy}")

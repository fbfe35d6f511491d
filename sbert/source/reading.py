"""Stream the rows of a span, whatever its format."""

from collections.abc import Iterator
from dataclasses import replace

import polars as pl

from sbert.errors import BrokenObjectError, StorageError
from sbert.source.blocks import RowBlock, make_rows
from sbert.source.folder_keys import keys_asked_for, with_keys, without_keys
from sbert.source.formats.all_formats import format_of
from sbert.source.formats.base import ColumnRequest, Hints, RecordBlock
from sbert.source.objects import Span
from sbert.source.settings import ReadSettings, SourceSettings
from sbert.source.templates import (
    id_fields,
    nested_fields,
    parts_of,
    put_together,
    required_columns,
    root_of,
    text_fields,
)

__all__ = ["hints_of", "read_span"]


def read_span(
    span: Span, source: SourceSettings, read: ReadSettings, kept_schema: dict[str, pl.DataType]
) -> Iterator[RowBlock]:
    """Stream the rows of a whole object or of a slice; memory depends on the block, not on the object.

    Raises:
        BrokenObjectError: when the object cannot be opened or read to its end.
        ColumnError: when the text column, or a named id column, is not there.
        StorageError: when storage fails and trying again can help.
    """
    if span.object.unreadable:
        raise BrokenObjectError(span.object.uri, span.object.unreadable)
    blocks = iter(()) if span.object.num_bytes == 0 else _read(span, source, read, kept_schema)
    yield from blocks if span.max_rows is None else _first_rows(blocks, span.max_rows)


def _read(
    span: Span, source: SourceSettings, read: ReadSettings, kept_schema: dict[str, pl.DataType]
) -> Iterator[RowBlock]:
    source_format = format_of(span.object.format)
    nested = nested_fields(source)
    request = ColumnRequest(
        texts=tuple(dict.fromkeys([*text_fields(source), *(id_fields(source) or ["id"])])),
        kept=tuple(dict.fromkeys([*kept_schema, *map(root_of, nested)])),
        required=frozenset(required_columns(source)),
        text_documents=source.text_documents,
        hints=hints_of(source),
    )
    keys = keys_asked_for(request, source, span.object)
    if keys:
        request = without_keys(request, keys)
    try:
        for record_block in source_format.read(span, request, read):
            records = _put_together(span, source, with_keys(record_block, span.object, keys) if keys else record_block)
            yield make_rows(span, source, records, kept_schema, null_is_empty=source_format.null_is_empty)
    except StorageError as error:
        if error.transient:
            raise
        # A refusal that lasts concerns this object; others of the same split can be read.
        raise BrokenObjectError(span.object.uri, f"cannot be opened: {error}") from error


def _put_together(span: Span, source: SourceSettings, records: RecordBlock) -> RecordBlock:
    """Add the text and the id that are templates, under the name that the settings have for them."""
    names = [name for name in (source.text_column, source.id_column) if name is not None and parts_of(name)]
    if not names:
        return records
    made = [put_together(span.object.uri, name, records.values).alias(name) for name in dict.fromkeys(names)]
    return replace(records, values=records.values.with_columns(made))


def hints_of(source: SourceSettings) -> Hints:
    """Return the hints of the settings on how objects are written."""
    return Hints(
        encoding=source.encoding,
        csv=source.csv,
        wanted=tuple(required_columns(source)),
        nested=tuple(nested_fields(source)),
    )


def _first_rows(blocks: Iterator[RowBlock], max_rows: int) -> Iterator[RowBlock]:
    """Return the first rows of a span, rejected ones included, and read no further."""
    left = max_rows
    for block in blocks:
        if block.num_rows_read >= left:
            numbers = pl.concat([block.rows["row"], block.rejects["row"]]).sort()
            is_first = pl.col("row") <= numbers[left - 1]
            yield RowBlock(block.rows.filter(is_first), block.rejects.filter(is_first), block.misfits.filter(is_first))
            return
        left -= block.num_rows_read
        yield block

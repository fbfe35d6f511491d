"""Data files of tables (Delta Lake, Iceberg): Parquet, read as the table's log says.

The log knows the columns, their names in the file, the values of partition columns, and deleted rows. So planning asks
the file nothing, and slices are byte ranges: a row group belongs to the slice in which it begins.
"""

from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import replace

import polars as pl
import pyarrow as pa
import pyarrow.parquet as pq

from sbert.errors import BrokenObjectError, MissingError
from sbert.source.formats.base import ColumnRequest, Hints, RecordBlock, SourceFormat, missing_column
from sbert.source.formats.parquet import read_row_groups
from sbert.source.lake_tables.deleted_rows import undeleted
from sbert.source.lake_tables.nested_columns import FIELD_ID
from sbert.source.objects import SourceObject, SourceTable, Span
from sbert.source.settings import ReadSettings
from sbert.source.streams import broken_data
from sbert.storage.files import open_input

__all__ = ["LakeFileFormat"]


class LakeFileFormat(SourceFormat):
    """A Parquet file of a table; the object carries the facts of the table's log."""

    name = "table_file"
    endings = ()
    may_be_compressed = False
    count_is_cheap = True
    slices_are_bytes = True

    def columns(self, item: SourceObject, head_bytes: int, hints: Hints) -> dict[str, pl.DataType] | None:  # noqa: ARG002
        """Return the columns of the table's schema."""
        return _table_of(item).columns

    def count(self, item: SourceObject, read: ReadSettings, hints: Hints) -> int:  # noqa: ARG002
        """Return the number of rows in the log; where it has none, that of the file's footer."""
        if item.num_rows is not None:
            return item.num_rows
        with _opened(item) as parquet:
            num_rows = int(parquet.metadata.num_rows)
        if not item.deleted_rows:
            return num_rows
        return int(undeleted(item.deleted_rows, pl.Series(range(1, num_rows + 1), dtype=pl.Int64)).sum())

    def slices(self, item: SourceObject, split_bytes: int) -> list[tuple[int, int]]:
        """Return byte ranges at multiples of `split_bytes`."""
        starts = range(0, item.num_bytes, split_bytes)
        return [(start, min(start + split_bytes, item.num_bytes)) for start in starts]

    def first_rows(self, item: SourceObject, starts: Sequence[int]) -> dict[int, int]:
        """Return the number of the first row of slices, from the footer."""
        with _opened(item) as parquet:
            first_bytes = _first_bytes(parquet)
            sizes = [parquet.metadata.row_group(group).num_rows for group in range(parquet.num_row_groups)]
        return {
            start: 1 + sum(size for first, size in zip(first_bytes, sizes, strict=True) if first < start)
            for start in starts
        }

    def read(self, span: Span, request: ColumnRequest, read: ReadSettings) -> Iterator[RecordBlock]:
        """Stream the rows of a span that are not deleted. A column that the file lacks is null.

        Raises:
            ColumnError: when the table has no such column, or a text column holds lists or structs.
            BrokenObjectError: when the file is gone, or cannot be read to its end.
        """
        item = span.object
        table = _table_of(item)
        for name in request.columns:
            if name in request.required and name not in table.columns:
                raise missing_column(table.uri, name, list(table.columns))
        with _opened(item) as parquet:
            stored_names = _stored_names(table, parquet.schema_arrow, [*set(request.columns) - item.values.keys()])
            stop = item.num_bytes if span.stop is None else span.stop
            first_bytes = _first_bytes(parquet)
            groups = [group for group, first in enumerate(first_bytes) if (span.start or 0) <= first < stop]
            for block in read_row_groups(parquet, groups, span, stored_names, request, read, table.nested):
                yield _without_deleted(item, _with_values(item, block))


def _table_of(item: SourceObject) -> SourceTable:
    assert item.table is not None, f"{item.uri}: a table file without its table"
    return item.table


@contextmanager
def _opened(item: SourceObject) -> Iterator[pq.ParquetFile]:
    table = _table_of(item)
    try:
        with (
            broken_data(item.uri),
            open_input(item.uri, in_order=False) as file,
            pq.ParquetFile(file, pre_buffer=False) as parquet,
        ):
            yield parquet
    except MissingError as error:
        raise BrokenObjectError(
            item.uri,
            f"is in version {table.version} of the table {table.uri}, but the file is gone. If the table was vacuumed "
            "meanwhile, run again; else restore the file",
        ) from error


def _first_bytes(parquet: pq.ParquetFile) -> list[int]:
    """Return the place where each row group begins."""
    places = []
    for group in range(parquet.num_row_groups):
        column = parquet.metadata.row_group(group).column(0)
        dictionary = column.dictionary_page_offset
        places.append(column.data_page_offset if dictionary is None else min(dictionary, column.data_page_offset))
    return places


def _stored_names(table: SourceTable, schema: pa.Schema, names: Sequence[str]) -> dict[str, str]:
    """Return the file's name of each column that the file has."""
    by_id: dict[int, str] = {
        int(field.metadata[FIELD_ID]): field.name for field in schema if field.metadata and FIELD_ID in field.metadata
    }
    stored: dict[str, str] = {}
    for name in names:
        is_by_id = bool(by_id) and name in table.field_ids  # files that were imported into a table have no ids
        stored_name = by_id.get(table.field_ids[name]) if is_by_id else table.stored_names.get(name, name)
        if stored_name is not None and stored_name in schema.names:
            stored[name] = stored_name
    return stored


def _with_values(item: SourceObject, block: RecordBlock) -> RecordBlock:
    """Put in the columns whose one value is in the log."""
    constants = [
        pl.Series(name, [item.values[name]], dtype=pl.String).new_from_index(0, block.values.height)
        for name in block.values.columns
        if name in item.values
    ]
    return replace(block, values=block.values.with_columns(constants)) if constants else block


def _without_deleted(item: SourceObject, block: RecordBlock) -> RecordBlock:
    if not item.deleted_rows:
        return block
    stays = undeleted(item.deleted_rows, block.row_numbers)
    bad = block.bad
    if bad:
        numbers = pl.Series([record.row for record in bad], dtype=pl.Int64)
        bad = [record for record, is_there in zip(bad, undeleted(item.deleted_rows, numbers), strict=True) if is_there]
    return RecordBlock(block.row_numbers.filter(stays), block.values.filter(stays), bad)

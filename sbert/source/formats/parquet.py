"""Parquet: batches of row groups, only the columns that are needed."""

import logging
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from typing import Any

import polars as pl
import pyarrow as pa
import pyarrow.parquet as pq

from sbert.errors import BrokenObjectError, ColumnError
from sbert.rows.rejects import RejectReason
from sbert.source.formats.base import BadRecord, ColumnRequest, Hints, RecordBlock, SourceFormat, missing_column
from sbert.source.lake_tables.nested_columns import in_table_form
from sbert.source.objects import SourceObject, Span
from sbert.source.settings import ReadSettings
from sbert.source.streams import broken_data
from sbert.source.types import MAX_DECIMAL_DIGITS
from sbert.source.values import as_text
from sbert.storage.files import open_input

__all__ = ["ParquetFormat", "read_row_groups", "types_of_schema"]

log = logging.getLogger(__name__)


class ParquetFormat(SourceFormat):
    """Typed columns, cut at row groups."""

    name = "parquet"
    endings = (".parquet",)
    may_be_compressed = False
    count_is_cheap = True

    def columns(self, item: SourceObject, head_bytes: int, hints: Hints) -> dict[str, pl.DataType] | None:  # noqa: ARG002
        """Return the columns of the footer's schema."""
        with _open_parquet(item.uri) as parquet:
            return types_of_schema(parquet.schema_arrow)

    def describe(self, item: SourceObject, hints: Hints) -> str:
        """Return nothing: how the object is written is certain. That its footer can be read is checked."""
        self.columns(item, 0, hints)
        return ""

    def count(self, item: SourceObject, read: ReadSettings, hints: Hints) -> int:  # noqa: ARG002
        """Return the number of rows in the footer."""
        with _open_parquet(item.uri) as parquet:
            return int(parquet.metadata.num_rows)

    def slices(self, item: SourceObject, split_bytes: int) -> list[tuple[int, int]]:
        """Return groups of neighbouring row groups; none for an unreadable footer, which reading will report."""
        try:
            with _open_parquet(item.uri) as parquet:
                metadata = parquet.metadata
        except BrokenObjectError as error:
            log.warning("%s: cannot be cut by row groups: %s", item.uri, error.detail)
            return []
        bounds: list[tuple[int, int]] = []
        first, size = 0, 0
        for group in range(metadata.num_row_groups):
            group_bytes = metadata.row_group(group).total_byte_size
            if size and size + group_bytes > split_bytes:
                bounds.append((first, group))
                first, size = group, 0
            size += group_bytes
        bounds.append((first, metadata.num_row_groups))
        return bounds

    def first_rows(self, item: SourceObject, starts: Sequence[int]) -> dict[int, int]:
        """Return the number of the first row of slices, from the footer."""
        with _open_parquet(item.uri) as parquet:
            metadata = parquet.metadata
            sizes = [metadata.row_group(group).num_rows for group in range(metadata.num_row_groups)]
        return {start: 1 + sum(sizes[:start]) for start in starts}

    def read(self, span: Span, request: ColumnRequest, read: ReadSettings) -> Iterator[RecordBlock]:
        """Stream the rows of a span.

        Raises:
            ColumnError: when a required column is not there, or a text column holds lists or structs.
        """
        uri = span.object.uri
        with _open_parquet(uri) as parquet:
            names = parquet.schema_arrow.names
            for name in request.columns:
                if name in request.required and name not in names:
                    raise missing_column(uri, name, names)
            present = {name: name for name in request.columns if name in names}
            stop = parquet.num_row_groups if span.stop is None else span.stop
            yield from read_row_groups(parquet, range(span.start or 0, stop), span, present, request, read)


@contextmanager
def _open_parquet(uri: str) -> Iterator[pq.ParquetFile]:
    """Open an object.

    Raises:
        BrokenObjectError: when it cannot be read, or has columns that Arrow has no type for; these are named.
    """
    with broken_data(uri), open_input(uri, in_order=False) as file:
        try:
            parquet = pq.ParquetFile(file, pre_buffer=False)
        except pa.ArrowNotImplementedError as error:
            wide = _columns_of_128_bits(file)
            if not wide:
                raise
            raise BrokenObjectError(
                uri,
                f"integers of 128 bits in {', '.join(wide)}, which Arrow cannot read ({error}): write the column as text "
                "or decimal(38, 0), or the object without it",
            ) from error
        with parquet:
            yield parquet


def _columns_of_128_bits(file: Any) -> list[str]:
    """Return the quoted names of the columns of integers of 128 bits, which Polars writes; none when Polars fails too."""
    file.seek(0)
    try:
        schema = pl.read_parquet_schema(file)
    except (pl.exceptions.PolarsError, pl.exceptions.PanicException):
        return []
    return [repr(name) for name, kind in schema.items() if "Int128" in str(kind)]


def read_row_groups(
    parquet: pq.ParquetFile,
    groups: Sequence[int],
    span: Span,
    stored_names: Mapping[str, str],
    request: ColumnRequest,
    read: ReadSettings,
    nested: Mapping[str, pa.Field] | None = None,
) -> Iterator[RecordBlock]:
    """Stream the rows of row groups.

    Args:
        parquet: the open file.
        groups: the row groups.
        span: the span; gives the number of the first row.
        stored_names: the file's name for each requested column that it has; the others are null.
        request: the columns.
        read: sizes.
        nested: columns of a table whose inner fields are to be as its schema has them.
    """
    names = {stored: name for name, stored in stored_names.items()}
    row = span.first_row
    for batch in parquet.iter_batches(batch_size=read.block_rows, row_groups=list(groups), columns=list(names)):
        table = pa.Table.from_batches([_in_table_form(batch, names, nested) if nested else batch])
        frame = pl.from_arrow(_for_polars(span.object.uri, table))
        assert isinstance(frame, pl.DataFrame)
        yield _block(span.object.uri, frame.rename(names), request, row, batch.num_rows)
        row += batch.num_rows


def _in_table_form(batch: pa.RecordBatch, names: Mapping[str, str], nested: Mapping[str, pa.Field]) -> pa.RecordBatch:
    """Return a batch whose nested columns have the fields that the table's schema has."""
    arrays = [
        in_table_form(array, nested[names[field.name]]) if names[field.name] in nested else array
        for field, array in zip(batch.schema, batch.columns, strict=True)
    ]
    return pa.RecordBatch.from_arrays(arrays, names=batch.schema.names)


def _for_polars(uri: str, table: pa.Table) -> pa.Table:
    """Return a table without decimals of 256 bits, which Polars does not have: text where 38 digits are too few.

    Raises:
        ColumnError: for such decimals inside a list or a struct.
    """
    wide = [field for field in table.schema if "decimal256" in str(field.type)]
    if not wide:
        return table
    for field in wide:
        if not pa.types.is_decimal256(field.type):
            raise ColumnError(f"{uri}: column {field.name!r} holds {field.type}, which cannot be read: leave it out")
    fields = [field.with_type(_polars_kind(field.type)) for field in table.schema]
    return table.cast(pa.schema(fields))


def _polars_kind(kind: pa.DataType) -> pa.DataType:
    if not pa.types.is_decimal256(kind):
        return kind
    return pa.decimal128(kind.precision, kind.scale) if kind.precision <= MAX_DECIMAL_DIGITS else pa.string()


def types_of_schema(schema: pa.Schema) -> dict[str, pl.DataType]:
    """Return the types of an Arrow schema's columns as Polars has them; Unknown where it has none."""
    types: dict[str, pl.DataType] = {}
    for original in schema:
        field = original.with_type(_polars_kind(original.type))
        if "decimal256" in str(field.type):  # inside a list or a struct
            types[field.name] = pl.Unknown()
            continue
        try:
            frame = pl.from_arrow(pa.schema([field]).empty_table())
        except (pa.ArrowException, pl.exceptions.PolarsError, pl.exceptions.PanicException):
            types[field.name] = pl.Unknown()  # refused by name if it is to be kept
            continue
        assert isinstance(frame, pl.DataFrame)
        types[field.name] = frame.dtypes[0]
    return types


def _block(uri: str, frame: pl.DataFrame, request: ColumnRequest, first_row: int, num_rows: int) -> RecordBlock:
    nothing = pl.Series([None], dtype=pl.String).new_from_index(0, num_rows)
    rows = pl.Series(range(first_row, first_row + num_rows), dtype=pl.Int64)
    values: dict[str, pl.Series] = {}
    good = pl.Series([True]).new_from_index(0, num_rows)
    bad: list[BadRecord] = []
    for name in request.columns:
        raw = frame[name] if name in frame.columns else nothing
        if name not in request.texts:
            values[name] = raw
            continue
        if raw.dtype.is_nested():
            raise _not_text(uri, name, raw.dtype)
        values[name] = as_text(raw)
        if raw.dtype == pl.Binary and name in request.required:
            for place in (values[name].is_null() & raw.is_not_null() & good).arg_true():
                detail = f"column {name!r} is not UTF-8"
                bad.append(BadRecord(rows[place], RejectReason.INVALID_UTF8, detail, raw[place]))
                good[place] = False
    block = pl.DataFrame(values)
    return RecordBlock(rows, block) if not bad else RecordBlock(rows.filter(good), block.filter(good), bad)


def _not_text(uri: str, name: str, kind: pl.DataType) -> ColumnError:
    """Return the error for a text column of lists or structs."""
    inner = kind.fields[0].name if isinstance(kind, pl.Struct) and kind.fields else None
    remedy = (
        "name another column" if inner is None else f"name a value inside it, with braces, such as {{{name}.{inner}}}"
    )
    return ColumnError(f"{uri}: column {name!r} holds {kind}, expected text: {remedy}")

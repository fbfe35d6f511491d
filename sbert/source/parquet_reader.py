"""Parquet: batches of row groups, only the columns that are needed."""

from collections.abc import Iterator

import polars as pl
import pyarrow as pa
import pyarrow.parquet as pq

from sbert.errors import ColumnError
from sbert.rows.rejects import RejectReason
from sbert.source.blocks import KEPT_PREFIX, RowBlock, convert_kept, decode_utf8, finish_block, rejected_lines
from sbert.source.lines import broken_data
from sbert.source.settings import ReadSettings, SourceSettings
from sbert.source.splits import Span
from sbert.storage.files import open_input

__all__ = ["read_parquet"]


def read_parquet(
    span: Span, source: SourceSettings, read: ReadSettings, kept_schema: dict[str, pl.DataType]
) -> Iterator[RowBlock]:
    """Give the rows of a span of Parquet.

    Raises:
        ColumnError: when a column is not there.
        BrokenObjectError: when the file is truncated or damaged.
    """
    uri = span.object.uri
    with broken_data(uri), open_input(uri, in_order=False) as file, pq.ParquetFile(file, pre_buffer=False) as parquet:
        names = parquet.schema_arrow.names
        has_id = source.id_column is not None or "id" in names
        wanted = [source.text_column, *([source.id_column or "id"] if has_id else []), *source.keep_columns]
        missing = [name for name in wanted if name not in names]
        if missing:
            raise ColumnError(f"{uri}: no column {missing[0]!r}, the columns are: {', '.join(names)}")
        stop = parquet.num_row_groups if span.stop is None else span.stop
        groups = list(range(span.start or 0, stop))
        row = span.first_row
        for batch in parquet.iter_batches(
            batch_size=read.block_rows, row_groups=groups, columns=list(dict.fromkeys(wanted))
        ):
            frame = pl.from_arrow(pa.Table.from_batches([batch]))
            assert isinstance(frame, pl.DataFrame)
            yield _block(span, source, frame, kept_schema, row, has_id=has_id)
            row += batch.num_rows


def _block(
    span: Span,
    source: SourceSettings,
    frame: pl.DataFrame,
    kept_schema: dict[str, pl.DataType],
    first_row: int,
    *,
    has_id: bool,
) -> RowBlock:
    text = frame[source.text_column]
    if text.dtype.is_nested():
        raise ColumnError(f"{span.object.uri}: column {source.text_column!r} holds {text.dtype}, expected text")
    parsed = frame.select(
        pl.Series("row", range(first_row, first_row + frame.height), dtype=pl.Int64),
        (pl.col(source.id_column or "id") if has_id else pl.lit(None)).cast(pl.String, strict=False).alias("id"),
        (decode_utf8(text) if text.dtype == pl.Binary else text.cast(pl.String)).alias("text"),
        *(pl.col(name).alias(KEPT_PREFIX + name) for name in kept_schema),
    )
    bad = parsed["text"].is_null() & text.is_not_null()
    invalid = (RejectReason.INVALID_UTF8, "the text is not UTF-8")
    found = [
        (row, *invalid, raw if isinstance(raw, bytes) else b"")
        for row, raw in zip(parsed.filter(bad)["row"], text.filter(bad), strict=True)
    ]
    parsed, misfits = convert_kept(parsed.filter(~bad), kept_schema)
    return finish_block(span, source, parsed, kept_schema, rejected_lines(span, found + misfits))

"""Stream the rows of a span, whatever its format."""

from collections.abc import Iterator

import polars as pl

from sbert.source.blocks import RowBlock
from sbert.source.csv_reader import read_csv
from sbert.source.jsonl import read_jsonl
from sbert.source.objects import ObjectFormat
from sbert.source.parquet_reader import read_parquet
from sbert.source.settings import ReadSettings, SourceSettings
from sbert.source.splits import Span
from sbert.source.text_reader import read_text

__all__ = ["read_span"]

READERS = {
    ObjectFormat.JSONL: read_jsonl,
    ObjectFormat.CSV: read_csv,
    ObjectFormat.PARQUET: read_parquet,
    ObjectFormat.TEXT: read_text,
}


def read_span(
    span: Span, source: SourceSettings, read: ReadSettings, kept_schema: dict[str, pl.DataType]
) -> Iterator[RowBlock]:
    """Give the rows of a whole object or of a slice, block by block; memory depends on the block, not on the object.

    Raises:
        BrokenObjectError: when the object cannot be read to its end.
        ColumnError: when a column is not there.
        StorageError: when storage refuses.
    """
    if span.object.num_bytes == 0:
        return iter(())
    blocks = READERS[span.object.format](span, source, read, kept_schema)
    return blocks if span.max_rows is None else _first_rows(blocks, span.max_rows)


def _first_rows(blocks: Iterator[RowBlock], max_rows: int) -> Iterator[RowBlock]:
    """Give the first rows of a span, rejected ones included, and read no further."""
    left = max_rows
    for block in blocks:
        if block.num_rows_read >= left:
            numbers = pl.concat([block.rows["row"].cast(pl.Int64), block.rejects["row"]]).sort()
            is_first = pl.col("row") <= numbers[left - 1]
            yield RowBlock(block.rows.filter(is_first), block.rejects.filter(is_first))
            return
        left -= block.num_rows_read
        yield block

"""Read a source whole, as a run would read it split by split."""

import bz2
import gzip
import lzma
from pathlib import Path

import polars as pl
import pyarrow as pa

from sbert.source.blocks import RowBlock
from sbert.source.listing import list_objects
from sbert.source.reading import read_span
from sbert.source.schema import infer_kept_schema
from sbert.source.settings import ReadSettings, SourceSettings, SplitSettings
from sbert.source.splits import make_splits, with_first_rows

__all__ = ["TEXT_AND_ID", "compress", "read_all"]

TEXT_AND_ID = SourceSettings()


def read_all(
    raw: Path | str,
    source: SourceSettings = TEXT_AND_ID,
    read: ReadSettings = ReadSettings(),  # noqa: B008
    split: SplitSettings = SplitSettings(),  # noqa: B008
    *,
    kept_schema: dict[str, pl.DataType] | None = None,
) -> RowBlock:
    """Return all rows, rejected rows and misfits of a source."""
    objects = list_objects(str(raw))
    kept = infer_kept_schema(objects, source) if kept_schema is None else kept_schema
    blocks = [
        block
        for item in with_first_rows(make_splits(objects, split))
        for span in item.spans
        for block in read_span(span, source, read, kept)
    ]
    return RowBlock(
        rows=pl.concat([block.rows for block in blocks]),
        rejects=pl.concat([block.rejects for block in blocks]),
        misfits=pl.concat([block.misfits for block in blocks]),
    )


def compress(data: bytes, ending: str) -> bytes:
    """Return data compressed as the ending of a name says."""
    if ending == ".gz":
        return gzip.compress(data)
    if ending in {".bz2", ".xz"}:
        return (bz2 if ending == ".bz2" else lzma).compress(data)
    return pa.compress(data, codec="zstd", asbytes=True) if ending == ".zst" else data

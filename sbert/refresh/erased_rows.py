"""Rows that a person erased and that the raw text still has: they are rejected, and nothing of them is kept.

A split that was finished before an erasure and not published is resumed only when none of its rows was erased since.
"""

from collections.abc import Mapping
from dataclasses import replace

import polars as pl

from sbert.errors import MissingError
from sbert.rows.rejects import REJECT_SCHEMA, RejectReason, empty_rejects
from sbert.source.blocks import RowBlock
from sbert.storage.files import join
from sbert.table.shard_file import open_shard
from sbert.table.split_records import SplitRecord
from sbert.table.tombstones import Tombstones

__all__ = ["without_erased_keys", "without_erased_records", "without_erased_texts"]

ROWS_PER_READ = 65_536


def without_erased_keys(block: RowBlock, tombstones: Tombstones) -> RowBlock:
    """Return a block whose erased rows are rejected, without id and values, also rows that were rejected before."""
    if not tombstones:
        return block
    of_rows = tombstones.of_keys(block.rows)
    of_rejects = tombstones.of_keys(block.rejects)
    is_erased, was_rejected = of_rows.is_not_null(), of_rejects.is_not_null()
    if not (is_erased.any() or was_rejected.any()):
        return block
    rejects = [
        block.rejects.filter(~was_rejected),
        _erased(block.rows.filter(is_erased), of_rows.filter(is_erased)),
        _erased(block.rejects.filter(was_rejected), of_rejects.filter(was_rejected)),
    ]
    return replace(block, rows=block.rows.filter(~is_erased), rejects=pl.concat(rejects))


def without_erased_texts(rows: pl.DataFrame, tombstones: Tombstones) -> tuple[pl.DataFrame, pl.DataFrame]:
    """Take out clean rows whose text was erased in their source; return the others, and the erased rows as rejected."""
    if not tombstones:
        return rows, empty_rejects()
    tombstone_of_row = tombstones.of_texts(rows)
    is_erased = tombstone_of_row.is_not_null()
    return rows.filter(~is_erased), _erased(rows.filter(is_erased), tombstone_of_row.filter(is_erased))


def _erased(rows: pl.DataFrame, tombstones: pl.Series) -> pl.DataFrame:
    """Describe erased rows: where they are in the raw text, and their tombstone."""
    return rows.select(
        "source",
        "row",
        pl.lit(None, pl.String).alias("id"),
        pl.lit(RejectReason.ERASED.value).alias("reason"),
        pl.Series("detail", tombstones, dtype=pl.String),
        pl.lit(b"", pl.Binary).alias("original"),
    ).cast(REJECT_SCHEMA)


def without_erased_records(
    table_uri: str, records: Mapping[str, SplitRecord], tombstones: Tombstones
) -> dict[str, SplitRecord]:
    """Return the finished splits that may be resumed: none of their rows was erased since they were built."""
    return {
        fingerprint: record
        for fingerprint, record in records.items()
        if record.tombstones == tombstones.digest or not _holds_erased(table_uri, record, tombstones)
    }


def _holds_erased(table_uri: str, record: SplitRecord, tombstones: Tombstones) -> bool:
    """Return whether a finished split has a row with a tombstone, or cannot be read."""
    if not tombstones:
        return False
    for shard in record.shards:
        uri = join(table_uri, shard.name)
        try:
            with open_shard(uri) as parquet:
                for batch in parquet.iter_batches(ROWS_PER_READ, columns=["source", "id", "text_hash"]):
                    rows = pl.from_arrow(batch)
                    assert isinstance(rows, pl.DataFrame)
                    if tombstones.of_rows(rows).is_not_null().any():
                        return True
        except MissingError:
            return True
    return False

"""Find erased rows in shards, and write a shard again without them.

A row is also found where another row names it: in a list of records with ``source`` and ``id``, such as the neighbours of
a row, or in a single record, such as the representative of a group. The element goes from the list; the single record
becomes null.
"""

import posixpath
from collections.abc import Iterator
from dataclasses import dataclass, field

import numpy as np
import polars as pl
import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as pq

from sbert.storage.files import base_name, join
from sbert.table.erased_keys import DOCUMENT_ID, ErasedKeys, key_columns
from sbert.table.shard_file import open_shard
from sbert.table.shard_layout import compacted_name, is_compacted, splits_in_footer
from sbert.table.shards import ShardRecord, ShardSettings, ShardWriter, fingerprint_of_shard

__all__ = ["ShardFinding", "find_rows", "rewrite_shard"]

ROWS_PER_READ = 65_536
ROWS_PER_WRITE = 16_384
CHECKSUM_KEY = b"sbert_checksum"
OWN_KEYS = (CHECKSUM_KEY, b"sbert_splits", b"ARROW:schema")
"""Entries of a footer that are written anew."""


@dataclass
class ShardFinding:
    """Erased rows that were found in one shard."""

    name: str
    num_rows_read: int = 0
    num_rows: int = 0
    """Rows to be erased."""
    num_mentions: int = 0
    """Number of references to erased rows in other rows: list elements, and single records."""
    text_hashes: set[bytes] = field(default_factory=set)
    """Text hashes of the rows to be erased."""
    keys: set[tuple[str, str]] = field(default_factory=set)
    """Source and id of the rows to be erased."""
    documents: set[tuple[str, str]] = field(default_factory=set)
    """Source and document of the passages to be erased."""
    derived_ids: set[tuple[str, str, bytes]] = field(default_factory=set)
    """Source, id and text hash of rows whose id is made of object and row number."""
    rows_of_splits: dict[str, int] = field(default_factory=dict)
    """Number of rows to be erased in each split."""

    def __bool__(self) -> bool:
        return bool(self.num_rows or self.num_mentions)


def find_rows(folder_uri: str, name: str, keys: ErasedKeys) -> ShardFinding:
    """Look for erased rows in a shard; only keys are read, and text hashes where a row is found.

    Raises:
        MissingError, StorageError: storage refuses.
        TableError: the shard is damaged.
    """
    finding = ShardFinding(name)
    with open_shard(join(folder_uri, name)) as parquet:
        if not {"source", "id"} <= set(parquet.schema_arrow.names):
            return finding
        mentions, names = _mention_columns(parquet.schema_arrow), _name_columns(parquet.schema_arrow)
        positions: list[int] = []
        columns = key_columns(parquet.schema_arrow)
        for batch in parquet.iter_batches(ROWS_PER_READ, columns=[*columns, *mentions, *names]):
            meant = keys.arrow_mask(batch, columns)
            positions += [finding.num_rows_read + place for place in meant.arg_true().to_list()]
            finding.num_rows_read += batch.num_rows
            finding.num_mentions += sum(int(_mentions(batch.column(column), keys).sum()) for column in mentions)
            finding.num_mentions += sum(int((_named(batch.column(name), keys) & ~meant).sum()) for name in names)
        finding.num_rows = len(positions)
        if positions:
            _note_rows(parquet, positions, finding)
    return finding


def _note_rows(parquet: pq.ParquetFile, positions: list[int], finding: ShardFinding) -> None:
    names = [*key_columns(parquet.schema_arrow), "text_hash"]
    columns = [name for name in names if name in parquet.schema_arrow.names]
    first = 0
    wanted = np.asarray(positions)
    for batch in parquet.iter_batches(ROWS_PER_READ, columns=columns):
        here = wanted[(wanted >= first) & (wanted < first + batch.num_rows)] - first
        for row in batch.take(pa.array(here)).to_pylist() if len(here) else ():
            text_hash = row.get("text_hash") or b""
            finding.text_hashes.add(text_hash)
            finding.keys.add((row["source"], row["id"]))
            if row.get(DOCUMENT_ID):
                finding.documents.add((row["source"], row[DOCUMENT_ID]))
            object_name, _, number = row["id"].rpartition(":")
            if number.isdigit() and object_name == base_name(row["source"]):
                finding.derived_ids.add((row["source"], row["id"], text_hash))
        first += batch.num_rows
    for fingerprint, begin, end in _split_ranges(parquet, finding.name):
        num_rows = int(((wanted >= begin) & (wanted < end)).sum())
        if num_rows:
            finding.rows_of_splits[fingerprint] = num_rows


def _split_ranges(parquet: pq.ParquetFile, name: str) -> Iterator[tuple[str, int, int]]:
    """Yield the splits of a shard: fingerprint, first row, end."""
    fingerprint = fingerprint_of_shard(name) if posixpath.basename(name).count("-") >= 2 else ""
    if not is_compacted(fingerprint):
        yield fingerprint, 0, parquet.metadata.num_rows
        return
    first = 0
    for split, num_rows in splits_in_footer(parquet):
        yield split, first, first + num_rows
        first += num_rows


def rewrite_shard(folder_uri: str, name: str, keys: ErasedKeys) -> ShardRecord:
    """Write a shard again under a new name, without erased rows, with the same columns, footer and splits.

    Raises:
        MissingError, StorageError: storage refuses.
        TableError: the shard is damaged.
    """
    with open_shard(join(folder_uri, name)) as parquet:
        schema = parquet.schema_arrow
        metadata = {
            key.decode(): value.decode() for key, value in (schema.metadata or {}).items() if key not in OWN_KEYS
        }
        fingerprint = fingerprint_of_shard(name)
        if is_compacted(fingerprint):
            fingerprint, named = compacted_name(_rows_left(parquet, name, keys))
            metadata |= named
        groups = [parquet.metadata.row_group(number).num_rows for number in range(parquet.num_row_groups)]
        settings = ShardSettings(
            shard_rows=max(1, parquet.metadata.num_rows), row_group_rows=max(1, *groups, 0) if groups else 8_192
        )
        mentions, names = _mention_columns(schema), _name_columns(schema)
        with ShardWriter(folder_uri, fingerprint, schema.remove_metadata(), settings, metadata) as writer:
            for batch in parquet.iter_batches(ROWS_PER_WRITE):
                rows = pa.Table.from_batches([batch])
                meant = keys.arrow_mask(rows)
                rows = rows.filter((~meant).to_arrow()) if meant.any() else rows
                for column in mentions:
                    place = rows.schema.get_field_index(column)
                    rows = rows.set_column(place, rows.schema.field(place), _without_mentions(rows[column], keys))
                for column in names:
                    place = rows.schema.get_field_index(column)
                    rows = rows.set_column(place, rows.schema.field(place), _without_names(rows[column], keys))
                writer.write(rows)
            (record,) = writer.close()
    return record


def _rows_left(parquet: pq.ParquetFile, name: str, keys: ErasedKeys) -> list[tuple[str, int]]:
    """Return the splits of a compacted shard with the rows that are left of each; a split without rows stays named."""
    columns = key_columns(parquet.schema_arrow)
    meant = [keys.arrow_mask(batch, columns) for batch in parquet.iter_batches(ROWS_PER_READ, columns=columns)]
    all_rows = pl.concat(meant).to_numpy() if meant else np.zeros(0, np.bool_)
    return [(split, end - begin - int(all_rows[begin:end].sum())) for split, begin, end in _split_ranges(parquet, name)]


def _mention_columns(schema: pa.Schema) -> list[str]:
    """Return the columns that hold lists of records with ``source`` and ``id``."""
    return [item.name for item in schema if pa.types.is_list(item.type) and _is_key(item.type.value_type)]


def _name_columns(schema: pa.Schema) -> list[str]:
    """Return the columns that hold one record with ``source`` and ``id``."""
    return [item.name for item in schema if _is_key(item.type)]


def _is_key(kind: pa.DataType) -> bool:
    if not pa.types.is_struct(kind):
        return False
    return {"source", "id"} <= {kind.field(number).name for number in range(kind.num_fields)}


def _mentions(column: pa.Array, keys: ErasedKeys) -> pl.Series:
    """Return, for each element of the lists of a column, whether it names a row to be erased."""
    elements = column.flatten()
    named = pa.table({part: elements.field(part) for part in ("source", "id")})
    return keys.arrow_mask(named)


def _named(column: pa.Array | pa.ChunkedArray, keys: ErasedKeys) -> pl.Series:
    """Return, for each record of a column, whether it names a row to be erased; null names none."""
    return keys.arrow_mask(pa.table({part: pc.struct_field(column, part) for part in ("source", "id")}))


def _without_names(column: pa.ChunkedArray, keys: ErasedKeys) -> pa.ChunkedArray:
    """Return a column with null in place of each record that names a row to be erased."""
    meant = _named(column, keys)
    return pc.if_else(meant.to_arrow(), pa.scalar(None, column.type), column) if meant.any() else column


def _without_mentions(column: pa.ChunkedArray, keys: ErasedKeys) -> pa.ChunkedArray:
    chunks = []
    for chunk in column.chunks:
        meant = _mentions(chunk, keys).to_numpy()
        if not meant.any():
            chunks.append(chunk)
            continue
        lengths = chunk.value_lengths().fill_null(0).to_numpy()
        num_removed = np.bincount(np.repeat(np.arange(len(chunk)), lengths)[meant], minlength=len(chunk))
        offsets = np.concatenate([[0], np.cumsum(lengths - num_removed)]).astype(np.int32)
        values = chunk.flatten().filter(pa.array(~meant))
        chunks.append(pa.ListArray.from_arrays(pa.array(offsets), values, type=chunk.type, mask=chunk.is_null()))
    return pa.chunked_array(chunks, column.type)

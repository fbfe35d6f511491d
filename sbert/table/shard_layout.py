"""Shards that hold the rows of several splits, and where in a shard a split's rows are.

A compacted shard names its splits itself, in its Parquet footer, in the order of their rows. So planning stays a set
difference of fingerprints. It reads one footer for each compacted shard, and there is no other record that could
disagree with the shard.
"""

import hashlib
import json
import logging
from collections.abc import Iterable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor

import pyarrow as pa
import pyarrow.parquet as pq

from sbert.errors import TableError
from sbert.storage.files import join, list_names
from sbert.table.shard_file import open_shard
from sbert.table.shards import ShardRecord, ShardSettings, ShardWriter
from sbert.table.table_shard import SplitRows, TableShard

__all__ = [
    "compacted_name",
    "filled_splits",
    "is_compacted",
    "locate_splits",
    "mark_lost_shards",
    "read_split",
    "split_rows",
    "splits_in_footer",
    "write_compacted",
]

log = logging.getLogger(__name__)

PREFIX = "compacted"
"""Begins the name of a compacted shard's fingerprint; those of splits are hexadecimal."""
SPLITS_KEY = b"sbert_splits"
MAX_THREADS = 16
ROWS_PER_READ = 16_384


def is_compacted(fingerprint: str) -> bool:
    """Return whether a shard's fingerprint stands for several splits."""
    return fingerprint.startswith(PREFIX)


def locate_splits(table_uri: str, shards: Sequence[TableShard]) -> list[TableShard]:
    """Return the shards with their splits filled in, from the footers of compacted shards.

    Lost shards (see `mark_lost_shards`) hold no splits.

    Raises:
        MissingError, TableError: a compacted shard is gone, or does not name its splits.
    """

    def located(shard: TableShard) -> TableShard:
        return shard.model_copy(update={"splits": _splits_of(join(table_uri, shard.name))})

    compacted = [shard for shard in shards if is_compacted(shard.fingerprint) and not shard.is_lost]
    if not compacted:  # the usual case: 100,000 shards took a second to pass through the threads
        return list(shards)
    with ThreadPoolExecutor(MAX_THREADS) as pool:
        by_name = {shard.name: shard for shard in pool.map(located, compacted)}
    return [by_name.get(shard.name, shard) for shard in shards]


def mark_lost_shards(table_uri: str, shards: Sequence[TableShard]) -> list[TableShard]:
    """Return the shards; a shard whose file is gone, or has another size than the log says, is marked as lost.

    A lost shard holds no splits, so that a plan builds the splits again and drops the shard. One listing is made.
    """
    files = list_names(table_uri) if shards else {}
    lost = [shard.name for shard in shards if files.get(shard.name) != shard.num_bytes]
    if lost:
        log.warning(
            "%s: %d of the table's %d shards are gone or torn (first: %s); `sbert refresh` builds their rows again",
            table_uri,
            len(lost),
            len(shards),
            lost[0],
        )
    missing = set(lost)
    return [
        shard.model_copy(update={"is_lost": True, "splits": ()}) if shard.name in missing else shard for shard in shards
    ]


def splits_in_footer(parquet: pq.ParquetFile) -> list[tuple[str, int]]:
    """Return fingerprint and number of rows of each split that a compacted shard names; empty when it names none."""
    named = (parquet.schema_arrow.metadata or {}).get(SPLITS_KEY, b"[]")
    return [(str(fingerprint), int(num_rows)) for fingerprint, num_rows in json.loads(named)]


def _splits_of(uri: str) -> tuple[SplitRows, ...]:
    with open_shard(uri) as parquet:
        named = splits_in_footer(parquet)
    if not named:
        raise TableError(f"{uri}: this shard was made by compaction but does not name its splits: run `sbert verify`")
    splits, first = [], 0
    for fingerprint, num_rows in named:
        splits.append(SplitRows(fingerprint=fingerprint, first_row=first, num_rows=num_rows))
        first += num_rows
    return tuple(splits)


def split_rows(shards: Iterable[TableShard]) -> dict[str, int]:
    """Return the number of rows of each split, 0 for a split without rows."""
    rows: dict[str, int] = {}
    for shard in shards:
        for split in shard.splits:
            rows[split.fingerprint] = rows.get(split.fingerprint, 0) + split.num_rows
    return rows


def filled_splits(shards: Iterable[TableShard]) -> dict[str, int]:
    """Return the number of rows of each split that has some."""
    return {name: count for name, count in split_rows(shards).items() if count}


def read_split(
    table_uri: str,
    shards: Iterable[TableShard],
    fingerprint: str,
    columns: list[str] | None = None,
    *,
    block_rows: int = ROWS_PER_READ,
) -> Iterator[pa.Table]:
    """Yield the rows of a split from the `shards` that hold some, in blocks of up to `block_rows`, in their order."""
    for shard in shards:
        for rows in shard.splits:
            if rows.fingerprint == fingerprint:
                yield from _read_rows(join(table_uri, shard.name), rows, columns, block_rows)


def _read_rows(uri: str, rows: SplitRows, columns: list[str] | None, block_rows: int) -> Iterator[pa.Table]:
    stop = rows.first_row + rows.num_rows
    with open_shard(uri) as parquet:
        begin = 0
        for group in range(parquet.num_row_groups):
            end = begin + parquet.metadata.row_group(group).num_rows
            if begin < stop and end > rows.first_row:
                at = begin
                for batch in parquet.iter_batches(batch_size=block_rows, row_groups=[group], columns=columns):
                    low, high = max(rows.first_row - at, 0), min(stop - at, batch.num_rows)
                    if low < high:
                        yield pa.Table.from_batches([batch.slice(low, high - low)])
                    at += batch.num_rows
            begin = end


def compacted_name(sources: Sequence[tuple[str, int]]) -> tuple[str, dict[str, str]]:
    """Return the fingerprint of a shard of several splits, and the entry of its footer that names them.

    Args:
        sources: fingerprint and number of rows of each split, in the order of their rows.
    """
    named = json.dumps([[fingerprint, num_rows] for fingerprint, num_rows in sources])
    return PREFIX + hashlib.sha256(named.encode()).hexdigest()[: 32 - len(PREFIX)], {SPLITS_KEY.decode(): named}


def write_compacted(
    table_uri: str,
    sources: Sequence[tuple[str, int]],
    shards: Sequence[TableShard],
    schema: pa.Schema,
    metadata: dict[str, str],
    settings: ShardSettings,
) -> ShardRecord:
    """Copy the rows of splits into one shard that stands for all of them.

    Args:
        table_uri: the table.
        sources: fingerprint and number of rows of each split, in the order in which they are written.
        shards: the shards that hold the rows now, with their splits filled in.
        schema: columns of the table.
        metadata: entries of the footer that every shard has.
        settings: row group size and compression; the shard is not cut, however many rows it gets.
    """
    name, named = compacted_name(sources)
    whole = settings.model_copy(update={"shard_rows": max(1, sum(num_rows for _, num_rows in sources)) + 1})
    footer = {**metadata, **named}
    with ShardWriter(table_uri, name, schema, whole, footer) as writer:
        for fingerprint, num_rows in sources:
            written = 0
            for rows in read_split(table_uri, shards, fingerprint):
                writer.write(rows)
                written += rows.num_rows
            if written != num_rows:
                raise TableError(f"{table_uri}: split {fingerprint} has {written} rows, but the log says {num_rows}")
        (record,) = writer.close()
    return record

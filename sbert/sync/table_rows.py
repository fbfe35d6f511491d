"""Read the rows of a table in blocks, in the form that destinations take."""

from collections.abc import Iterator, Sequence

import numpy as np
import numpy.typing as npt
import polars as pl
import pyarrow as pa

from sbert.sync.destinations.base import KEY_COLUMNS, Destination, restored_rows
from sbert.table.delta import Table
from sbert.table.duplicate_keys import row_keys
from sbert.table.record_file import Keys
from sbert.table.shard_file import open_shard
from sbert.table.table_shard import TableShard

__all__ = ["keys_of", "num_rows_of", "read_rows", "rows_at", "table_rows_at"]

ROWS_PER_READ = 8_192


def read_rows(table: Table, destination: Destination, shards: Sequence[TableShard] | None = None) -> Iterator[pa.Table]:
    """Read the rows of `shards`, by default of the whole version, with float32 vectors, as `destination` can hold them."""
    for shard in table.shards() if shards is None else shards:
        uri = table.shard_uri(shard.name)
        with open_shard(uri) as parquet:
            for batch in parquet.iter_batches(batch_size=ROWS_PER_READ, columns=table.arrow_schema.names):
                rows = pa.Table.from_batches([batch]).cast(table.arrow_schema)
                yield destination.portable(restored_rows(rows, table))


def table_rows_at(table: Table, destination: Destination, places: npt.NDArray[np.int64]) -> Iterator[pa.Table]:
    """Return the rows of a version at `places`, which ascend; only shards that hold some are read."""
    first = 0
    for shard in table.shards():
        num_rows = num_rows_of(table, shard)
        low, high = np.searchsorted(places, [first, first + num_rows])
        if low < high:
            yield from rows_at(read_rows(table, destination, [shard]), places[low:high] - first)
        first += num_rows


def num_rows_of(table: Table, shard: TableShard) -> int:
    """Return the number of a shard's rows; of a shard whose writer left it out of the log, its footer tells it."""
    if shard.num_rows:
        return shard.num_rows
    with open_shard(table.shard_uri(shard.name)) as parquet:
        return int(parquet.metadata.num_rows)


def rows_at(blocks: Iterator[pa.Table], places: npt.NDArray[np.int64]) -> Iterator[pa.Table]:
    """Return the rows of a stream at `places`, which ascend."""
    first = 0
    for rows in blocks:
        low, high = np.searchsorted(places, [first, first + len(rows)])
        if low < high:
            yield rows.take(pa.array(places[low:high] - first))
        first += len(rows)
        if high == len(places):
            return


def keys_of(rows: pa.Table) -> Keys:
    """Return a 128-bit hash of each row's key, shape (rows, 2); comparable within this process only."""
    frame = pl.from_arrow(rows.select(KEY_COLUMNS))
    assert isinstance(frame, pl.DataFrame)
    return row_keys(frame, *KEY_COLUMNS)

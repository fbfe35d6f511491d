"""A sample of the rows of a version that depends on the texts, not on how they lie in files."""

from dataclasses import dataclass

import numpy as np
import numpy.typing as npt
import polars as pl
import pyarrow as pa

from sbert.errors import TableError
from sbert.table.delta import Table
from sbert.table.shard_file import open_shard
from sbert.table.shards import vector_matrix, vector_names
from sbert.table.table_shard import TableShard
from sbert.table.text_index import Hashes, hash_matrix, prefixes

__all__ = ["RowSample", "read_sample"]

KEYS = ("text_hash", "source", "id")


@dataclass(frozen=True)
class RowSample:
    """N rows of a version, ordered by text hash, source and id."""

    rows: pl.DataFrame
    """Columns `text_hash`, `source`, `id` and those that were asked for."""
    vectors_ND: npt.NDArray[np.float32]
    """Shape (N, dim)."""

    def __len__(self) -> int:
        return len(self.rows)


def read_sample(table: Table, max_rows: int, columns: tuple[str, ...] = (), *, with_vectors: bool = True) -> RowSample:
    """Read up to `max_rows` rows: the rows with the smallest text hashes.

    Args:
        table: the version.
        max_rows: rows, at most.
        columns: columns that are read beside the keys.
        with_vectors: whether vectors are read; without them there are 0 values in each.

    The hashes are read first (16 bytes a row), then the chosen rows, a row group at a time.

    Raises:
        TableError: the table has no rows.
        StorageError: a shard cannot be read.
    """
    shards = [shard for shard in table.shards() if shard.num_rows]
    if not shards:
        raise TableError(f"{table.uri}: version {table.version} has no rows: run `sbert refresh` first")
    limit = None if table.num_rows <= max_rows else _largest_prefix(table, shards, max_rows)
    info = table.encoder
    wanted = list(dict.fromkeys([*KEYS, *columns]))
    vector_columns = vector_names(info.precision) if with_vectors else []
    frames: list[pl.DataFrame] = []
    dim = info.dim if with_vectors else 0
    vectors = [np.zeros((0, dim), np.float32)]
    for shard in shards:
        with open_shard(table.shard_uri(shard.name)) as parquet:
            for batch in parquet.iter_batches(columns=[*wanted, *vector_columns]):
                sampled = batch
                if limit is not None:
                    sampled = batch.filter(pa.array(prefixes(hash_matrix(batch.column("text_hash"))) <= limit))
                frame = pl.from_arrow(pa.Table.from_batches([sampled.select(wanted)]))
                assert isinstance(frame, pl.DataFrame)
                frames.append(frame)
                if with_vectors:
                    vectors.append(vector_matrix(sampled, info.dim, info.precision))
    rows = pl.concat(frames).with_row_index("_at").sort(KEYS).head(max_rows)
    every = np.concatenate(vectors) if with_vectors else np.zeros((len(rows), 0), np.float32)
    return RowSample(rows.drop("_at"), every[rows["_at"].to_numpy()] if with_vectors else every)


def _largest_prefix(table: Table, shards: list[TableShard], max_rows: int) -> np.uint64:
    """Return the largest of the smallest `max_rows` hash prefixes."""
    least: npt.NDArray[np.uint64] = np.zeros(0, np.uint64)
    for shard in shards:
        with open_shard(table.shard_uri(shard.name)) as parquet:
            hashes: Hashes = hash_matrix(parquet.read(columns=["text_hash"])["text_hash"])
        least = np.concatenate([least, prefixes(hashes)])
        if len(least) > max_rows:
            least = np.partition(least, max_rows - 1)[:max_rows]
    return np.uint64(least.max())

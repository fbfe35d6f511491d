"""The items of a version of an embeddings table, by number: keys, a hash of all of them, vectors when they are needed."""

import hashlib
import threading
from functools import cached_property

import numpy as np
import numpy.typing as npt
import polars as pl
import pyarrow as pa

from sbert.errors import TableError
from sbert.table.delta import Table
from sbert.table.shard_file import open_shard
from sbert.table.shards import vector_matrix, vector_names
from sbert.vectors.precision import Float32

__all__ = ["ITEM_KEYS", "Items", "key_hashes"]

ITEM_KEYS = ("source", "id", "text_hash")
"""Columns that tell an item with its vector from others: another text has another vector."""


class Items:
    """N items, ordered by source and id; the number of an item is its place in this order."""

    def __init__(self, keys: pl.DataFrame, vectors_ND: Float32 | None = None, table: Table | None = None) -> None:
        """Use `Items.read`, or give `ITEM_KEYS` in the order of source and id with their vectors."""
        self.keys = keys
        self._table = table
        self._vectors_ND = vectors_ND
        self._lock = threading.Lock()

    @classmethod
    def read(cls, table: Table) -> "Items":
        """Read the keys of a version.

        Raises:
            StorageError, TableError: a shard cannot be read.
        """
        frames = [pl.DataFrame(schema={"source": pl.String(), "id": pl.String(), "text_hash": pl.Binary()})]
        for shard in _shards(table):
            with open_shard(table.shard_uri(shard)) as parquet:
                frame = pl.from_arrow(parquet.read(columns=list(ITEM_KEYS)))
                assert isinstance(frame, pl.DataFrame)
                frames.append(frame.with_columns(pl.col("text_hash").cast(pl.Binary)))
        return cls(pl.concat(frames).sort("source", "id"), table=table)

    def __len__(self) -> int:
        return len(self.keys)

    @cached_property
    def digest(self) -> str:
        """Hash of all keys."""
        return hashlib.sha256(self.states.tobytes()).hexdigest()

    @cached_property
    def names(self) -> npt.NDArray[np.uint8]:
        """Hash of source and id of each item, shape (N, 16): an item keeps it when its text changes."""
        return key_hashes(self.keys, ("source", "id"))

    @cached_property
    def states(self) -> npt.NDArray[np.uint8]:
        """Hash of source, id and text of each item, shape (N, 16)."""
        return key_hashes(self.keys, ITEM_KEYS)

    @property
    def vectors(self) -> Float32:
        """Vectors, shape (N, dim); read at the first use."""
        with self._lock:
            if self._vectors_ND is None:
                assert self._table is not None
                self._vectors_ND = _read_vectors(self._table, self.keys)
            return self._vectors_ND

    def places(self, rows: pl.DataFrame) -> npt.NDArray[np.int64]:
        """Return the number of the item that each row names by `ITEM_KEYS`; -1 where there is none."""
        numbered = self.keys.with_row_index("item").with_columns(pl.col("item").cast(pl.Int64))
        numbered_rows = rows.select(ITEM_KEYS).join(numbered, on=list(ITEM_KEYS), how="left", maintain_order="left")
        return numbered_rows["item"].fill_null(-1).to_numpy()

    def not_in(self, other: "Items") -> npt.NDArray[np.int64]:
        """Return the numbers of items that another version lacks, or has with another text."""
        return np.flatnonzero(other.places(self.keys) < 0)


def key_hashes(rows: pl.DataFrame, columns: tuple[str, ...]) -> npt.NDArray[np.uint8]:
    """Return a hash of some columns of each row, shape (rows, 16)."""
    values = [rows[name].cast(pl.Binary).to_list() for name in columns]
    joined = map(b"\0".join, zip(*values, strict=True))
    digests = b"".join(hashlib.blake2b(value, digest_size=16).digest() for value in joined)
    return np.frombuffer(digests, np.uint8).reshape(-1, 16)


def _shards(table: Table) -> list[str]:
    return [shard.name for shard in table.shards() if shard.num_rows]


def _read_vectors(table: Table, keys: pl.DataFrame) -> Float32:
    """Read the vectors of a version, in the order of keys."""
    info = table.encoder
    frames, vectors = [], []
    for shard in _shards(table):
        with open_shard(table.shard_uri(shard)) as parquet:
            for batch in parquet.iter_batches(columns=["source", "id", *vector_names(info.precision)]):
                frame = pl.from_arrow(pa.Table.from_batches([batch.select(["source", "id"])]))
                assert isinstance(frame, pl.DataFrame)
                frames.append(frame)
                vectors.append(vector_matrix(batch, info.dim, info.precision))
    if not frames:
        raise TableError(f"{table.uri}: version {table.version} has no rows: run `sbert refresh` first")
    order = pl.concat(frames).with_row_index("at").sort("source", "id")
    assert order.select("source", "id").equals(keys.select("source", "id"))
    return np.asarray(np.concatenate(vectors)[order["at"].to_numpy()], np.float32)

"""A sample of a table's rows that depends on the texts alone, not on how they lie in files.

The one idea: the sample holds the texts with the smallest hashes. So it is random, it is the same after a compaction, a
backfill or the renaming of an object, and it changes by as much as the texts change. Finding it costs a read of the
``text_hash`` columns (16 bytes a row). With the sample of an earlier version only the shards that have joined since are
read, as long as all shards with rows of that sample are still there. Vectors are read only for rows that the earlier sample
does not have; a compaction copies them.
"""

from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from typing import Self

import numpy as np
import numpy.typing as npt
import polars as pl
import pyarrow as pa

from sbert.table.commit_record import moved_shards
from sbert.table.delta import Table
from sbert.table.shard_file import open_shard
from sbert.table.shard_layout import is_compacted
from sbert.table.shards import embedding_column, embedding_matrix, fingerprint_of_shard, vector_matrix, vector_names
from sbert.table.text_index import HASH_BYTES, Hashes, hash_matrix

__all__ = ["SAMPLE_ROWS", "DriftSample", "sample_rows"]

SAMPLE_ROWS = 512
SHARDS_AT_ONCE = 8
"""Shards whose hashes are read at the same time: on object storage nearly all of the time is waiting."""
FACTS_KEY = b"sbert_sample"
NOT_READ = -1
"""Stands in place of the row in its shard, for rows of an earlier sample."""


@dataclass(frozen=True)
class DriftSample:
    """N rows of a version of a table, ordered by text hash; one row for each text."""

    table_id: str
    """The id in the table's Delta log: another table at the same URI has another id."""
    encoder_fingerprint: str
    version: int
    hashes: Hashes
    """Shape (N, 16)."""
    shards: tuple[str, ...]
    """Name of the shard that each row was read from."""
    embeddings: npt.NDArray[np.float32]
    """Shape (N, dim)."""
    num_tokens: npt.NDArray[np.int32]
    """Shape (N,)."""
    truncated: npt.NDArray[np.bool_]
    """Shape (N,)."""

    def __len__(self) -> int:
        return len(self.hashes)

    def to_bytes(self) -> bytes:
        """Return the sample as an Arrow file."""
        origin = f"{self.version} {self.encoder_fingerprint} {self.table_id}".encode()
        rows = pa.table(
            {
                "text_hash": pa.array([row.tobytes() for row in self.hashes], pa.binary()),
                "shard": pa.array(self.shards, pa.string()),
                "embedding": embedding_column(self.embeddings),
                "num_tokens": pa.array(self.num_tokens),
                "truncated": pa.array(self.truncated),
            }
        ).replace_schema_metadata({FACTS_KEY: origin})
        sink = pa.BufferOutputStream()
        with pa.ipc.new_file(sink, rows.schema) as writer:
            writer.write_table(rows)
        return bytes(sink.getvalue())

    @classmethod
    def from_bytes(cls, content: bytes) -> Self | None:
        """Read a sample back; None when the bytes are not a sample."""
        try:
            rows = pa.ipc.open_file(content).read_all()
            version, fingerprint, table_id = rows.schema.metadata[FACTS_KEY].decode().split(" ")
            dim = len(rows["embedding"][0]) if rows.num_rows else 0
            return cls(
                table_id=table_id,
                encoder_fingerprint=fingerprint,
                version=int(version),
                hashes=hash_matrix(rows["text_hash"]),
                shards=tuple(rows["shard"].to_pylist()),
                embeddings=embedding_matrix(rows["embedding"], dim),
                num_tokens=pl.Series(rows["num_tokens"]).to_numpy(),  # pyarrow would import pandas for this
                truncated=pl.Series(rows["truncated"]).to_numpy(),
            )
        except (pa.ArrowException, KeyError, TypeError, ValueError):
            return None


def sample_rows(table: Table, earlier: DriftSample | None = None) -> DriftSample:
    """Return up to `SAMPLE_ROWS` rows of a table; `earlier` saves reading shards that it was made of."""
    origin = table.table_id, table.encoder.fingerprint
    if earlier is not None and (earlier.table_id, earlier.encoder_fingerprint) != origin:
        earlier = None
    if earlier is not None and earlier.version == table.version:
        return earlier
    joined = None if earlier is None else _joined_since(table, earlier)
    names = [shard.name for shard in table.shards() if shard.num_rows and (joined is None or shard.name in joined)]
    with ThreadPoolExecutor(SHARDS_AT_ONCE) as pool:
        parts = list(pool.map(lambda name: _least_hashes(table, name), names))
    stays = earlier if joined is not None else None
    hashes = np.concatenate([_no_hashes() if stays is None else stays.hashes, *(part[0] for part in parts)])
    shards = [] if stays is None else [*stays.shards]
    rows = np.concatenate([np.full(len(shards), NOT_READ), *(part[1] for part in parts)])
    for name, part in zip(names, parts, strict=True):
        shards += [name] * len(part[1])
    least = _least(hashes)
    return _read_rows(table, hashes[least], [shards[place] for place in least], rows[least], earlier)


def _joined_since(table: Table, earlier: DriftSample) -> frozenset[str] | None:
    """Return the shards that have joined since an earlier sample; None where all shards must be read.

    That is so where a shard with sampled rows has left, since rows that were not sampled take their places, and where the
    log no longer has the commits.
    """
    joined: set[str] = set()
    for version in range(earlier.version + 1, table.version + 1):
        moved = moved_shards(table.uri, version)
        if moved is None or not moved.left.isdisjoint(earlier.shards):
            return None
        joined = (joined - moved.left) | moved.joined
    return frozenset(joined) if earlier.version < table.version else None


def _no_hashes() -> Hashes:
    return np.zeros((0, HASH_BYTES), np.uint8)


def _least(hashes: Hashes) -> npt.NDArray[np.int64]:
    """Return the first position of each of the least `SAMPLE_ROWS` distinct hashes."""
    if not len(hashes):
        return np.zeros(0, np.int64)
    _, first = np.unique(np.ascontiguousarray(hashes).view(f"V{HASH_BYTES}")[:, 0], return_index=True)
    return first[:SAMPLE_ROWS]  # np.unique sorts


def _least_hashes(table: Table, name: str) -> tuple[Hashes, npt.NDArray[np.int64]]:
    """Return the least hashes of a shard and the rows that have them."""
    with open_shard(table.shard_uri(name)) as parquet:
        hashes = hash_matrix(parquet.read(columns=["text_hash"], use_threads=False)["text_hash"])
    if len(hashes) > 8 * SAMPLE_ROWS:  # sorting all hashes takes longer than reading them
        limit = np.partition(hashes[:, 0], 8 * SAMPLE_ROWS)[8 * SAMPLE_ROWS]
        near = np.flatnonzero(hashes[:, 0] <= limit)
        if len(_least(hashes[near])) == SAMPLE_ROWS:
            rows = near[_least(hashes[near])]
            return hashes[rows].copy(), rows
    rows = _least(hashes)
    return hashes[rows].copy(), rows


def _read_rows(
    table: Table, hashes: Hashes, shards: Sequence[str], rows: npt.NDArray[np.int64], earlier: DriftSample | None
) -> DriftSample:
    info = table.encoder
    embeddings = np.zeros((len(hashes), info.dim), np.float32)
    num_tokens, truncated = np.zeros(len(hashes), np.int32), np.zeros(len(hashes), np.bool_)
    earlier_places = {} if earlier is None else {row.tobytes(): at for at, row in enumerate(earlier.hashes)}
    to_read: dict[str, list[int]] = {}
    for place, (row, name) in enumerate(zip(hashes, shards, strict=True)):
        at = earlier_places.get(row.tobytes())
        if (
            earlier is None
            or at is None
            or not (name == earlier.shards[at] or is_compacted(fingerprint_of_shard(name)))
        ):
            to_read.setdefault(name, []).append(place)
        else:
            embeddings[place], num_tokens[place], truncated[place] = (
                earlier.embeddings[at], earlier.num_tokens[at], earlier.truncated[at]
            )  # fmt: skip
    columns = [*vector_names(info.precision), "num_tokens", "truncated"]
    for name, places in to_read.items():
        with open_shard(table.shard_uri(name)) as parquet:
            sizes = [parquet.metadata.row_group(group).num_rows for group in range(parquet.num_row_groups)]
            begins = np.concatenate([[0], np.cumsum(sizes)])
            groups = np.searchsorted(begins, rows[places], side="right") - 1
            for group in np.unique(groups).tolist():
                wanted = np.asarray(places)[groups == group]
                there = parquet.read_row_group(group, columns=columns).take(pa.array(rows[wanted] - begins[group]))
                embeddings[wanted] = vector_matrix(there, info.dim, info.precision)
                num_tokens[wanted] = there["num_tokens"].to_numpy()
                truncated[wanted] = there["truncated"].to_numpy()
    return DriftSample(
        table_id=table.table_id,
        encoder_fingerprint=info.fingerprint,
        version=table.version,
        hashes=hashes,
        shards=tuple(shards),
        embeddings=embeddings,
        num_tokens=num_tokens,
        truncated=truncated,
    )

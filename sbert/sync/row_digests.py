"""Digests of a table's rows, computed once for each shard and kept in ``TABLE/_digests/``.

A shard never changes, so its digests never change either: in every later comparison, twenty-four bytes take the place of a
row's vector and columns. A digest file belongs to one shard and one kind of digest. Vacuum removes it with the shard. A
file that is lost or damaged is computed again.
"""

import hashlib
import logging
from collections.abc import Iterator

import numpy as np

from sbert.errors import MissingError, StorageError
from sbert.storage.files import join, read_bytes, write_bytes
from sbert.sync.destinations.base import Collection, Destination, RowDigester, RowDigests
from sbert.sync.table_rows import read_rows
from sbert.table.delta import Table
from sbert.table.table_shard import TableShard
from sbert.table.vacuum import DIGESTS_FOLDER

__all__ = ["bucket_of", "shard_digests"]

log = logging.getLogger(__name__)

CHECKSUM_BYTES = 32
DIGEST_BYTES = 24


def bucket_of(digests: RowDigests, num_buckets: int) -> np.ndarray[tuple[int], np.dtype[np.int64]]:
    """Return the bucket of each row, as `RowDigester` defines it."""
    return ((digests[:, 0] ^ digests[:, 1]) & np.uint64(num_buckets - 1)).astype(np.int64)


def shard_digests(
    table: Table, destination: Destination, collection: Collection, digester: RowDigester, *, recompute: bool = False
) -> Iterator[RowDigests]:
    """Return the digests of each shard's rows in the order of the rows; compute and keep missing digests, or all anew."""
    name = hashlib.sha256(f"{digester.kind}|{collection.encoder_fingerprint}|{collection.schema}".encode()).hexdigest()[
        :12
    ]
    for shard in table.shards():
        uri = join(table.uri, DIGESTS_FOLDER, f"{shard.name.removesuffix('.parquet')}.{name}")
        digests = None if recompute else _read(uri, shard)
        if digests is None:
            digests = _computed(table, shard, destination, digester)
            content = digests.astype("<u8").tobytes()
            try:
                write_bytes(uri, content + hashlib.sha256(content).digest())
            except StorageError as error:  # a user with read access alone can still compare
                log.info("%s: digests of rows are not kept, the next comparison computes them again: %s", uri, error)
        yield digests


def _read(uri: str, shard: TableShard) -> RowDigests | None:
    try:
        content = read_bytes(uri)
    except MissingError:
        return None
    body, checksum = content[:-CHECKSUM_BYTES], content[-CHECKSUM_BYTES:]
    if len(body) != DIGEST_BYTES * shard.num_rows or hashlib.sha256(body).digest() != checksum:
        return None
    return np.frombuffer(body, "<u8").astype(np.uint64).reshape(shard.num_rows, 3)


def _computed(table: Table, shard: TableShard, destination: Destination, digester: RowDigester) -> RowDigests:
    blocks = [digester.digests(rows) for rows in read_rows(table, destination, [shard])]
    return np.concatenate(blocks) if blocks else np.empty((0, 3), np.uint64)

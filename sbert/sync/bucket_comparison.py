"""Compare a table with a store that hashes its rows itself: checksums of buckets first, then rows of buckets that differ.

Both sides count the rows of each bucket of keys, and join their hashes to a checksum. Equal numbers and checksums mean equal
rows, but for a collision of 64-bit hashes. Only rows of the other buckets are compared one by one.
"""

from collections.abc import Callable, Iterator
from concurrent.futures import Future, ThreadPoolExecutor

import numpy as np
import pyarrow as pa

from sbert.runtime.prefetch import prefetch
from sbert.sync.destinations.base import BucketChecksums, Collection, Destination, RowDigester, RowDigests
from sbert.sync.row_comparison import RowComparison
from sbert.sync.row_digests import bucket_of, shard_digests
from sbert.table.delta import Table
from sbert.table.record_file import Keys

__all__ = ["compare_buckets"]

ROWS_PER_BUCKET = 16
"""A row that changed costs the hashes of all rows of its bucket, and the server holds two numbers for each bucket."""
MIN_BUCKETS, MAX_BUCKETS = 2**8, 2**20


def compare_buckets(
    table: Table,
    destination: Destination,
    collection: Collection,
    digester: RowDigester,
    comparison: RowComparison,
    keep_keys: Callable[[pa.Table], None],
    *,
    recompute: bool = False,
) -> None:
    """Compare the buckets of both sides, and add the rows of different buckets to `comparison`.

    Args:
        table: the version.
        destination: where the collection is.
        collection: the rows to compare.
        digester: the store's digests.
        comparison: gets the rows.
        keep_keys: gets the keys of the store's rows in the order in which they were added.
        recompute: compute also the digests that earlier comparisons kept, on both sides.
    """
    num_buckets = min(MAX_BUCKETS, max(MIN_BUCKETS, 1 << (table.num_rows // ROWS_PER_BUCKET).bit_length()))

    def digests(*, recompute: bool = False) -> Iterator[RowDigests]:
        return prefetch(shard_digests(table, destination, collection, digester, recompute=recompute), 1)

    if recompute:
        destination.forget_digests(collection.name)
    with ThreadPoolExecutor(1, thread_name_prefix="checksums") as pool:
        server_side: Future[BucketChecksums] = pool.submit(digester.checksums, num_buckets)
        checksums = _checksums(digests(recompute=recompute), num_buckets)
        differing = np.flatnonzero((checksums != server_side.result()).any(axis=1))
    comparison.num_table_rows = table.num_rows
    if not len(differing):
        return
    is_differing = np.zeros(num_buckets, np.bool_)
    is_differing[differing] = True
    first = 0
    for block in digests():
        places = np.flatnonzero(is_differing[bucket_of(block, num_buckets)])
        comparison.add_table_rows_at(first + places, block[places, :2], _content(block[places]))
        first += len(block)
    wanted = None if 2 * len(differing) > num_buckets else differing.tolist()
    for stored in digester.rows(num_buckets, wanted):
        assert stored.digests is not None
        in_differing = np.flatnonzero(is_differing[bucket_of(stored.digests, num_buckets)])
        comparison.add_copy_rows(stored.digests[in_differing, :2], _content(stored.digests[in_differing]))
        keep_keys(stored.keys.take(pa.array(in_differing)))


def _checksums(blocks: Iterator[RowDigests], num_buckets: int) -> BucketChecksums:
    checksums = np.zeros((num_buckets, 2), np.uint64)
    for digests in blocks:
        buckets = bucket_of(digests, num_buckets)
        checksums[:, 0] += np.bincount(buckets, minlength=num_buckets).astype(np.uint64)
        np.bitwise_xor.at(checksums[:, 1], buckets, digests[:, 2])
    return checksums


def _content(digests: RowDigests) -> Keys:
    return np.stack([digests[:, 2], np.zeros(len(digests), np.uint64)], axis=1)

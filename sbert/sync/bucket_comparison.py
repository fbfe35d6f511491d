"""Compare a table with a store that hashes its rows itself: sums of buckets first, then the rows of buckets that differ.

Both sides count the rows of each bucket of keys and add up their hashes. Equal numbers and sums mean equal rows, but for a
collision of 64-bit hashes. Only rows of the other buckets are compared one by one.
"""

from collections.abc import Callable, Iterator
from concurrent.futures import Future, ThreadPoolExecutor

import numpy as np
import pyarrow as pa

from sbert.runtime.prefetch import prefetch
from sbert.sync.destinations.base import BucketSums, Collection, Destination, RowDigester, RowDigests
from sbert.sync.row_comparison import RowComparison
from sbert.sync.row_digests import bucket_of, shard_digests
from sbert.table.delta import Table
from sbert.table.record_file import Keys

__all__ = ["compare_buckets"]

ROWS_PER_BUCKET = 64
MIN_BUCKETS, MAX_BUCKETS = 2**8, 2**16


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
    with ThreadPoolExecutor(1, thread_name_prefix="sums") as pool:
        server_side: Future[BucketSums] = pool.submit(digester.sums, num_buckets)
        sums = _sums(digests(recompute=recompute), num_buckets)
        differing = np.flatnonzero((sums != server_side.result()).any(axis=1))
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


def _sums(blocks: Iterator[RowDigests], num_buckets: int) -> BucketSums:
    sums = np.zeros((num_buckets, 2), np.uint64)
    for digests in blocks:
        buckets = bucket_of(digests, num_buckets)
        sums[:, 0] += np.bincount(buckets, minlength=num_buckets).astype(np.uint64)
        np.add.at(sums[:, 1], buckets, digests[:, 2])
    return sums


def _content(digests: RowDigests) -> Keys:
    return np.stack([digests[:, 2], np.zeros(len(digests), np.uint64)], axis=1)

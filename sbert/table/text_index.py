"""An index from a text's hash to the places of its vector.

Sorted arrays of 16 bytes a text (8 of its hash, 8 for a place) fit into memory and are fast to search for a block of
texts at once. The index stores 8 of 16 hash bytes. Callers must compare the full hash.
"""

import threading
from collections.abc import Sequence
from itertools import pairwise

import numpy as np
import numpy.typing as npt
import pyarrow as pa

__all__ = ["HASH_BYTES", "HashIndex", "Hashes", "TextPlaces", "distinct_rows", "hash_matrix", "prefixes"]

HASH_BYTES = 16
MAX_SEGMENTS = 24
LARGE_SEGMENT = 131_072
"""Segments of this many texts, or of a sixteenth of all, are not merged again: a merge takes four times their memory."""
MAX_VOTES = 64
"""A text in more places than this says nothing about the shard that a block comes from."""
MAX_PASSES = 16
"""Searches that pass over all texts before these are sorted: half the time of sorting them."""
PASS_BITS = 20
"""A pass compares so many bits of a hash first: a table of a megabyte, which stays in the processor's cache."""
Hashes = npt.NDArray[np.uint8]
"""Text hashes as rows of bytes, shape (texts, 16)."""


def prefixes(hashes: Hashes) -> npt.NDArray[np.uint64]:
    """Return the first half of each hash as a number."""
    return np.ascontiguousarray(hashes).view(np.uint64)[:, 0]


def _first_at(
    sorted_keys: npt.NDArray[np.uint64], keys: npt.NDArray[np.uint64]
) -> tuple[npt.NDArray[np.int64], npt.NDArray[np.bool_]]:
    """Find where keys, ascending, are in `sorted_keys`: the first place of each, and whether it is there at all."""
    if not len(sorted_keys):
        return np.zeros(len(keys), dtype=np.int64), np.zeros(len(keys), dtype=np.bool_)
    at = np.minimum(np.searchsorted(sorted_keys, keys), len(sorted_keys) - 1)
    return at, sorted_keys[at] == keys


class TextPlaces:
    """Every place of every text of the table. Several threads may search at the same time.

    To sort the texts takes as long as some thirty passes over them. A run with few new texts is over before that, so the
    first searches pass over all texts, and only then they are sorted.
    """

    def __init__(self) -> None:
        """Start empty."""
        self._unsorted: list[npt.NDArray[np.uint64]] = []
        """Hash prefixes of the texts of each shard."""
        self._sorted: _SortedPlaces | None = None
        self._num_passes = 0
        self._lock = threading.Lock()

    def __len__(self) -> int:
        return sum(map(len, self._unsorted)) + (0 if self._sorted is None else len(self._sorted))

    def add(self, keys: list[npt.NDArray[np.uint64]], first_shard: int) -> None:
        """Add the texts of shards, numbered from `first_shard` on, after all earlier ones; `keys` is emptied."""
        with self._lock:
            if self._sorted is None:
                self._unsorted += keys
                keys.clear()
            else:
                self._sorted.add(keys, first_shard)

    def find(self, hashes: Hashes) -> npt.NDArray[np.int64]:
        """Return a place of each text, -1 for an unknown text; shape (texts,)."""
        wanted = prefixes(hashes)
        with self._lock:
            if self._sorted is None and self._num_passes == MAX_PASSES:
                self._sorted = _SortedPlaces()
                self._sorted.add(self._unsorted, first_shard=0)
            self._num_passes += 1
            places = self._pass_for(wanted) if self._sorted is None else self._sorted
        return places.find(wanted)

    def _pass_for(self, wanted: npt.NDArray[np.uint64]) -> "_SortedPlaces":
        """Return the places of the texts `wanted` alone, by one pass over all texts."""
        wanted = np.unique(wanted)
        may_be_wanted = np.zeros(1 << PASS_BITS, dtype=np.bool_)
        may_be_wanted[wanted >> np.uint64(64 - PASS_BITS)] = True
        keys, places = [np.zeros(0, dtype=np.uint64)], [np.zeros(0, dtype=np.int64)]
        for number, of_shard in enumerate(self._unsorted):
            rows = np.flatnonzero(may_be_wanted[of_shard >> np.uint64(64 - PASS_BITS)])
            rows = rows[_first_at(wanted, of_shard[rows])[1]]
            keys.append(of_shard[rows])
            places.append((np.int64(number) << 32) | rows)
        return _SortedPlaces(np.concatenate(keys), np.concatenate(places))


class _SortedPlaces:
    """Places of texts, sorted by hash prefix; those of one text are ascending."""

    def __init__(self, keys: npt.NDArray[np.uint64] | None = None, places: npt.NDArray[np.int64] | None = None) -> None:
        """Start empty, or with texts whose places are ascending."""
        self._keys = np.zeros(0, dtype=np.uint64)
        self._places = np.zeros(0, dtype=np.int64)
        if keys is not None and places is not None:
            order = np.argsort(keys, kind="stable")
            self._keys, self._places = keys[order], places[order]

    def __len__(self) -> int:
        return len(self._keys)

    def add(self, keys: list[npt.NDArray[np.uint64]], first_shard: int) -> None:
        """Add the texts of shards, numbered from `first_shard` on, after all earlier ones; `keys` is emptied."""
        num_old = len(self._keys)
        all_keys = np.concatenate([self._keys, *keys])
        ends = num_old + np.cumsum([len(part) for part in keys], dtype=np.int64)
        keys.clear()
        order = np.argsort(all_keys, kind="stable")  # so the places of one text stay ascending
        self._keys = all_keys[order]
        del all_keys  # one array less while the places are made
        places = np.empty(len(order), dtype=np.int64)
        places[:num_old] = self._places
        for number, (begin, end) in enumerate(pairwise([num_old, *ends.tolist()]), start=first_shard):
            places[begin:end] = (np.int64(number) << 32) | np.arange(end - begin, dtype=np.int64)
        self._places = places[order]

    def find(self, keys: npt.NDArray[np.uint64]) -> npt.NDArray[np.int64]:
        """Return a place of each text, given its hash prefix, -1 for an unknown text; shape (texts,)."""
        places = np.full(len(keys), -1, dtype=np.int64)
        order = np.argsort(keys)  # neighbours are found in neighbouring memory
        first, is_in_table = _first_at(self._keys, keys[order])
        texts, first = order[is_in_table], first[is_in_table]
        places[texts] = self._places[first]
        after = np.minimum(first + 1, len(self._keys) - 1)
        several = (after > first) & (self._keys[after] == self._keys[first])
        if several.any():
            begin = first[several]
            end = np.searchsorted(self._keys, self._keys[begin], side="right")
            middle = self._middle(first[~several], begin, end)
            places[texts[several]] = self._places[self._nearest(begin, end, middle)]
        return places

    def _middle(self, one: npt.NDArray[np.int64], begin: npt.NDArray[np.int64], end: npt.NDArray[np.int64]) -> np.int64:
        """Return the middle of the places in the shard that has the most of the texts of a block.

        Of that shard, texts that are in it once count; all of them where there is none.

        Args:
            one: positions of the texts with one place.
            begin: the first positions of the texts with several places.
            end: the positions after their last ones; texts with more than `MAX_VOTES` places have no say.
        """
        has_say = end - begin <= MAX_VOTES
        begin = np.concatenate([one, begin[has_say]])
        num_places = np.concatenate([np.ones(len(one), dtype=np.int64), (end[has_say] - begin[len(one) :])])
        if not len(begin):
            return np.int64(np.median(self._places[end - 1]))
        texts = np.repeat(np.arange(len(begin)), num_places)
        places = self._places[np.arange(len(texts)) + (begin - (np.cumsum(num_places) - num_places))[texts]]
        shards = places >> 32
        is_first = np.append(True, (np.diff(texts) != 0) | (np.diff(shards) != 0))  # of its text in its shard
        names, num_texts = np.unique(shards[is_first], return_counts=True)
        in_shard = shards == names[np.argmax(num_texts)]
        alone = in_shard & is_first & np.append(is_first[1:], True)
        return np.int64(np.median(places[alone if alone.any() else in_shard]))

    def _nearest(
        self, first: npt.NDArray[np.int64], end: npt.NDArray[np.int64], middle: np.int64
    ) -> npt.NDArray[np.int64]:
        """Return, for each range of ascending places, the position of the place nearest to `middle`.

        One bisection handles all ranges at once.
        """
        low, high = first.copy(), end.copy()
        while (low < high).any():
            half = (low + high) // 2
            is_open = low < high
            below = self._places[np.minimum(half, end - 1)] < middle
            low = np.where(is_open & below, half + 1, low)
            high = np.where(is_open & ~below, half, high)
        after, before = np.minimum(low, end - 1), np.maximum(low - 1, first)
        is_after = self._places[after] - middle < middle - self._places[before]
        return np.where((low < end) & (is_after | (low == first)), after, before)


class HashIndex:
    """Places of the texts of this run: sorted arrays of hash prefixes, merged as they grow in number."""

    def __init__(self) -> None:
        """Start empty."""
        self._segments: list[tuple[npt.NDArray[np.uint64], npt.NDArray[np.int64]]] = []

    def __len__(self) -> int:
        return sum(len(keys) for keys, _ in self._segments)

    def add(self, hashes: Hashes, places: npt.NDArray[np.int64]) -> None:
        """Add the places of texts; of two places of one text the first one added stays."""
        if not len(hashes):
            return
        keys, first = np.unique(prefixes(hashes), return_index=True)
        self._segments.append((keys, places[first]))
        if len(self._segments) > MAX_SEGMENTS:
            limit = max(LARGE_SEGMENT, len(self) // 16)
            large = [segment for segment in self._segments if len(segment[0]) >= limit]
            small = [segment for segment in self._segments if len(segment[0]) < limit]
            merged, first = np.unique(np.concatenate([segment[0] for segment in small]), return_index=True)
            self._segments = [*large, (merged, np.concatenate([segment[1] for segment in small])[first])]

    def find(self, hashes: Hashes) -> npt.NDArray[np.int64]:
        """Return the place of each text, -1 for an unknown text; shape (texts,)."""
        order = np.argsort(prefixes(hashes))
        keys = prefixes(hashes)[order]
        places = np.full(len(keys), -1, dtype=np.int64)
        for segment_keys, segment_places in self._segments:
            at, hit = _first_at(segment_keys, keys)
            hit &= places[order] < 0
            places[order[hit]] = segment_places[at[hit]]
        return places


def distinct_rows(hashes: Hashes) -> tuple[npt.NDArray[np.int64], npt.NDArray[np.int64]]:
    """Return the first row of each distinct hash, ascending, and for each row the number of its hash among them."""
    num_rows = len(hashes)
    if len(np.unique(prefixes(hashes))) == num_rows:
        return np.arange(num_rows), np.arange(num_rows)
    _, first, number = np.unique(
        np.ascontiguousarray(hashes).view(f"V{HASH_BYTES}")[:, 0], return_index=True, return_inverse=True
    )
    order = np.argsort(first)
    rank = np.empty(len(order), dtype=np.int64)
    rank[order] = np.arange(len(order))
    return first[order], rank[number]


def hash_matrix(column: pa.Array | pa.ChunkedArray | Sequence[bytes]) -> Hashes:
    """Return a column of 16-byte hashes as a matrix of bytes, shape (rows, 16).

    Raises:
        ValueError: when a hash has another length.
    """
    array = column if isinstance(column, pa.Array | pa.ChunkedArray) else pa.array(column, pa.binary())
    fixed = array.cast(pa.binary(HASH_BYTES))
    if isinstance(fixed, pa.ChunkedArray):
        fixed = fixed.combine_chunks()
        if isinstance(fixed, pa.ChunkedArray):  # no chunks at all
            return np.zeros((0, HASH_BYTES), dtype=np.uint8)
    raw = np.frombuffer(fixed.buffers()[1] or b"", dtype=np.uint8)
    begin = fixed.offset * HASH_BYTES
    return raw[begin : begin + len(fixed) * HASH_BYTES].reshape(len(fixed), HASH_BYTES)

"""Find vectors that need not be computed again, in the table and among the vectors of this run.

Only an index (`sbert.table.text_index`) is in memory. The vectors stay in the table's shards or in a temporary file of
this run. The cache compares all 16 bytes of the hash before it uses a vector. When a text is in several places, it
reads the place nearest to the rest of the block, so that an object with few changes reads its own old row groups only.
"""

import logging
import tempfile
from collections import OrderedDict
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from itertools import pairwise
from typing import IO

import numpy as np
import numpy.typing as npt
import pyarrow.parquet as pq

from sbert.runtime.cpus import available_cpus
from sbert.table.shard_file import damage_as_table_error, open_shard, open_shard_file
from sbert.table.shards import stored_vectors, vector_names
from sbert.table.text_index import HASH_BYTES, Hashes, HashIndex, TextPlaces, hash_matrix, prefixes
from sbert.vectors.precision import Precision, StoredVectors, stored_dtype

__all__ = ["CachedVectors", "VectorCache"]

log = logging.getLogger(__name__)

MAX_OPEN_SHARDS = 16
INDEX_THREADS = 8
"""Shards of object storage whose hashes are read at once: nearly all of the time is waiting. On a disk each takes a core."""
CACHED_GROUP_BYTES = 64 * 2**20
"""Neighbouring blocks share a row group: the last few that were read are kept."""
READ_GAP_ROWS = 32
"""Places of the temporary file that are nearer than this are read in one go."""
READ_ROWS = 1_024
"""Most rows of the temporary file that are read or written in one go."""


@dataclass(frozen=True)
class CachedVectors:
    """The cached vectors of N texts."""

    hits: npt.NDArray[np.bool_]
    """Shape (N,): True where the text's vector is cached."""
    in_table: npt.NDArray[np.bool_]
    """Shape (N,): True where that vector is from the table, False where it is from this run or is not cached."""
    embeddings: StoredVectors
    """N vectors as the table stores them, 0 where the text is not cached."""
    num_tokens: npt.NDArray[np.int32]
    """Shape (N,), 0 where the text is not cached."""
    truncated: npt.NDArray[np.bool_]
    """Shape (N,), False where the text is not cached."""


class VectorCache:
    """Look vectors up by text hash. Not thread-safe: callers hold a lock.

    Places are 64-bit numbers: the shard's number in the upper half and the row in the lower for the table, the bare
    row number for this run's file.
    """

    def __init__(self, dim: int, precision: Precision = Precision.FLOAT32, *, run_file_bytes: int) -> None:
        """Start empty; this run's vectors are kept, as they are stored, up to `run_file_bytes` in a temporary file."""
        self._dim, self._precision = dim, precision
        self._vector = stored_dtype(dim, precision)
        self._record = np.dtype(
            [
                ("hash", "u1", HASH_BYTES),
                ("num_tokens", "i4"),
                ("truncated", "?"),
                ("embedding", self._vector),
            ]
        )
        self._max_run_rows = run_file_bytes // self._record.itemsize
        self._shards: list[str] = []
        self._table_places = TextPlaces()
        self._run_index = HashIndex()
        self._run_file: IO[bytes] | None = None
        self._num_run_rows = 0
        self._is_full = False
        self._open_shards: OrderedDict[int, pq.ParquetFile] = OrderedDict()
        self._groups: OrderedDict[tuple[int, int], _Vectors] = OrderedDict()

    def __len__(self) -> int:
        return len(self._table_places) + len(self._run_index)

    def add_shards(self, uris: Sequence[str]) -> None:
        """Index the texts of committed or completed shards; only their ``text_hash`` columns are read."""
        most = INDEX_THREADS if any("://" in uri for uri in uris) else available_cpus()
        with ThreadPoolExecutor(min(most, max(1, len(uris)))) as pool:
            keys = list(pool.map(_keys_of, uris))
        self._table_places.add(keys, first_shard=len(self._shards))
        self._shards += uris

    def add_computed(
        self,
        hashes: Hashes,
        embeddings: StoredVectors,
        num_tokens: npt.NDArray[np.int32],
        truncated: npt.NDArray[np.bool_],
    ) -> None:
        """Keep vectors of this run for equal texts that come later."""
        room = max(0, self._max_run_rows - self._num_run_rows)
        if len(hashes) > room:
            if not self._is_full:
                log.warning(
                    "the run's vector file is full at %d texts: equal texts that come later may be encoded twice; "
                    "raise run_file_bytes to avoid it",
                    self._max_run_rows,
                )
            self._is_full = True
            hashes, embeddings = hashes[:room], embeddings[:room]
            num_tokens, truncated = num_tokens[:room], truncated[:room]
        if not len(hashes):
            return
        try:
            if self._run_file is None:
                self._run_file = tempfile.TemporaryFile(prefix="sbert-run-")  # noqa: SIM115  (lives as long as the run)
            self._run_file.seek(self._num_run_rows * self._record.itemsize)
            for first in range(0, len(hashes), READ_ROWS):
                part = slice(first, first + READ_ROWS)
                records = np.empty(len(hashes[part]), dtype=self._record)
                records["hash"], records["embedding"] = hashes[part], embeddings[part]
                records["num_tokens"], records["truncated"] = num_tokens[part], truncated[part]
                self._run_file.write(records.tobytes())
            self._run_file.flush()
        except OSError as error:
            log.warning("cannot cache more vectors, so repeated texts may be encoded again: %s", error)
            self._max_run_rows = self._num_run_rows
            return
        self._run_index.add(hashes, np.arange(self._num_run_rows, self._num_run_rows + len(hashes), dtype=np.int64))
        self._num_run_rows += len(hashes)

    def lookup(self, hashes: Hashes) -> CachedVectors:
        """Return the cached vectors of N texts, given their hashes of shape (N, 16)."""
        num_texts = len(hashes)
        result = CachedVectors(
            hits=np.zeros(num_texts, dtype=np.bool_),
            in_table=np.zeros(num_texts, dtype=np.bool_),
            embeddings=np.empty(num_texts, dtype=self._vector),
            num_tokens=np.zeros(num_texts, dtype=np.int32),
            truncated=np.zeros(num_texts, dtype=np.bool_),
        )
        places = self._table_places.find(hashes)
        self._read_shards(hashes, places, result)
        result.in_table[:] = result.hits
        rows = self._run_index.find(hashes)
        rows[result.hits] = -1
        self._read_run(hashes, rows, result)
        result.embeddings[~result.hits] = np.zeros((), dtype=self._vector)
        return result

    def may_have(self, hashes: Hashes) -> npt.NDArray[np.bool_]:
        """Return True for each text that is probably cached, judged by half of its hash. Shape (texts,)."""
        return (self._run_index.find(hashes) >= 0) | (self._table_places.find(hashes) >= 0)

    def close(self) -> None:
        """Remove this run's file and close the shards."""
        if self._run_file is not None:
            self._run_file.close()
        for shard in self._open_shards.values():
            shard.close(force=True)
        self._open_shards.clear()
        self._groups.clear()

    def _read_run(self, hashes: Hashes, rows: npt.NDArray[np.int64], result: CachedVectors) -> None:
        targets = np.flatnonzero(rows >= 0)
        if not len(targets):
            return
        assert self._run_file is not None
        targets = targets[np.argsort(rows[targets], kind="stable")]
        ordered = rows[targets]
        apart = (np.diff(ordered) > READ_GAP_ROWS) | (np.diff(ordered // READ_ROWS) > 0)
        starts = np.concatenate([[0], np.flatnonzero(apart) + 1, [len(ordered)]])
        for low, high in pairwise(starts.tolist()):
            first, last = int(ordered[low]), int(ordered[high - 1])
            self._run_file.seek(first * self._record.itemsize)
            chunk = np.frombuffer(self._run_file.read((last - first + 1) * self._record.itemsize), dtype=self._record)
            part = _Vectors(chunk["hash"], chunk["embedding"], chunk["num_tokens"], chunk["truncated"])
            part.copy_to(result, hashes, targets[low:high], ordered[low:high] - first)

    def _read_shards(self, hashes: Hashes, places: npt.NDArray[np.int64], result: CachedVectors) -> None:
        hits = np.flatnonzero(places >= 0)
        numbers, rows = places[hits] >> 32, places[hits] & 0xFFFF_FFFF
        for number in np.unique(numbers).tolist():
            of_shard = numbers == number
            targets, wanted = hits[of_shard], rows[of_shard]
            begins = self._group_begins(number)
            groups = np.searchsorted(begins, wanted, side="right") - 1
            for group in np.unique(groups).tolist():
                of_group = groups == group
                self._group(number, group).copy_to(result, hashes, targets[of_group], wanted[of_group] - begins[group])

    def _group_begins(self, number: int) -> npt.NDArray[np.int64]:
        """Return the first row of each row group of a shard, and the number of rows at the end."""
        metadata = self._shard(number).metadata
        sizes = [metadata.row_group(group).num_rows for group in range(metadata.num_row_groups)]
        return np.concatenate([[0], np.cumsum(sizes)]).astype(np.int64)

    def _group(self, number: int, group: int) -> "_Vectors":
        """Return a row group's vectors; the row groups read last stay in memory."""
        if (number, group) in self._groups:
            self._groups.move_to_end((number, group))
            return self._groups[number, group]
        with damage_as_table_error(self._shards[number]):
            part = self._shard(number).read_row_group(
                group,
                columns=["text_hash", *vector_names(self._precision), "num_tokens", "truncated"],
                use_threads=False,
            )
        vectors = self._groups[number, group] = _Vectors(
            hash_matrix(part["text_hash"]),
            stored_vectors(part, self._dim, self._precision),
            part["num_tokens"].to_numpy(),
            part["truncated"].to_numpy(),
        )
        while (
            len(self._groups) > 1 and sum(held.embeddings.nbytes for held in self._groups.values()) > CACHED_GROUP_BYTES
        ):
            self._groups.popitem(last=False)
        return vectors

    def _shard(self, number: int) -> pq.ParquetFile:
        if number in self._open_shards:
            self._open_shards.move_to_end(number)
            return self._open_shards[number]
        shard = self._open_shards[number] = open_shard_file(self._shards[number])
        if len(self._open_shards) > MAX_OPEN_SHARDS:
            self._open_shards.popitem(last=False)[1].close(force=True)
        return shard


@dataclass(frozen=True)
class _Vectors:
    """Some rows of a shard, or of this run's file."""

    hashes: Hashes
    embeddings: StoredVectors
    num_tokens: npt.NDArray[np.int32]
    truncated: npt.NDArray[np.bool_]

    def copy_to(
        self, result: CachedVectors, hashes: Hashes, targets: npt.NDArray[np.int64], rows: npt.NDArray[np.int64]
    ) -> None:
        """Copy `rows` to the texts `targets` of the result, where the whole hash agrees."""
        agrees = (self.hashes[rows] == hashes[targets]).all(axis=1)
        if not agrees.all():
            targets, rows = targets[agrees], rows[agrees]
        result.hits[targets] = True
        _copy_rows(self.embeddings, rows, result.embeddings, targets)
        result.num_tokens[targets] = self.num_tokens[rows]
        result.truncated[targets] = self.truncated[rows]


def _copy_rows(
    source: StoredVectors, rows: npt.NDArray[np.int64], target: StoredVectors, places: npt.NDArray[np.int64]
) -> None:
    """Set ``target[places] = source[rows]``, stretches of neighbours at once where they are long."""
    ends = np.flatnonzero((np.diff(rows) != 1) | (np.diff(places) != 1)) + 1
    if len(ends) * 8 >= len(rows):
        target[places] = source[rows]
        return
    for begin, end in pairwise([0, *ends.tolist(), len(rows)]):
        row, place = int(rows[begin]), int(places[begin])
        target[place : place + end - begin] = source[row : row + end - begin]


def _keys_of(uri: str) -> npt.NDArray[np.uint64]:
    """Read the first half of each of a shard's text hashes."""
    with open_shard(uri) as shard:
        return prefixes(hash_matrix(shard.read(columns=["text_hash"], use_threads=False)["text_hash"])).copy()

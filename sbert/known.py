"""Vectors that need not be computed again: those in the table, and those of this run.

The one idea: an index of 16 bytes a text (8 of its hash, 8 for the place of its vector) is small enough for memory,
the vectors themselves stay where they are: in the table's shards, or in a temporary file of this run. A hit is
believed only after all 16 bytes of the hash agree.
"""

import logging
import tempfile
from collections import OrderedDict
from collections.abc import Sequence
from dataclasses import dataclass
from itertools import pairwise
from typing import IO

import numpy as np
import numpy.typing as npt
import pyarrow as pa
import pyarrow.parquet as pq

from sbert.shards import embedding_matrix
from sbert.storage import open_input, translate_errors

__all__ = ["FoundVectors", "KnownVectors"]

log = logging.getLogger(__name__)

HASH_BYTES = 16
MAX_SEGMENTS = 24
MAX_OPEN_SHARDS = 16
READ_GAP_ROWS = 32
"""Places of the temporary file that are nearer than this are read in one go."""
RUN_FILE = -1

Hashes = npt.NDArray[np.uint8]
"""Text hashes as rows of bytes, shape (texts, 16)."""


def _keys(hashes: Hashes) -> npt.NDArray[np.uint64]:
    return np.ascontiguousarray(hashes).view(np.uint64)[:, 0]


@dataclass(frozen=True)
class FoundVectors:
    """What is known of a list of N texts."""

    found: npt.NDArray[np.bool_]
    """Shape (N,): whether the text's vector is known."""
    in_table: npt.NDArray[np.bool_]
    """Shape (N,): whether it is known from the table (else from this run)."""
    embeddings: npt.NDArray[np.float32]
    """Shape (number found, dim), in the order of the texts found."""
    num_tokens: npt.NDArray[np.int32]
    """Shape (number found,)."""
    truncated: npt.NDArray[np.bool_]
    """Shape (number found,)."""


class HashIndex:
    """Where the vector of a text is: sorted arrays of hash prefixes, a few at a time, merged as they grow in number."""

    def __init__(self) -> None:
        """Start empty."""
        self._segments: list[tuple[npt.NDArray[np.uint64], npt.NDArray[np.int64]]] = []

    def __len__(self) -> int:
        return sum(len(keys) for keys, _ in self._segments)

    def add(self, hashes: Hashes, places: npt.NDArray[np.int64]) -> None:
        """Remember the places of texts; of two places of one text the first remembered is kept."""
        if not len(hashes):
            return
        keys, first = np.unique(_keys(hashes), return_index=True)
        self._segments.append((keys, places[first]))
        if len(self._segments) > MAX_SEGMENTS:
            all_keys = np.concatenate([segment[0] for segment in self._segments])
            all_places = np.concatenate([segment[1] for segment in self._segments])
            merged, first = np.unique(all_keys, return_index=True)
            self._segments = [(merged, all_places[first])]

    def find(self, hashes: Hashes) -> npt.NDArray[np.int64]:
        """Give the place of each text, -1 where none is known; shape (texts,)."""
        keys = _keys(hashes)
        places = np.full(len(keys), -1, dtype=np.int64)
        for segment_keys, segment_places in self._segments:
            at = np.minimum(np.searchsorted(segment_keys, keys), len(segment_keys) - 1)
            hit = (segment_keys[at] == keys) & (places < 0)
            places[hit] = segment_places[at[hit]]
        return places


class KnownVectors:
    """Look vectors up by text hash. Not thread-safe: callers hold a lock.

    Places are 64-bit numbers: the shard's number in the upper half and the row in the lower for the table, the bare
    row number for this run's file.
    """

    def __init__(self, dim: int, *, run_file_bytes: int) -> None:
        """Start empty; this run's vectors are kept up to `run_file_bytes` in a temporary file."""
        self._dim = dim
        self._record = np.dtype(
            [
                ("hash", "u1", HASH_BYTES),
                ("num_tokens", "i4"),
                ("truncated", "?"),
                ("embedding", "f4", (dim,)),
            ]
        )
        self._max_run_rows = run_file_bytes // self._record.itemsize
        self._shards: list[str] = []
        self._table_index = HashIndex()
        self._run_index = HashIndex()
        self._run_file: IO[bytes] | None = None
        self._num_run_rows = 0
        self._is_full = False
        self._open_shards: OrderedDict[int, pq.ParquetFile] = OrderedDict()

    def __len__(self) -> int:
        return len(self._table_index) + len(self._run_index)

    def add_shard(self, uri: str) -> None:
        """Index the texts of a committed or completed shard; only its ``text_hash`` column is read."""
        number = len(self._shards)
        self._shards.append(uri)
        first_row = 0
        with open_input(uri) as file, pq.ParquetFile(file) as shard:
            for batch in shard.iter_batches(batch_size=65_536, columns=["text_hash"]):
                hashes = hash_matrix(batch.column(0))
                rows = np.arange(first_row, first_row + len(hashes), dtype=np.int64)
                self._table_index.add(hashes, (np.int64(number) << 32) | rows)
                first_row += len(hashes)

    def add_computed(
        self,
        hashes: Hashes,
        embeddings: npt.NDArray[np.float32],
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
        records = np.empty(len(hashes), dtype=self._record)
        records["hash"], records["embedding"] = hashes, embeddings
        records["num_tokens"], records["truncated"] = num_tokens, truncated
        try:
            if self._run_file is None:
                self._run_file = tempfile.TemporaryFile(prefix="sbert-run-")  # noqa: SIM115  (lives as long as the run)
            self._run_file.seek(self._num_run_rows * self._record.itemsize)
            self._run_file.write(records.tobytes())
            self._run_file.flush()
        except OSError as error:
            log.warning("no more vectors of this run are kept for equal texts: %s", error)
            self._max_run_rows = self._num_run_rows
            return
        self._run_index.add(hashes, np.arange(self._num_run_rows, self._num_run_rows + len(hashes), dtype=np.int64))
        self._num_run_rows += len(hashes)

    def find(self, hashes: Hashes) -> FoundVectors:
        """Give the known vectors among N texts, shape (N, 16) of hashes."""
        num_texts = len(hashes)
        found = np.zeros(num_texts, dtype=np.bool_)
        in_table = np.zeros(num_texts, dtype=np.bool_)
        embeddings = np.zeros((0, self._dim), dtype=np.float32)
        num_tokens = np.zeros(0, dtype=np.int32)
        truncated = np.zeros(0, dtype=np.bool_)
        from_run = self._run_index.find(hashes)
        from_table = self._table_index.find(hashes)
        candidates = np.flatnonzero((from_run >= 0) | (from_table >= 0))
        if len(candidates):
            records = np.zeros(len(candidates), dtype=self._record)
            run_rows, table_places = from_run[candidates], from_table[candidates]
            table = table_places >= 0
            self._read_run(run_rows, ~table, records)
            self._read_shards(table_places, table, records)
            agrees = (records["hash"] == hashes[candidates]).all(axis=1)
            kept = candidates[agrees]
            found[kept] = True
            in_table[kept] = table[agrees]
            embeddings = np.ascontiguousarray(records["embedding"][agrees])
            num_tokens = records["num_tokens"][agrees]
            truncated = records["truncated"][agrees]
        return FoundVectors(found, in_table, embeddings, num_tokens, truncated)

    def is_known(self, hashes: Hashes) -> npt.NDArray[np.bool_]:
        """Tell cheaply which texts are most probably known (by half of the hash); shape (texts,)."""
        return (self._run_index.find(hashes) >= 0) | (self._table_index.find(hashes) >= 0)

    def close(self) -> None:
        """Remove this run's file and close the shards."""
        if self._run_file is not None:
            self._run_file.close()
        for shard in self._open_shards.values():
            shard.close(force=True)
        self._open_shards.clear()

    def _read_run(self, rows: npt.NDArray[np.int64], wanted: npt.NDArray[np.bool_], records: np.ndarray) -> None:
        targets = np.flatnonzero(wanted)
        if not len(targets):
            return
        assert self._run_file is not None
        targets = targets[np.argsort(rows[targets], kind="stable")]
        ordered = rows[targets]
        starts = np.concatenate([[0], np.flatnonzero(np.diff(ordered) > READ_GAP_ROWS) + 1, [len(ordered)]])
        for low, high in pairwise(starts.tolist()):
            first, last = int(ordered[low]), int(ordered[high - 1])
            self._run_file.seek(first * self._record.itemsize)
            chunk = np.frombuffer(self._run_file.read((last - first + 1) * self._record.itemsize), dtype=self._record)
            records[targets[low:high]] = chunk[ordered[low:high] - first]

    def _read_shards(self, places: npt.NDArray[np.int64], wanted: npt.NDArray[np.bool_], records: np.ndarray) -> None:
        numbers, rows = places >> 32, places & 0xFFFF_FFFF
        for number in np.unique(numbers[wanted]):
            shard = self._shard(int(number))
            targets = np.flatnonzero(wanted & (numbers == number))
            metadata = shard.metadata
            sizes = [metadata.row_group(group).num_rows for group in range(metadata.num_row_groups)]
            begins = np.concatenate([[0], np.cumsum(sizes)])
            groups = np.searchsorted(begins, rows[targets], side="right") - 1
            for group in np.unique(groups):
                chosen = targets[groups == group]
                with translate_errors(self._shards[int(number)]):
                    columns = ["text_hash", "embedding", "num_tokens", "truncated"]
                    part = shard.read_row_group(int(group), columns=columns).take(rows[chosen] - begins[group])
                records["hash"][chosen] = hash_matrix(part["text_hash"])
                records["embedding"][chosen] = embedding_matrix(part["embedding"], self._dim)
                records["num_tokens"][chosen] = part["num_tokens"].to_numpy()
                records["truncated"][chosen] = part["truncated"].to_numpy()

    def _shard(self, number: int) -> pq.ParquetFile:
        if number in self._open_shards:
            self._open_shards.move_to_end(number)
            return self._open_shards[number]
        uri = self._shards[number]
        with translate_errors(uri):
            shard = self._open_shards[number] = pq.ParquetFile(open_input(uri))
        if len(self._open_shards) > MAX_OPEN_SHARDS:
            self._open_shards.popitem(last=False)[1].close(force=True)
        return shard


def hash_matrix(column: pa.Array | pa.ChunkedArray | Sequence[bytes]) -> Hashes:
    """Give a column of 16-byte hashes as a matrix of bytes, shape (rows, 16).

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

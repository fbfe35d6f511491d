"""`NeighboursJob`: the k nearest rows of every row, exact, by blocks of matrix products.

The output of a split depends on every row of the table, so the job's fingerprint hashes all splits. A night still costs
what changed. For a row whose split stayed, the list of the night before is true but for rows that left, and only rows that
joined can enter it. So it is merged with the best of the joined rows. The merged list is exact when at least as many joined
rows are nearer than the last of the old list as old neighbours left: every row that was not in the old list is at most as
near as its last. Other rows are compared with the whole table.

Of rows with the same score any may be named.
"""

import hashlib
import itertools
import logging
import threading
from collections.abc import Generator, Iterator
from contextlib import closing
from typing import ClassVar

import numpy as np
import numpy.typing as npt
import pyarrow as pa
from pydantic import Field

from sbert.apply.nearest_rows import Candidates, Key, keys_of, nearest_in_blocks, updated_list
from sbert.derived.derived_table import DerivedTable
from sbert.derived.earlier_output import output_before, rows_before
from sbert.derived.job import KEY_COLUMNS, DerivedJob, SplitFunction, SplitInput
from sbert.errors import NotATableError, StorageError, TableError
from sbert.table.delta import Table
from sbert.table.shard_file import open_shard
from sbert.table.shard_layout import locate_splits, read_split, split_rows
from sbert.table.shards import vector_matrix, vector_names
from sbert.table.unit_vectors import UnitVectors
from sbert.vectors.unit import unit_rows

__all__ = ["NeighboursJob"]

log = logging.getLogger(__name__)

QUERIES_PER_BLOCK = 8_192
ROWS_PER_READ = 16_384
NEIGHBOUR = pa.struct([("source", pa.string()), ("id", pa.string()), ("score", pa.float32())])

Float32 = npt.NDArray[np.float32]


class NeighboursJob(DerivedJob):
    """The nearest rows of each row by cosine, without the row itself."""

    name: ClassVar[str] = "neighbours"

    k: int = Field(default=10, ge=1, le=1_000, description="Nearest rows of each row (rows).")

    def columns(self, table: Table) -> pa.Schema:  # noqa: ARG002
        """Return one column: up to k neighbours, nearest first."""
        return pa.schema([pa.field("neighbours", pa.list_(NEIGHBOUR))])

    def fingerprint(self, table: Table) -> str:
        """Add every split of the table: any of them can hold a neighbour of any row."""
        splits = sorted(split_rows(locate_splits(table.uri, table.shards())).items())
        return hashlib.sha256(f"{super().fingerprint(table)}|{splits}".encode()).hexdigest()

    def open(self, table: Table, out_uri: str) -> SplitFunction:
        """Find the rows that joined and left since the last output."""
        return _Neighbours(self, table, out_uri).derive


class _Neighbours:
    """Derives splits of one version."""

    def __init__(self, job: NeighboursJob, table: Table, out_uri: str) -> None:
        self._k = job.k
        self._table = table
        self._shards = locate_splits(table.uri, table.shards())
        self._splits = split_rows(self._shards)
        self._before = output_before(job, table, out_uri)
        self._joined: list[str] = []
        self._vectors: UnitVectors | None = None
        self._lock = threading.Lock()
        self._left_keys: set[Key] = set()
        if self._before is not None:
            self._compare_versions(self._before)

    def derive(self, split: SplitInput) -> Iterator[pa.Table]:
        """Return the neighbours of a split's rows."""
        columns = [*KEY_COLUMNS, *vector_names(self._table.encoder.precision)]
        with closing(self._old_lists(split)) as old_lists:
            for rows in split.rows(columns):
                old = list(itertools.islice(old_lists, len(rows)))
                for first in range(0, len(rows), QUERIES_PER_BLOCK):
                    block = rows.slice(first, QUERIES_PER_BLOCK)
                    yield self._derive_block(block, old[first : first + QUERIES_PER_BLOCK])

    def _derive_block(self, rows: pa.Table, old: list[tuple[Key, Candidates]]) -> pa.Table:
        keys = keys_of(rows)
        vectors_ND = self._unit_vectors(rows)
        old_lists: list[Candidates | None] = [None] * len(keys)  # the output before may end earlier
        for place, (old_key, candidates) in enumerate(old):
            if old_key == keys[place]:
                old_lists[place] = candidates
        lists = self._updated(keys, vectors_ND, old_lists)
        unknown = [place for place, nearest in enumerate(lists) if nearest is None]
        if unknown:
            every = nearest_in_blocks(vectors_ND[unknown], self._k + 1, self._every_block())
            for place, candidates in zip(unknown, every, strict=True):
                lists[place] = _best(candidates, keys[place], self._k)
        neighbours = pa.array(
            [[{"source": key[0], "id": key[1], "score": score} for key, score in nearest or ()] for nearest in lists],
            pa.list_(NEIGHBOUR),
        )
        columns = [*(rows[name] for name in KEY_COLUMNS), neighbours]
        return pa.Table.from_arrays(columns, names=[*KEY_COLUMNS, "neighbours"])

    def _updated(
        self, keys: list[Key], vectors_ND: Float32, old_lists: list[Candidates | None]
    ) -> list[Candidates | None]:
        """Return the lists that follow from the output before and the rows that joined; None for all other rows."""
        places = [place for place, candidates in enumerate(old_lists) if candidates is not None]
        lists: list[Candidates | None] = [None] * len(keys)
        if not places:
            return lists
        joined = nearest_in_blocks(vectors_ND[places], self._k + 1, self._blocks(self._joined))
        for place, new in zip(places, joined, strict=True):
            entering = [(key, score) for key, score in new if key != keys[place]]
            lists[place] = updated_list(old_lists[place] or [], entering, self._left_keys, self._k)
        return lists

    def _old_lists(self, split: SplitInput) -> Generator[tuple[Key, Candidates], None, None]:
        """Read the output before of a split that stayed, row by row in the order of its rows."""
        if self._before is None:
            return
        with closing(rows_before(self._before, split, ["source", "id", "neighbours"])) as batches:
            for batch in batches:
                for key, neighbours in zip(keys_of(batch), batch.column("neighbours").to_pylist(), strict=True):
                    yield key, [((item["source"], item["id"]), item["score"]) for item in neighbours]

    def _blocks(self, splits: list[str]) -> Iterator[tuple[pa.Table, Float32]]:
        """Read the rows of splits, and their unit vectors."""
        columns = ["source", "id", *vector_names(self._table.encoder.precision)]
        for name in splits:
            for rows in read_split(self._table.uri, self._shards, name, columns):
                yield rows.select(["source", "id"]), self._unit_vectors(rows)

    def _every_block(self) -> Iterator[tuple[pa.Table, Float32]]:
        """Read all rows; their unit vectors are those that this machine keeps, as each block of queries reads them again."""
        with self._lock:
            if self._vectors is None:
                self._vectors = UnitVectors.open(self._table)
        for shard in self._vectors.shards:
            first = self._vectors.starts[shard.name]
            with open_shard(self._table.shard_uri(shard.name)) as parquet:
                for batch in parquet.iter_batches(batch_size=ROWS_PER_READ, columns=["source", "id"]):
                    yield pa.Table.from_batches([batch]), self._vectors.rows(first, first + len(batch))
                    first += len(batch)
            self._vectors.release()

    def _unit_vectors(self, rows: pa.Table) -> Float32:
        return unit_rows(vector_matrix(rows, self._table.encoder.dim, self._table.encoder.precision))

    def _compare_versions(self, before: DerivedTable) -> None:
        """Note the splits that joined and the keys of rows that left; without the old version everything is new."""
        try:
            old_table = Table.open(self._table.uri, before.info.table_version)
            old_shards = locate_splits(old_table.uri, old_table.shards())
            old_splits = split_rows(old_shards)
            left = [name for name, rows in old_splits.items() if self._splits.get(name) != rows]
            for name in left:
                for rows in read_split(old_table.uri, old_shards, name, ["source", "id"]):
                    self._left_keys.update(keys_of(rows))
        except (NotATableError, StorageError, TableError) as error:
            log.info(
                "every row is compared with every other, because version %d is gone: %s",
                before.info.table_version,
                error,
            )
            self._before = None
            return
        self._joined = [name for name, rows in self._splits.items() if old_splits.get(name) != rows]


def _best(candidates: Candidates, own: Key, k: int) -> Candidates:
    """Return the k nearest, nearest first, without the row itself; of equal scores the smaller key comes first."""
    others = [(key, score) for key, score in candidates if key != own]
    return sorted(others, key=lambda item: (-item[1], item[0]))[:k]

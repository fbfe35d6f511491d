"""The two sides of an alignment: rows of tables in a fixed order, and how far apart their vectors are."""

import logging
from collections.abc import Iterator
from functools import cached_property

import numpy as np
import polars as pl
import pyarrow as pa
from pydantic import BaseModel, ConfigDict, Field

from sbert.apply.alignment.checks import SentenceFacts, facts_of
from sbert.apply.alignment.mining import in_memory
from sbert.apply.row_sample import read_sample
from sbert.index.top_k import Int64, TopK
from sbert.index.words.settings import find_text_column
from sbert.table.delta import Table
from sbert.table.shard_layout import locate_splits, read_split, split_rows
from sbert.table.shards import vector_matrix, vector_names
from sbert.vectors.precision import Float32
from sbert.vectors.unit import unit_rows

__all__ = ["SideDistance", "SideRows", "side_distance"]

log = logging.getLogger(__name__)

SAMPLE = 1_000
"""Rows of each side whose nearest rows are looked up to say how far apart the sides are."""
LEAST_RATIO = 0.8


class SideRows:
    """The rows of one version: split by split in the order of their fingerprints, with facts about their texts."""

    def __init__(self, table: Table) -> None:
        """Find the splits, and the column of the text; without one nothing is checked."""
        self.table = table
        self._shards = locate_splits(table.uri, table.shards())
        self.splits = dict(sorted(split_rows(self._shards).items()))
        """Rows of each split."""
        self.text_column = find_text_column(table)

    def first_row(self, split: str) -> int:
        """Return the number of a split's first row."""
        return self._first_rows[split]

    @cached_property
    def _first_rows(self) -> dict[str, int]:
        first_rows, num_rows = {}, 0
        for name, count in self.splits.items():
            first_rows[name] = num_rows
            num_rows += count
        return first_rows

    def vectors(self) -> Iterator[Float32]:
        """Read the unit vectors, a block at a time."""
        for rows in self._read(vector_names(self.table.encoder.precision)):
            yield unit_rows(vector_matrix(rows, self.table.encoder.dim, self.table.encoder.precision))

    @cached_property
    def keys(self) -> pa.Table:
        """Columns `source` and `id` of all rows."""
        blocks = list(self._read(["source", "id"]))
        empty = pa.table({"source": pa.array([], pa.string()), "id": pa.array([], pa.string())})
        return pa.concat_tables([rows.select(["source", "id"]) for rows in blocks]) if blocks else empty

    @property
    def ranks(self) -> Int64:
        """The place of each row in the order of source and id."""
        frame = pl.from_arrow(self.keys)
        assert isinstance(frame, pl.DataFrame)
        ranks = np.empty(len(frame), np.int64)
        ranks[frame.with_row_index("_row").sort("source", "id")["_row"].to_numpy()] = np.arange(len(frame))
        return ranks

    def sentence_facts(self) -> SentenceFacts:
        """Return the values of all texts that the checks need."""
        if self.text_column is None:
            return facts_of([None] * sum(self.splits.values()))
        parts = [facts_of(rows[self.text_column].to_pylist()) for rows in self._read([self.text_column])]
        parts = parts or [facts_of([])]
        return SentenceFacts(*(np.concatenate([getattr(part, name) for part in parts]) for name in vars(parts[0])))

    def _read(self, columns: list[str]) -> Iterator[pa.Table]:
        for name in self.splits:
            yield from read_split(self.table.uri, self._shards, name, columns)


class SideDistance(BaseModel):
    """Distance between the vectors of two tables."""

    model_config = ConfigDict(frozen=True)

    across: float = Field(description="Median cosine of a row to the nearest row of the other table.")
    within: float = Field(description="Median cosine of a row to the nearest other row of its own table.")
    are_far_apart: bool


def side_distance(left: Table, right: Table) -> SideDistance | None:
    """Compare the nearest rows of the other table with those of the own table, on samples, and warn if they are far apart.

    A table without rows is at no distance: the answer is None.

    In one table a row's nearest other row says something else. Its translation says the same, so it should be nearer. It is
    not when the encoder does not know one of the languages.
    """
    if not left.num_rows or not right.num_rows:
        return None
    ours, theirs = (unit_rows(read_sample(table, SAMPLE).vectors_ND) for table in (left, right))
    across = np.concatenate([_cosines(ours, theirs, 0), _cosines(theirs, ours, 0)])
    within = np.concatenate([_cosines(side, side, 1) for side in (ours, theirs) if len(side) > 1] or [across])
    return distance_of(float(np.median(across)), float(np.median(within)), left.uri, right.uri, left.encoder.model)


def distance_of(across: float, within: float, left: str, right: str, model: str) -> SideDistance:
    """Return the distance, and warn of a great one."""
    distance = SideDistance(
        across=round(across, 4), within=round(within, 4), are_far_apart=across < LEAST_RATIO * max(within, 0)
    )
    if distance.are_far_apart:
        log.warning(
            "%s and %s: the vectors of the two sides are far apart (nearest row of the other table: cosine %.2f, "
            "of the own: %.2f): the encoder %s may not know one of the languages, choose a multilingual one",
            left,
            right,
            across,
            within,
            model,
        )
    return distance


def _cosines(queries_QD: Float32, rows_ND: Float32, place: int) -> Float32:
    """Return the cosine of each query to its nearest row, or to the row after it."""
    best = TopK(queries_QD, place + 1)
    count = 0
    for block in in_memory(rows_ND)():
        best.add(block, np.arange(count, count + len(block), dtype=np.int64))
        count += len(block)
    scores: Float32 = -np.sort(-best.scores_QK, axis=1)[:, place]
    return scores

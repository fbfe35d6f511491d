"""Answers in blocks: keys, unit vectors, and words, of all rows of the answers table or of some.

Vectors of up to 256 MiB lie in memory, more in temporary files that are mapped into it. Memory holds the keys and the words.

A second table may hold the same rows with another text encoded: the first the questions of a FAQ, say, the second its
answers. Rows of both belong together by source and id.
"""

import tempfile
from collections.abc import Collection, Iterator, Sequence
from contextlib import closing
from dataclasses import dataclass

import numpy as np
import polars as pl
import pyarrow as pa

from sbert.apply.answers.settings import FusionWeights
from sbert.apply.answers.shared_words import AnswerWords, WordCounts, answer_words
from sbert.apply.nearest_rows import Key, keys_of
from sbert.rows.cleaning import clean_texts
from sbert.runtime.prefetch import prefetch
from sbert.table.delta import Table
from sbert.table.recorded_settings import table_cleaning
from sbert.table.shard_file import open_shard
from sbert.table.shard_layout import filled_splits, locate_splits, read_split
from sbert.table.shards import vector_matrix, vector_names
from sbert.table.table_shard import TableShard
from sbert.table.unit_vectors import UnitVectors
from sbert.vectors.precision import Float32, Precision
from sbert.vectors.unit import unit_rows

__all__ = ["ROWS_PER_BLOCK", "AnswerBlock", "AnswerPool", "AnswerTables", "TableSplits", "joined_texts"]

ROWS_PER_BLOCK = 8_192
BLOCKS_AHEAD = 4
ROWS_PER_READ = 2_048
"""Vectors of 3 MiB: larger blocks get new memory from the system each time, which costs more than to decode them."""
ROWS_PER_UNIT = 1_024
BYTES_IN_MEMORY = 256 << 20
KEYS = ("source", "id", "text_hash")


class TableSplits:
    """One version of a table, read split by split."""

    def __init__(self, table: Table) -> None:
        """Find the place of each split."""
        self.table = table
        self._shards = locate_splits(table.uri, table.shards())
        self.num_rows = filled_splits(self._shards)
        """Rows of each split."""

    def rows(self, splits: Collection[str], columns: Sequence[str]) -> Iterator[pa.Table]:
        """Read the rows of splits in blocks."""
        blocks = (
            rows
            for split in sorted(splits)
            for rows in read_split(self.table.uri, self._shards, split, list(columns), block_rows=ROWS_PER_READ)
        )
        with closing(prefetch(blocks, BLOCKS_AHEAD)) as ahead:
            yield from ahead

    def shard_rows(self, shards: Sequence[TableShard], columns: Sequence[str]) -> Iterator[pa.Table]:
        """Read all rows of shards in blocks."""
        blocks = (rows for shard in shards for rows in self._shard_blocks(shard, columns))
        with closing(prefetch(blocks, BLOCKS_AHEAD)) as ahead:
            yield from ahead

    def _shard_blocks(self, shard: TableShard, columns: Sequence[str]) -> Iterator[pa.Table]:
        with open_shard(self.table.shard_uri(shard.name)) as parquet:
            for batch in parquet.iter_batches(batch_size=ROWS_PER_BLOCK, columns=list(columns)):
                yield pa.Table.from_batches([batch])

    def keys(self, splits: Collection[str]) -> set[Key]:
        """Return the keys of the rows of splits."""
        return {key for rows in self.rows(splits, ["source", "id"]) for key in keys_of(rows)}

    def changed(self, other: "TableSplits") -> list[str]:
        """Return the splits that the other version does not have with as many rows."""
        return [split for split, count in self.num_rows.items() if other.num_rows.get(split) != count]


@dataclass(frozen=True)
class AnswerTables:
    """The answers table, and the second table with the same rows where there is one."""

    first: TableSplits
    second: TableSplits | None
    text_columns: tuple[str, ...]
    """Kept columns of the first table whose words are compared; empty for none."""


@dataclass(frozen=True)
class AnswerBlock:
    """Up to 8,192 answers."""

    first: int
    """Number of the first answer."""
    scoring_ND: Float32
    """Weighted sum of both vectors: its product with a question is the score without words."""
    words: AnswerWords | None


class AnswerPool:
    """Answers by number."""

    def __init__(
        self,
        tables: AnswerTables,
        weights: FusionWeights,
        counts: WordCounts,
        splits: Collection[str] | None = None,
        only: Collection[Key] | None = None,
    ) -> None:
        """Read answers.

        Args:
            tables: where they are.
            weights: of the parts of the score.
            counts: for the match of words.
            splits: splits of the first table that are read; None for all.
            only: keys of the rows that are wanted; None for all.
        """
        first = tables.first
        precision = first.table.encoder.precision
        columns = list(dict.fromkeys([*KEYS, *tables.text_columns]))
        if splits is None and only is None:
            stored = UnitVectors.open(first.table)
            self.vectors_ND = _whole_matrix(stored)
            blocks = first.shard_rows(stored.shards, columns)
        else:
            read = first.num_rows if splits is None else splits
            self.vectors_ND = _matrix(sum(first.num_rows[split] for split in read), first.table.encoder.dim)
            blocks = first.rows(read, [*columns, *vector_names(precision)])
        keys: list[pa.Table] = [_no_keys(first.table)]
        self._words: list[AnswerWords] = []
        num_rows = 0
        for rows in _regular(blocks, only):
            keys.append(rows.select(KEYS))
            if "embedding" in rows.column_names:
                _fill(self.vectors_ND, num_rows, rows, precision)
            num_rows += len(rows)
            if tables.text_columns:
                self._words.append(answer_words(joined_texts(rows, tables.text_columns, first.table), counts))
        self.vectors_ND = self.vectors_ND[:num_rows]
        self.keys = pa.concat_tables(keys).combine_chunks()
        """Source, id and text hash of each answer. With two tables the hash is that of the second."""
        self.answer_vectors_ND: Float32 | None = None
        self.has_answer_N = np.zeros(len(self.keys), np.bool_)
        self._scoring_ND = self.vectors_ND
        self._scale = weights.cosine
        if tables.second is not None:
            self._join(tables.second, weights)

    def __len__(self) -> int:
        return len(self.keys)

    def blocks(self) -> Iterator[AnswerBlock]:
        """Return all answers, block by block."""
        for number, first in enumerate(range(0, len(self), ROWS_PER_BLOCK)):
            scoring_ND = self._scoring_ND[first : first + ROWS_PER_BLOCK]
            yield AnswerBlock(first, scoring_ND, self._words[number] if self._words else None)

    def scaled(self, vectors_QD: Float32) -> Float32:
        """Return questions so that their product with `AnswerBlock.scoring_ND` is the score without words."""
        return vectors_QD * np.float32(self._scale)

    def _join(self, second: TableSplits, weights: FusionWeights) -> None:
        """Find the rows of the second table."""
        place = {key: number for number, key in enumerate(keys_of(self.keys))}
        dim, precision = second.table.encoder.dim, second.table.encoder.precision
        answers_ND = _matrix(len(self), dim)
        hashes = self.keys["text_hash"].to_pylist()
        for rows in second.rows(second.num_rows, [*KEYS, *vector_names(precision)]):
            matches = [(at, place[key]) for at, key in enumerate(keys_of(rows)) if key in place]
            if not matches:
                continue
            ours, theirs = np.array([at for at, _ in matches]), np.array([number for _, number in matches])
            answers_ND[theirs] = unit_rows(vector_matrix(rows.take(pa.array(ours)), dim, precision))
            self.has_answer_N[theirs] = True
            for number, text_hash in zip(
                theirs.tolist(), rows["text_hash"].take(pa.array(ours)).to_pylist(), strict=True
            ):
                hashes[number] = text_hash
        column = pa.array(hashes, self.keys.schema.field("text_hash").type)
        self.keys = self.keys.set_column(2, self.keys.schema.field("text_hash"), column)
        self.answer_vectors_ND = answers_ND
        scoring_ND = _matrix(len(self), dim)
        for first in range(0, len(self), ROWS_PER_BLOCK):
            part = slice(first, first + ROWS_PER_BLOCK)
            scoring_ND[part] = weights.cosine * self.vectors_ND[part] + weights.answer_cosine * answers_ND[part]
        self._scoring_ND, self._scale = scoring_ND, 1.0


def _matrix(num_rows: int, dim: int) -> Float32:
    """Return a matrix of zeros: in memory if it is small, else in a file without a name."""
    if num_rows * dim * 4 <= BYTES_IN_MEMORY:
        return np.zeros((num_rows, dim), np.float32)
    with tempfile.TemporaryFile() as file:
        file.truncate(num_rows * dim * 4)
        return np.memmap(file, np.float32, "r+", shape=(num_rows, dim))


def _whole_matrix(stored: UnitVectors) -> Float32:
    """Return all vectors in the order of `UnitVectors.shards`: mapped as they are, or copied from several files."""
    whole_ND = stored.whole()
    if whole_ND is not None:
        return whole_ND
    matrix_ND, first = _matrix(stored.num_rows, stored.dim), 0
    for shard in stored.shards:
        start = stored.starts[shard.name]
        matrix_ND[first : first + shard.num_rows] = stored.rows(start, start + shard.num_rows)
        first += shard.num_rows
    return matrix_ND


def _fill(matrix_ND: Float32, first: int, rows: pa.Table, precision: Precision) -> None:
    """Write the unit vectors of rows from row `first` on; parts stay in the processor's cache."""
    for batch in rows.select(vector_names(precision)).to_batches(ROWS_PER_UNIT):
        matrix_ND[first : first + len(batch)] = unit_rows(vector_matrix(batch, matrix_ND.shape[1], precision))
        first += len(batch)


def _regular(blocks: Iterator[pa.Table], only: Collection[Key] | None) -> Iterator[pa.Table]:
    """Return rows in blocks of `ROWS_PER_BLOCK`: a split may have one row or a million."""
    waiting: list[pa.Table] = []
    num_waiting = 0
    for rows in blocks:
        wanted = rows if only is None else rows.filter(pa.array([key in only for key in keys_of(rows)], pa.bool_()))
        waiting.append(wanted)
        num_waiting += len(wanted)
        while num_waiting >= ROWS_PER_BLOCK:
            joined = pa.concat_tables(waiting)
            yield joined.slice(0, ROWS_PER_BLOCK)
            waiting, num_waiting = [joined.slice(ROWS_PER_BLOCK)], num_waiting - ROWS_PER_BLOCK
    if num_waiting:
        yield pa.concat_tables(waiting)


def _no_keys(table: Table) -> pa.Table:
    return pa.schema([table.arrow_schema.field(name) for name in KEYS]).empty_table()


def joined_texts(rows: pa.Table, columns: Sequence[str], table: Table) -> pl.Series:
    """Return the texts of some columns of each row as one, cleaned as the table's texts were."""
    frame = pl.DataFrame({str(at): pl.Series(rows[name].cast("string")) for at, name in enumerate(columns)})
    joined = frame.select(pl.concat_str(pl.all().fill_null(""), separator=" ").alias("text"))["text"]
    return clean_texts(joined, table_cleaning(table))

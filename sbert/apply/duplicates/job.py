"""`DuplicatesJob`: the group of every row, with a representative, as a derived table.

The group of a row depends on all rows, so the job's fingerprint hashes all splits, and each night the output is written
anew. What costs is finding similar texts. The job takes over the groups of the output that is there, and decides only the
texts that a change can concern (`sbert.apply.duplicates.grouping`). The result is that of a full run.
"""

import hashlib
import logging
import tempfile
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any, ClassVar

import numpy as np
import numpy.typing as npt
import polars as pl
import pyarrow as pa
from pydantic import Field

from sbert.apply.duplicates.distinct_texts import (
    DistinctTexts,
    Ints,
    Ranks,
    SortedHashes,
    read_columns,
    sorted_hashes,
)
from sbert.apply.duplicates.grouping import Grouping
from sbert.apply.duplicates.rule import PairRule
from sbert.apply.text_vectors import table_texts
from sbert.derived.derived_table import DerivedTable
from sbert.derived.earlier_output import output_before
from sbert.derived.job import KEY_COLUMNS, DerivedJob, SplitFunction, SplitInput
from sbert.errors import NotATableError, StorageError, TableError
from sbert.explanation.reason_column import EXPLANATION, REASONS, ReasonColumn, RowPair, SplitReasons
from sbert.index.words.settings import find_text_column, words_text_column
from sbert.table.delta import Table
from sbert.table.shard_file import open_shard
from sbert.table.shard_layout import locate_splits, split_rows
from sbert.table.shards import vector_matrix, vector_names
from sbert.table.text_index import HASH_BYTES, Hashes, hash_matrix
from sbert.vectors.precision import Float32
from sbert.vectors.unit import unit_rows

__all__ = ["REPRESENTATIVE", "DuplicatesJob"]

log = logging.getLogger(__name__)

REPRESENTATIVE = pa.struct([("source", pa.string()), ("id", pa.string())])
FRAMES_AT_ONCE = 64
"""Frames of rows that are put together in one step."""


class DuplicatesJob(DerivedJob):
    """The groups of texts that say the same."""

    name: ClassVar[str] = "duplicates"

    rule: PairRule = Field(default_factory=PairRule, description="When two texts say the same.")
    text_column: str | None = Field(
        default=None,
        min_length=1,
        description="Kept column that the check for conflicts reads; empty for the column that was encoded, else `text`.",
    )
    max_compared: int = Field(
        default=64,
        ge=1,
        le=10_000,
        description="Similar representatives that a text is compared with, at most; bounds the work for crowds (texts).",
    )

    explain: bool = Field(
        default=False,
        exclude_if=lambda value: not value,  # outputs of earlier releases stay as they are
        description="Say why a row's text and that of its representative are near.",
    )

    def columns(self, table: Table) -> pa.Schema:  # noqa: ARG002
        """Return the output columns: group, representative row, cosine with its text, rows of the group, perhaps reasons."""
        return pa.schema(
            [
                pa.field("group", pa.string()),
                pa.field("representative", REPRESENTATIVE),
                pa.field("similarity", pa.float32()),
                pa.field("num_in_group", pa.int64()),
                *([pa.field(EXPLANATION, REASONS)] if self.explain else []),
            ]
        )

    def check(self, table: Table) -> None:
        """Check also that the table keeps the text column that was named, and a text if the rule or the reasons read it.

        Raises:
            ColumnError: no such column is kept.
        """
        super().check(table)
        find_text_column(table, self.text_column)
        self.text_name(table)
        self.explained_name(table)

    def explained_name(self, table: Table) -> str | None:
        """Return the column with the texts that are explained, None without reasons."""
        return words_text_column(table, self.text_column) if self.explain else None

    def text_name(self, table: Table) -> str | None:
        """Return the column that the rule reads, None if it reads none."""
        return words_text_column(table, self.text_column) if self.rule.needs_texts else None

    def fingerprint(self, table: Table) -> str:
        """Add every split of the table: any of them can hold a text of any group."""
        splits = sorted(split_rows(locate_splits(table.uri, table.shards())).items())
        return hashlib.sha256(f"{super().fingerprint(table)}|{splits}".encode()).hexdigest()

    def open(self, table: Table, out_uri: str) -> SplitFunction:
        """Group the texts of the version, starting from the output that is there."""
        return _Groups(self, table, out_uri).derive


@dataclass(frozen=True)
class _Before:
    """The groups of the output that is there."""

    representatives: Ints
    """Rank of each text's representative, -1 where there is none among the texts now."""
    similarities: Float32
    """Cosine of each text and its representative."""
    removed: Hashes
    """Representatives that are no longer in the table, in ascending order."""
    table_version: int


class _Groups:
    """Derives splits of one version; all threads read the same arrays."""

    def __init__(self, job: DuplicatesJob, table: Table, out_uri: str) -> None:
        self._table = table
        self._schema = job.columns(table)
        self._text = job.explained_name(table)
        self._reasons = SplitReasons(ReasonColumn(table), job.name, table, out_uri) if job.explain else None
        self._hashes, row_ranks = sorted_hashes(table)
        with tempfile.TemporaryDirectory(prefix="sbert-duplicates-") as folder:
            texts = DistinctTexts(table, self._hashes, row_ranks, Path(folder), job.text_name(table))
            try:
                before, removed = self._before(job, texts, out_uri)
                grouping = Grouping(
                    texts, job.rule, job.max_compared, None if before is None else before.representatives
                )
                grouping.settle(removed)
                log.info("grouped %d texts, %d of them decided in this run", len(texts), grouping.num_decided)
                self._representatives = grouping.representatives
                self._similarities = self._compared(texts, before)
            finally:
                texts.close()
        counts = np.bincount(self._representatives[row_ranks], minlength=len(self._hashes))
        self._num_in_group = counts[self._representatives]
        self._keys = self._representative_rows(row_ranks)

    def derive(self, split: SplitInput) -> Iterator[pa.Table]:
        """Return the groups of a split's rows."""
        earlier = None if self._reasons is None else self._reasons.earlier(split)
        for rows in split.rows([*KEY_COLUMNS, *([self._text] if self._text else [])]):
            ranks = self._hashes.ranks(hash_matrix(rows["text_hash"]))
            leaders = self._representatives[ranks]
            counts = self._num_in_group[ranks]
            group = pl.Series(self._hashes.hashes(leaders).view(f"V{HASH_BYTES}")[:, 0].tolist(), dtype=pl.Binary)
            columns: list[Any] = [
                *(rows[name] for name in KEY_COLUMNS),
                group.bin.encode("hex").to_arrow().cast(pa.string()),
                self._representatives_of(rows, leaders, counts),
                pa.array(self._similarities[ranks]),
                pa.array(counts),
            ]
            if self._reasons is not None and earlier is not None:
                columns.append(self._reasons.make(self._pairs(rows, ranks, leaders), earlier))
            yield pa.Table.from_arrays(columns, names=[*KEY_COLUMNS, *self._schema.names])

    def _pairs(self, rows: pa.Table, ranks: Ints, leaders: Ints) -> list[RowPair | None]:
        """Return the texts of each row and its representative; None where they are one text."""
        assert self._text is not None
        own = table_texts(self._table, [text or "" for text in rows[self._text].to_pylist()])
        wanted = pl.DataFrame({"rank": leaders, "own": own, "is_same": ranks == leaders})
        named = wanted.join(self._keys, on="rank", how="left", maintain_order="left")
        return [
            None if row["is_same"] else RowPair(row["source"], row["id"], row["own"], row["text"])
            for row in named.select("is_same", "source", "id", "own", "text").iter_rows(named=True)
        ]

    def _compared(self, texts: DistinctTexts, before: _Before | None) -> Float32:
        """Return the cosine of each text and its representative; that of a pair that was there before is taken over."""
        similarities = np.ones(len(texts), np.float32)
        is_open = self._representatives != np.arange(len(texts))
        if before is not None:
            is_same = is_open & (self._representatives == before.representatives)
            similarities[is_same] = before.similarities[is_same]
            is_open &= ~is_same
        members = np.flatnonzero(is_open)
        similarities[members] = texts.cosines(members, self._representatives[members])
        return similarities

    def _before(
        self, job: DuplicatesJob, texts: DistinctTexts, out_uri: str
    ) -> tuple[_Before | None, tuple[Ints, Float32] | None]:
        """Return the groups before, and ranks and short forms of representatives that left; nothing for a new start."""
        output = output_before(job, self._table, out_uri, may_differ=("explain",))
        if output is None:
            return None, None
        before = _read_before(output, self._hashes)
        if not len(before.removed):
            return before, None
        try:
            vectors_ND = _vectors_that_left(self._table, before)
        except (NotATableError, StorageError, TableError) as error:
            log.info(
                "all texts are grouped anew, because version %d of the table is gone: %s", before.table_version, error
            )
            return None, None
        return before, (self._hashes.places(before.removed), texts.shorten(unit_rows(vectors_ND)))

    def _representative_rows(self, row_ranks: Ranks) -> pl.DataFrame:
        """Return the first row, by source and id, of each representative of several rows: rank, source, id, perhaps text."""
        ranks_kept = self._num_in_group > 1
        ranks_kept &= self._representatives == np.arange(len(self._hashes))
        texts = {"text": self._text} if self._text else {}
        schema = {"rank": pl.Int64, "source": pl.String, "id": pl.String, **dict.fromkeys(texts, pl.String)}
        frames = [pl.DataFrame(schema=schema)]
        end = 0
        for batch in read_columns(self._table, ["source", "id", *texts.values()]):
            ranks = row_ranks[end : end + len(batch)]
            end += len(batch)
            rows = pa.array(ranks_kept[ranks])
            keys = pl.DataFrame(
                {
                    "rank": ranks[ranks_kept[ranks]].astype(np.int64),
                    **{
                        name: pl.Series(batch.column(column).filter(rows), dtype=pl.String)
                        for name, column in {"source": "source", "id": "id", **texts}.items()
                    },
                },
                schema=schema,
            )
            frames.append(keys)
            if len(frames) == FRAMES_AT_ONCE:
                frames = [_first_of_each_rank(frames)]
        first = _first_of_each_rank(frames)
        if self._text:
            cleaned = table_texts(self._table, first["text"].fill_null("").to_list())
            first = first.with_columns(text=cleaned)
        return first

    def _representatives_of(self, rows: pa.Table, leaders: Ints, counts: Ints) -> pa.StructArray:
        """Return the representative row of each row; a row without others in its group represents itself."""
        keys = pl.DataFrame({"rank": leaders, "source": pl.Series(rows["source"]), "id": pl.Series(rows["id"])})
        named = keys.join(self._keys, on="rank", how="left", maintain_order="left", suffix="_first")
        is_alone = pl.Series(counts == 1)
        representatives = named.select(
            source=pl.when(is_alone).then("source").otherwise("source_first").cast(pl.String),
            id=pl.when(is_alone).then("id").otherwise("id_first").cast(pl.String),
        )
        return pa.StructArray.from_arrays(
            [representatives[name].to_arrow().cast(pa.string()) for name in ("source", "id")],
            fields=list(REPRESENTATIVE),
        )


def _first_of_each_rank(frames: list[pl.DataFrame]) -> pl.DataFrame:
    """Return the first row of each rank, by source and id, ordered by rank."""
    return pl.concat(frames).sort("rank", "source", "id").unique("rank", keep="first", maintain_order=True)


def _read_before(output: DerivedTable, hashes: SortedHashes) -> _Before:
    """Read the groups of an output."""
    representatives = np.full(len(hashes), -1, np.int64)
    similarities = np.ones(len(hashes), np.float32)
    ended: list[Hashes] = []
    for shard in output.shards():
        if not shard.num_rows:
            continue
        with open_shard(output.shard_uri(shard.name)) as parquet:
            for batch in parquet.iter_batches(columns=["text_hash", "group", "similarity"]):
                ranks = hashes.ranks(hash_matrix(batch.column("text_hash")))
                groups = pl.Series(batch.column("group"), dtype=pl.String).str.decode("hex")
                leaders = hash_matrix(groups.to_arrow().cast(pa.binary()))
                leader_ranks = hashes.ranks(leaders)
                is_there = ranks >= 0
                representatives[ranks[is_there]] = leader_ranks[is_there]
                similarities[ranks[is_there]] = batch.column("similarity").to_numpy()[is_there]
                ended.append(np.array(leaders[leader_ranks < 0]))
    every = np.concatenate(ended) if ended else np.zeros((0, HASH_BYTES), np.uint8)
    left = SortedHashes(every)
    return _Before(representatives, similarities, left.hashes(np.arange(len(left))), output.info.table_version)


def _vectors_that_left(table: Table, before: _Before) -> Float32:
    """Read the vectors of representatives that left from the version that had them, shape (texts, dim).

    Raises:
        TableError: the version does not hold them all.
        NotATableError, StorageError: the version cannot be read.
    """
    dim = table.encoder.dim
    left = SortedHashes(before.removed)
    vectors_ND = np.zeros((len(left), dim), np.float32)
    old = Table.open(table.uri, before.table_version)
    is_found: npt.NDArray[np.bool_] = np.zeros(len(left), np.bool_)
    now = {shard.name for shard in table.shards()}
    for shard in old.shards():
        if shard.name in now or not shard.num_rows:
            continue
        with open_shard(old.shard_uri(shard.name)) as parquet:
            for batch in parquet.iter_batches(columns=["text_hash", *vector_names(old.encoder.precision)]):
                ranks = left.ranks(hash_matrix(batch.column("text_hash")))
                rows = np.flatnonzero(ranks >= 0)
                if len(rows):
                    part = batch.take(pa.array(rows))
                    vectors_ND[ranks[rows]] = vector_matrix(part, dim, old.encoder.precision)
                    is_found[ranks[rows]] = True
    if not is_found.all():
        raise TableError(
            f"{int((~is_found).sum())} of {len(left)} removed texts have no vector in version {old.version}"
        )
    return vectors_ND

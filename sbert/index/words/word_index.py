"""Bring the word index of a table up to date: plan, build missing segments, merge.

>>> from sbert.index.words.word_index import index_words
>>> report = index_words("data/table")  # doctest: +SKIP

``wanted`` are the splits of the newest version; those that no segment holds are built. Segments of about one size are
merged, so that their number stays logarithmic.
"""

import logging
import math
import time
from collections import defaultdict
from collections.abc import Iterable, Iterator, Sequence

import polars as pl
from pydantic import BaseModel, ConfigDict, Field

from sbert.counted import counted
from sbert.index.segment_cache import forget_segment, note_as_checked
from sbert.index.words.postings import build_postings, postings_bytes
from sbert.index.words.settings import WordSettings, words_fingerprint, words_text_column
from sbert.rows.cleaning import clean_texts
from sbert.storage.files import join
from sbert.table.delta import Table
from sbert.table.lease import hold_lease
from sbert.table.recorded_settings import table_cleaning
from sbert.table.segment_check import word_segment_problem
from sbert.table.shard_layout import filled_splits, locate_splits, read_split
from sbert.table.table_shard import TableShard
from sbert.table.word_segments import (
    WORDS_FOLDER,
    WordRecord,
    WordSplit,
    choose_word_segments,
    read_word_segments,
    remove_word_segments,
    word_segment_file,
    word_segment_name,
    write_word_segment,
)

__all__ = ["WordIndexReport", "drop_words", "index_words", "read_texts"]

log = logging.getLogger(__name__)


class WordIndexReport(BaseModel):
    """Results of a run; scripts rely on the keys."""

    model_config = ConfigDict(frozen=True)

    table_uri: str
    version: int = Field(description="Version of the table that was indexed.")
    column: str = Field(description="Kept column whose words are indexed.")
    num_segments: int = Field(description="Segments that serve the version.")
    num_segments_built: int = Field(description="Segments that this run built, merged ones included.")
    num_rows: int = Field(description="Rows of the version.")
    num_rows_built: int = Field(description="Rows that this run put into segments, merging included.")
    num_bytes: int = Field(description="Size of the segments that serve the version.")
    seconds: float

    def summary(self) -> str:
        """Return the outcome in one line."""
        rows = f"{counted(self.num_rows, 'row')} in {counted(self.num_segments, 'segment')}"
        return f"Version {self.version} of the table: {rows}, {self.num_rows_built:,} indexed in this run"


def index_words(
    table_uri: str, *, settings: WordSettings | None = None, check: bool = False, run_id: str = "words"
) -> WordIndexReport:
    """Bring the word index of a table's newest version up to date.

    Args:
        table_uri: the table.
        settings: how its words are indexed.
        check: read every byte of the segments that are there, and build damaged ones again.
        run_id: name of the run, for its lease.

    Raises:
        ColumnError: the table keeps no column of texts.
        NotATableError, StorageError, TableError: the table cannot be read, or storage refuses.
    """
    began = time.monotonic()
    asked = settings or WordSettings()
    table = Table.open(table_uri)
    column = words_text_column(table, asked.text_column)
    fingerprint = words_fingerprint(table, column)
    shards = locate_splits(table.uri, table.shards())
    splits = filled_splits(shards)
    built: list[WordRecord] = []
    with hold_lease(table.uri, run_id, "words"):
        if check:
            _remove_damaged(table.uri)
        missing = list(_missing(table.uri, splits, fingerprint, asked))
        built += [_build(table, shards, column, fingerprint, group) for group in missing]
        while merges := _merges(_serving(table.uri, splits, fingerprint), splits, asked):
            built += [_build(table, shards, column, fingerprint, group) for group in merges]
    serving = _serving(table.uri, splits, fingerprint)
    return WordIndexReport(
        table_uri=table.uri,
        version=table.version,
        column=column,
        num_segments=len(serving),
        num_segments_built=len(built),
        num_rows=sum(splits.values()),
        num_rows_built=sum(record.num_rows for record in built),
        num_bytes=sum(record.data.num_bytes for record, _ in serving),
        seconds=round(time.monotonic() - began, 3),
    )


def drop_words(table_uri: str) -> int:
    """Remove the word index of a table; return the number of its segments."""
    table = Table.open(table_uri)
    names = [record.name for record in read_word_segments(table.uri)]
    remove_word_segments(table.uri, names)
    return len(names)


def read_texts(table: Table, shards: Sequence[TableShard], column: str, splits: Iterable[str]) -> Iterator[pl.Series]:
    """Read the texts of splits in blocks, cleaned as they were encoded; a null is an empty text."""
    cleaning = table_cleaning(table)
    for name in splits:
        for rows in read_split(table.uri, shards, name, [column]):
            texts = pl.Series("text", rows[column].cast("string"), dtype=pl.String)
            yield clean_texts(texts.fill_null(""), cleaning)


def _remove_damaged(table_uri: str) -> None:
    """Remove damaged segments, so that they are built again."""
    for record in read_word_segments(table_uri):
        problem = word_segment_problem(table_uri, record)
        if problem is not None:
            log.warning("a segment of the word index is built again: %s", problem)
            remove_word_segments(table_uri, [record.name])
            forget_segment(join(table_uri, WORDS_FOLDER), record.data.name)


def _serving(table_uri: str, splits: dict[str, int], fingerprint: str) -> list[tuple[WordRecord, frozenset[str]]]:
    return choose_word_segments(read_word_segments(table_uri), splits, fingerprint)


def _missing(
    table_uri: str, splits: dict[str, int], fingerprint: str, settings: WordSettings
) -> Iterator[tuple[WordSplit, ...]]:
    """Yield the splits of each segment to build: splits without a segment, or in a segment with too many rows gone."""
    covered: set[str] = set()
    for record, answered in _serving(table_uri, splits, fingerprint):
        if sum(splits[name] for name in answered) >= (1 - settings.max_gone_share) * record.num_rows:
            covered |= answered
    group: list[WordSplit] = []
    for name in sorted(splits.keys() - covered):
        if group and sum(split.num_rows for split in group) + splits[name] > settings.segment_rows:
            yield tuple(group)
            group = []
        group.append(WordSplit(fingerprint=name, num_rows=splits[name]))
    if group:
        yield tuple(group)


def _merges(
    serving: Sequence[tuple[WordRecord, frozenset[str]]], splits: dict[str, int], settings: WordSettings
) -> list[tuple[WordSplit, ...]]:
    """Return the segments that merging makes: of each size class with `merge_segments` segments all become one."""
    classes: dict[int, list[tuple[WordRecord, frozenset[str]]]] = defaultdict(list)
    for record, answered in serving:
        num_rows = sum(splits[name] for name in answered)
        classes[int(math.log(max(1, num_rows), settings.merge_segments))].append((record, answered))
    merges = []
    for _, segments in sorted(classes.items()):
        names = sorted(name for _, answered in segments for name in answered)
        if len(segments) >= settings.merge_segments and sum(splits[name] for name in names) <= settings.segment_rows:
            merges.append(tuple(WordSplit(fingerprint=name, num_rows=splits[name]) for name in names))
    return merges


def _build(
    table: Table, shards: Sequence[TableShard], column: str, fingerprint: str, group: Sequence[WordSplit]
) -> WordRecord:
    postings = build_postings(read_texts(table, shards, column, [split.fingerprint for split in group]))
    assert len(postings.lengths_R) == sum(split.num_rows for split in group)
    content = postings_bytes(postings)
    name = word_segment_name(fingerprint, group)
    record = WordRecord(
        name=name,
        words_fingerprint=fingerprint,
        column=column,
        splits=tuple(group),
        num_terms=len(postings.terms_T),
        num_postings=int(postings.starts_T[-1]),
        data=word_segment_file(name, content),
    )
    write_word_segment(table.uri, record, content)
    if "://" not in table.uri:
        note_as_checked(join(table.uri, WORDS_FOLDER), record.data.name, record.data)
    return record

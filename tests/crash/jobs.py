"""Jobs on a table that are killed: how each is run, and how a reader sees its output."""

import datetime as dt
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import numpy as np
import polars as pl
from pydantic import BaseModel

from sbert.apply.classification.run import classify
from sbert.apply.classification.settings import ClassificationSettings
from sbert.apply.duplicates.run import find_duplicates
from sbert.apply.monitoring.run import monitor
from sbert.apply.monitoring.settings import MonitoringSettings
from sbert.apply.neighbours.job import NeighboursJob
from sbert.apply.topics.run import find_topics
from sbert.apply.topics.settings import FitSettings, TopicSettings
from sbert.derived.derived_table import DerivedTable
from sbert.derived.run import derive
from sbert.errors import NotATableError
from sbert.index.index_run import index_table
from sbert.index.index_settings import IndexSettings
from sbert.index.search import search_table
from sbert.index.search_settings import SearchMode, SearchSettings
from sbert.index.words.settings import WordSettings
from sbert.index.words.word_index import index_words
from sbert.table.compaction import compact_table
from sbert.table.delta import Table
from sbert.table.shards import ShardSettings

__all__ = ["JOBS", "Job"]

QUERIES = ("red cat on a mat", "the blue train", "select a name 7", "green 42")
NOW = dt.datetime(2026, 11, 1, tzinfo=dt.UTC)
RECALL = 0.9
"""Least recall@10 that searches by an index of a few hundred rows reach here."""


@dataclass(frozen=True)
class Job:
    """A job on ``folder/table``; its output, if it has one of its own, is ``folder/out``."""

    run: Callable[[str], BaseModel]
    look: Callable[[str], Any]
    """Return the output as a reader sees it; None where there is none."""


def _index(folder: str) -> BaseModel:
    report = index_table(f"{folder}/table", settings=IndexSettings(segment_rows=1_000, concurrency=1))
    assert report.num_rows_indexed == report.num_rows
    return report


def _nearest_rows(folder: str) -> list[list[tuple[str, str]]]:
    """Return the rows that exact search finds, after a check that search by the index finds the same version's rows."""
    table = Table.open(f"{folder}/table")
    exact = search_table(table, QUERIES, settings=SearchSettings(exact=True))
    by_index = search_table(table, QUERIES)
    assert by_index.way.version == table.version
    shares = []
    for number in range(len(QUERIES)):
        scores = {(hit.source, hit.id): hit.score for hit in exact.hits(number)}
        seen = {(hit.source, hit.id): hit.score for hit in by_index.hits(number)}
        assert len(seen) == len(scores)
        common = scores.keys() & seen.keys()
        np.testing.assert_allclose([seen[key] for key in common], [scores[key] for key in common], atol=1e-5)
        shares.append(len(common) / len(scores))
    assert np.mean(shares) >= RECALL
    return [sorted((hit.source, hit.id) for hit in exact.hits(number)) for number in range(len(QUERIES))]


def _index_words(folder: str) -> BaseModel:
    report = index_words(f"{folder}/table", settings=WordSettings(text_column="text"))
    assert report.num_segments
    return report


def _rows_by_words(folder: str) -> list[list[tuple[str, str, float]]]:
    """Return the rows that search by words finds; splits without a segment are read."""
    result = search_table(
        Table.open(f"{folder}/table"), QUERIES, settings=SearchSettings(mode=SearchMode.WORDS, words_column="text")
    )
    return [
        sorted((hit.source, hit.id, round(hit.score, 4)) for hit in result.hits(number))
        for number in range(len(QUERIES))
    ]


def _classify(folder: str) -> BaseModel:
    return classify(f"{folder}/table", f"{folder}/labels.jsonl", f"{folder}/out", ClassificationSettings())


def _topics(folder: str) -> BaseModel:
    settings = TopicSettings(fit=FitSettings(num_topics=5, min_topic_rows=3), text_column="text")
    return find_topics(f"{folder}/table", f"{folder}/out", settings)


def _monitor(folder: str) -> BaseModel:
    settings = MonitoringSettings(time_column="day", topic_column="kind", series=("volume",))
    return monitor(f"{folder}/table", f"{folder}/out", settings, now=NOW)


def _derived_rows(folder: str) -> pl.DataFrame | None:
    """Return the rows of the derived table, ordered; None where there is none yet."""
    try:
        table = DerivedTable.open(f"{folder}/out")
    except NotATableError:
        return None
    rows = table.scan().collect()
    return rows.sort([name for name, dtype in rows.schema.items() if not dtype.is_nested()])


def _compact(folder: str) -> BaseModel:
    return compact_table(f"{folder}/table", ShardSettings(shard_rows=10_000))


def _embeddings(folder: str) -> pl.DataFrame:
    return Table.open(f"{folder}/table").scan().collect().sort("source", "id")


JOBS = {
    "index": Job(_index, _nearest_rows),
    "index-words": Job(_index_words, _rows_by_words),
    "compact": Job(_compact, _embeddings),
    "neighbours": Job(lambda folder: derive(NeighboursJob(k=5), f"{folder}/table", f"{folder}/out"), _derived_rows),
    "duplicates": Job(lambda folder: find_duplicates(f"{folder}/table", f"{folder}/out"), _derived_rows),
    "topics": Job(_topics, _derived_rows),
    "classify": Job(_classify, _derived_rows),
    "monitor": Job(_monitor, _derived_rows),
}
"""The jobs by the names of their commands."""

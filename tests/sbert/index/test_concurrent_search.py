"""Searches while other runs refresh, index and compact the table: each answer is of one version."""

import contextlib
import threading
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest

from sbert.errors import CommitConflictError
from sbert.index.index_run import index_table
from sbert.index.search import search_table
from sbert.index.search_settings import SearchSettings
from sbert.table.compaction import compact_table
from sbert.table.delta import Table
from sbert.table.shards import ShardSettings
from tests.support.made_tables import State, make_version, unit_vector

NUM_NIGHTS = 8
ROWS_OF_SOURCE = 120


def state_of(night: int) -> State:
    """Return the rows after a night: one source joins, one leaves, and a row of each that stays gets another vector."""
    return {
        f"s{number}": {
            str(row): 10_000 * number + row + (1_000 * night if row == 0 else 0) for row in range(ROWS_OF_SOURCE)
        }
        for number in range(night, night + 3)
    }


def commit_night(uri: str, night: int) -> int:
    """Commit the rows after a night, again when a compaction came first; return the version."""
    while True:
        with contextlib.suppress(CommitConflictError):
            return make_version(uri, state_of(night)).version


def test_searches_beside_refresh_index_and_compaction_answer_for_one_version(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))
    uri = str(tmp_path / "table")
    state_of_version = {make_version(uri, state_of(0)).version: state_of(0)}
    is_over = threading.Event()
    failures: list[BaseException] = []

    def repeat(work: Callable[[], object]) -> threading.Thread:
        def until_over() -> None:
            try:
                while not is_over.is_set():
                    work()
            except BaseException as error:
                failures.append(error)

        thread = threading.Thread(target=until_over)
        thread.start()
        return thread

    others = [
        repeat(lambda: index_table(uri)),
        repeat(lambda: compact_table(uri, ShardSettings(shard_rows=100_000))),
    ]
    versions = set()
    try:
        for night in range(1, NUM_NIGHTS + 1):
            state_of_version[commit_night(uri, night)] = state_of(night)
            for _ in range(4):
                table = Table.open(uri)
                of_rows = state_of_version[max(version for version in state_of_version if version <= table.version)]
                numbers = [of_rows[source][row] for source in of_rows for row in ("0", "7", "77")]
                queries = np.array([unit_vector(number) for number in numbers])
                for exact in (False, True):
                    result = search_table(table, queries, settings=SearchSettings(k=1, exact=exact))
                    assert result.way.version == table.version
                    versions.add(table.version)
                    for query, number in enumerate(numbers):
                        (hit,) = result.hits(query)
                        assert of_rows[hit.source][hit.id] == number
                        assert hit.score == pytest.approx(1, abs=1e-5)
    finally:
        is_over.set()
        for thread in others:
            thread.join()
    assert failures == []
    assert len(versions) >= NUM_NIGHTS

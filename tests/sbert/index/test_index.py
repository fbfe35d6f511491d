"""The index: it finds what exact search finds in the version that is read, and costs what changed."""

from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from sbert.index.index_run import drop_index, index_table
from sbert.index.index_settings import IndexSettings
from sbert.index.search import search_table
from sbert.index.search_settings import SearchSettings
from sbert.table.compaction import compact_table
from sbert.table.delta import Table
from sbert.table.shards import ShardSettings
from sbert.table.vacuum import vacuum_table
from sbert.table.vector_segments import read_segments
from tests.sbert.index.indexed_tables import NUM_ROWS, assert_finds_what_exact_search_finds, queries, state_of
from tests.support.made_tables import make_version
from tests.support.refreshing import refreshed
from tests.support.tables import rows, write

pytestmark = pytest.mark.usefixtures("own_cache")


def test_an_index_finds_the_rows_of_its_version_and_knows_its_recall(tmp_path: Path) -> None:
    table = make_version(str(tmp_path / "table"), state_of(0, 1, 2))
    report = index_table(table.uri)
    assert report.num_segments == report.num_segments_built == 1
    assert report.num_rows == report.num_rows_indexed == 3 * NUM_ROWS
    assert report.recall is not None
    assert report.recall.num_queries == 200
    assert report.recall.low <= report.recall_at_10 <= report.recall.high
    assert report.recall_at_10 >= 0.95
    (record,), _ = read_segments(table.uri)
    assert record.recall.value >= 0.95
    result = assert_finds_what_exact_search_finds(table)
    assert result.way.describe() == "index of 1 segment, 900 rows of version 0"


def test_an_index_that_is_up_to_date_costs_nothing(tmp_path: Path) -> None:
    table = make_version(str(tmp_path / "table"), state_of(0, 1))
    index_table(table.uri)
    again = index_table(table.uri)
    assert again.num_segments_built == 0
    assert again.num_rows_built == 0
    assert again.recall_at_10 is not None


def test_rows_without_a_segment_are_searched_exactly_and_the_answer_says_so(tmp_path: Path) -> None:
    table = make_version(str(tmp_path / "table"), state_of(0, 1))
    index_table(table.uri)
    newer = make_version(table.uri, state_of(0, 1, 2))
    result = assert_finds_what_exact_search_finds(newer)
    assert result.way.num_splits_without_segment == 1
    assert "1 split without a segment exactly" in result.way.describe()
    report = index_table(table.uri)
    assert report.num_rows_built == NUM_ROWS
    assert search_table(newer, queries()).way.num_splits_without_segment == 0


def test_a_row_that_left_is_never_found_and_an_old_version_still_finds_it(tmp_path: Path) -> None:
    table = make_version(str(tmp_path / "table"), state_of(0, 1, 2, 3))
    index_table(table.uri)
    newer = make_version(table.uri, state_of(1, 2, 3))
    assert_finds_what_exact_search_finds(newer)
    hits = search_table(newer, queries(), settings=SearchSettings(k=50))
    assert "s0" not in hits.rows["source"].to_list()
    older = search_table(Table.open(table.uri, 0), queries(), settings=SearchSettings(k=50))
    assert "s0" in older.rows["source"].to_list()
    assert older.way.by_index


def test_a_segment_that_lost_many_rows_is_built_anew(tmp_path: Path) -> None:
    table = make_version(str(tmp_path / "table"), state_of(0, 1, 2))
    index_table(table.uri)
    make_version(table.uri, state_of(0, 1))
    report = index_table(table.uri)  # a third is gone, 30 % are accepted
    assert report.num_rows_built == 2 * NUM_ROWS
    assert_finds_what_exact_search_finds(Table.open(table.uri))


def test_a_segment_that_was_built_anew_serves_in_place_of_the_former(tmp_path: Path) -> None:
    for first in range(0, 30, 3):  # the hash in a segment's name decides nothing
        folder = str(tmp_path / f"table{first}")
        make_version(folder, state_of(first, first + 1, first + 2, num_rows=40))
        index_table(folder)
        make_version(folder, state_of(first, first + 1, num_rows=40))
        assert index_table(folder).num_rows_built == 80
        assert index_table(folder).num_rows_built == 0
        vacuum_table(folder, retention_hours=0, apply=True)
        assert index_table(folder).num_rows_built == 0


def test_segments_merge_so_that_their_number_stays_small(tmp_path: Path) -> None:
    folder = str(tmp_path / "table")
    for night in range(9):
        make_version(folder, state_of(*range(night + 1), num_rows=60))
        report = index_table(folder)
        assert report.num_rows_indexed == (night + 1) * 60
        assert report.num_segments <= 6
        assert report.recall_at_10 is not None
        assert report.recall_at_10 >= 0.95
    assert_finds_what_exact_search_finds(Table.open(folder))


def test_after_a_compaction_the_index_serves_as_before(tmp_path: Path) -> None:
    table = make_version(str(tmp_path / "table"), state_of(0, 1, 2))
    index_table(table.uri)
    compact_table(table.uri, ShardSettings(shard_rows=10_000))
    compacted = Table.open(table.uri)
    assert len(compacted.shards()) == 1
    assert_finds_what_exact_search_finds(compacted)
    assert index_table(table.uri).num_rows_built == 0


def test_another_encoder_never_uses_the_segments_of_the_one_before(tmp_path: Path) -> None:
    table = make_version(str(tmp_path / "table"), state_of(0, 1))
    index_table(table.uri)
    switched = make_version(table.uri, state_of(0, 1), encoder_number=1)
    assert not search_table(switched, queries()).way.by_index
    assert index_table(table.uri).num_rows_built == 2 * NUM_ROWS
    assert_finds_what_exact_search_finds(switched)


@pytest.mark.parametrize("where", ["id = '7'", "price > 20", "flag", "kind like 'kind 1%' or price < 3", "price > 1e9"])
def test_filters_and_the_index_find_what_exact_search_finds(tmp_path: Path, where: str) -> None:
    table = make_version(str(tmp_path / "table"), state_of(0, 1))
    index_table(table.uri)
    newer = make_version(table.uri, state_of(0, 1, 2))
    assert_finds_what_exact_search_finds(newer, where, least=0.95)


def test_a_search_leaves_the_threads_of_others_alone(tmp_path: Path) -> None:
    table = make_version(str(tmp_path / "table"), state_of(0))
    before = torch.get_num_threads()
    try:
        for threads in (1, 3):
            torch.set_num_threads(threads)
            index_table(table.uri)
            search_table(table, queries())
            search_table(table, queries(1))
            assert torch.get_num_threads() == threads
            drop_index(table.uri)
    finally:
        torch.set_num_threads(before)


def test_settings_of_an_earlier_release_are_accepted_with_a_warning(caplog: pytest.LogCaptureFixture) -> None:
    assert IndexSettings.model_validate({"connectivity": 8, "expansion_add": 64}) == IndexSettings()
    assert "connectivity and expansion_add" in caplog.text
    assert "list_factor" in caplog.text


@pytest.mark.parametrize("encoding", [{"precision": "int8"}, {"normalize": False}])
def test_quantized_and_unnormalized_vectors_are_indexed_too(
    tmp_path: Path, model: str, encoding: dict[str, Any]
) -> None:
    raw = write(tmp_path / "raw.jsonl", rows(0, 300))
    refreshed(raw, tmp_path / "table", model=model, settings={"encoding": {**encoding, "min_recall": 0}})
    table = Table.open(str(tmp_path / "table"))
    index_table(table.uri)
    vectors = np.random.default_rng(0).standard_normal((20, table.encoder.dim)).astype(np.float32)
    result = search_table(table, vectors)
    exact = search_table(table, vectors, settings=SearchSettings(exact=True))
    assert result.way.by_index
    scores, wanted = (set(part.places["score"].round(4).to_list()) for part in (result, exact))
    assert len(scores & wanted) >= 0.95 * len(wanted)


def test_a_table_without_rows_has_an_index_without_segments(tmp_path: Path) -> None:
    table = make_version(str(tmp_path / "table"), {})
    report = index_table(table.uri)
    assert report.num_segments == report.num_rows == 0
    assert report.recall_at_10 is None
    assert search_table(table, queries()).places.is_empty()

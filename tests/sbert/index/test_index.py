"""The index: it finds what exact search finds, knows its recall, and costs what changed."""

import json
import logging
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest
import torch

from sbert.errors import QualityError
from sbert.index import index_run, inverted_file, segment, segment_build
from sbert.index.index_run import drop_index, index_table
from sbert.index.index_settings import IndexSettings
from sbert.index.search import search_table
from sbert.index.search_settings import SearchSettings
from sbert.table.compaction import compact_table
from sbert.table.delta import Table
from sbert.table.segment_check import index_findings
from sbert.table.shards import ShardSettings
from sbert.table.vacuum import vacuum_table
from sbert.table.vector_segments import INDEX_FOLDER, read_segments
from sbert.table.verify import verify_table
from tests.support.made_tables import State, make_version, unit_vector
from tests.support.refreshing import refreshed
from tests.support.tables import rows, write

NUM_ROWS = 300


@pytest.fixture(autouse=True)
def _own_cache(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))


def state_of(*sources: int, num_rows: int = NUM_ROWS) -> State:
    return {f"s{number}": {str(row): number * 1_000 + row for row in range(num_rows)} for number in sources}


def queries(num: int = 20) -> Any:
    return np.array([unit_vector(500_000 + number) for number in range(num)])


def assert_finds_what_exact_search_finds(table: Table, where: str | None = None, least: float = 0.97) -> Any:
    """Compare the ten nearest rows of twenty queries, and their scores."""
    result = search_table(table, queries(), settings=SearchSettings(where=where))
    exact = search_table(table, queries(), settings=SearchSettings(where=where, exact=True))
    shares = []
    for number in range(20):
        scores = {(hit.source, hit.id): hit.score for hit in result.hits(number)}
        wanted = {(hit.source, hit.id): hit.score for hit in exact.hits(number)}
        assert len(scores) == len(wanted)
        shares.append(len(scores.keys() & wanted.keys()) / len(wanted) if wanted else 1)
        for key in scores.keys() & wanted.keys():
            assert scores[key] == pytest.approx(wanted[key], abs=1e-6)
    assert np.mean(shares) >= least
    return result


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


@pytest.mark.parametrize("damage", ["gone", "torn", "flipped", "record"])
def test_a_broken_segment_is_named_left_out_and_built_again(
    tmp_path: Path, damage: str, caplog: pytest.LogCaptureFixture
) -> None:
    table = make_version(str(tmp_path / "table"), state_of(0, 1))
    index_table(table.uri)
    (record,), _ = read_segments(table.uri)
    path = Path(table.uri) / INDEX_FOLDER / record.lists.name
    content = path.read_bytes()
    if damage == "gone":
        path.unlink()
    elif damage == "torn":
        path.write_bytes(content[:-100])
    elif damage == "record":
        (Path(table.uri) / INDEX_FOLDER / f"{record.name}.json").write_text("{")
    else:
        flipped = bytearray(content)
        flipped[len(content) // 2] ^= 4
        path.write_bytes(flipped)
    assert any("_index" in finding for finding in verify_table(table.uri).findings)
    with caplog.at_level(logging.WARNING):
        result = search_table(table, queries())
    assert f"the segment {record.name} is broken" in caplog.text
    assert not result.way.by_index
    report = index_table(table.uri, check=damage == "flipped")
    assert report.num_segments_broken == 1
    assert report.num_rows_built == 2 * NUM_ROWS
    assert_finds_what_exact_search_finds(table)
    assert index_findings(table.uri) == []


def test_a_recall_that_is_too_low_gets_larger_codes(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(inverted_file, "FEW_ROWS", 100)
    table = make_version(str(tmp_path / "table"), state_of(0, 1))
    tried = []
    real = segment_build._tune

    def noted(lists: Any, stored: Any, settings: Any) -> Any:
        tuned = real(lists, stored, settings)
        tried.append(tuned.recall.value)
        return tuned

    monkeypatch.setattr(segment_build, "_tune", noted)
    monkeypatch.setattr(segment, "EXTRA_PROPOSED", 0)  # so that the order by codes decides
    index_table(table.uri, settings=IndexSettings(min_recall=0.97))
    (record,), _ = read_segments(table.uri)
    assert tried[0] < 0.97 <= tried[1] == record.recall.value
    assert record.codes == "scalar"
    assert record.num_lists == 37  # 1.5 times the root of 600
    assert record.probes <= 37
    assert_finds_what_exact_search_finds(table)


def test_a_recall_that_stays_too_low_is_refused_and_search_is_exact(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    monkeypatch.setattr(inverted_file, "FEW_ROWS", 100)
    table = make_version(str(tmp_path / "table"), state_of(0, 1))
    with pytest.raises(
        QualityError, match=r"recall@10 of 0\.\d+ at most, but min_recall is 0.95.*raise max_probes \(1\)"
    ):
        index_table(table.uri, settings=IndexSettings(max_probes=1))
    assert [line for line in caplog.messages if "product codes and 1 list a query" in line]
    assert [line for line in caplog.messages if "scalar codes and 1 list a query" in line]
    assert not search_table(table, queries()).way.by_index
    assert index_table(table.uri).num_segments == 1
    assert_finds_what_exact_search_finds(table)


def test_vacuum_removes_segments_that_no_longer_serve(tmp_path: Path) -> None:
    folder = str(tmp_path / "table")
    for night in range(4):
        make_version(folder, state_of(*range(night + 1), num_rows=60))
        index_table(folder)
    assert len(read_segments(folder)[0]) == 5  # four nights, and the segment that they were merged into
    removed = vacuum_table(folder, retention_hours=0, apply=True).files
    assert sum(name.endswith(".lists") for name in removed) == 4
    assert len(read_segments(folder)[0]) == 1
    assert index_findings(folder) == []
    assert_finds_what_exact_search_finds(Table.open(folder))


def test_two_runs_that_build_one_segment_leave_one(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    table = make_version(str(tmp_path / "table"), state_of(0, 1))
    real = segment_build.write_segment

    def beaten(table_uri: str, record: Any) -> Any:
        monkeypatch.setattr(segment_build, "write_segment", real)
        index_table(table_uri)
        return real(table_uri, record)

    monkeypatch.setattr(segment_build, "write_segment", beaten)
    assert index_table(table.uri).num_segments == 1
    files = sorted(path.suffix for path in (Path(table.uri) / INDEX_FOLDER).iterdir())
    assert files == [".json", ".json", ".lists", ".vectors"]  # one record of the segment, one of the version
    assert_finds_what_exact_search_finds(table)


@pytest.mark.parametrize("moment", ["_publish", "write_segment"])
def test_a_run_that_is_killed_leaves_nothing_that_is_searched_and_the_next_one_finishes(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, moment: str
) -> None:
    table = make_version(str(tmp_path / "table"), state_of(0, 1))

    def killed(*_: object) -> None:
        raise KeyboardInterrupt

    with monkeypatch.context() as patch:
        patch.setattr(segment_build, moment, killed)
        with pytest.raises(KeyboardInterrupt):
            index_table(table.uri)
    assert not search_table(table, queries()).way.by_index
    assert index_table(table.uri).num_segments_built == 1
    assert_finds_what_exact_search_finds(table)
    vacuum_table(table.uri, retention_hours=0, apply=True)
    files = sorted(path.suffix for path in (Path(table.uri) / INDEX_FOLDER).iterdir())
    assert files == [".json", ".json", ".lists", ".vectors"]


def test_a_query_looks_into_no_more_lists_than_the_recall_needs(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(inverted_file, "FEW_ROWS", 100)
    table = make_version(str(tmp_path / "table"), state_of(0, 1))
    monkeypatch.setattr(segment_build, "PROBES", (1, 2, 4, 8, 16))
    probes = []
    for aimed in (0.5, 1):
        drop_index(table.uri)
        report = index_table(table.uri, settings=IndexSettings(min_recall=0.5, aimed_recall=aimed))
        assert report.recall_at_10 is not None
        assert report.recall_at_10 >= 0.5
        probes.append(report.probes)
    assert probes[0] < probes[1]


@pytest.fixture
def _narrow(monkeypatch: pytest.MonkeyPatch) -> None:
    """Let even small segments have many lists, of which a query looks into few."""
    monkeypatch.setattr(inverted_file, "FEW_ROWS", 100)
    monkeypatch.setattr(segment_build, "PROBES", (1, 2, 4, 8, 16, 32, 64))


NARROW = IndexSettings(min_recall=0.5, aimed_recall=0.9, list_factor=3)


@pytest.mark.usefixtures("_narrow")
@pytest.mark.parametrize("k", [10, 500, 1_000])
def test_every_query_gets_as_many_rows_as_it_asks_for(tmp_path: Path, k: int) -> None:
    table = make_version(str(tmp_path / "table"), state_of(0, 1, 2))
    assert index_table(table.uri, settings=NARROW).probes < 16  # of 90 lists
    result = search_table(table, queries(), settings=SearchSettings(k=k))
    assert result.way.by_index
    assert all(len(result.hits(number)) == min(k, 900) for number in range(20))


@pytest.mark.usefixtures("_narrow")
@pytest.mark.parametrize("where", ["flag", "kind like 'kind 1%'"])
def test_a_filter_does_not_lower_the_recall(tmp_path: Path, where: str) -> None:
    table = make_version(str(tmp_path / "table"), state_of(0, 1, 2))
    index_table(table.uri, settings=NARROW)
    assert_finds_what_exact_search_finds(table, where, least=0.97)


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


def test_a_low_recall_of_given_queries_stays_until_they_are_given_again(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    table = make_version(str(tmp_path / "table"), state_of(0))

    class Encoder:
        def __init__(self, table: Table) -> None: ...

        def encode_queries(self, texts: list[str]) -> Any:
            return SimpleNamespace(vectors_QD=queries(len(texts)))

    monkeypatch.setattr(index_run, "QueryEncoder", Encoder)
    real = index_run._Run._recall
    lowered = []

    def low(self: Any, view: Any, own: Any, *rest: Any) -> Any:
        recall = real(self, view, own, *rest)
        is_given = bool((own == -1).all())
        return recall.model_copy(update={"value": 0.2}) if is_given and lowered else recall

    monkeypatch.setattr(index_run._Run, "_recall", low)
    lowered.append(True)
    with pytest.raises(QualityError, match=r"recall@10 of the whole index is 0\.200"):
        index_table(table.uri, queries=["a", "b"])
    with pytest.raises(QualityError, match=r"recall@10 of the whole index is 0\.200"):
        index_table(table.uri)
    assert not search_table(table, queries()).way.by_index
    accepted = index_table(table.uri, settings=IndexSettings(min_recall=0.1)).labelled_recall
    assert accepted is not None
    assert accepted.value == 0.2
    assert search_table(table, queries()).way.by_index
    with pytest.raises(QualityError, match=r"recall@10 of the whole index is 0\.200, min_recall is 0\.95"):
        index_table(table.uri)
    lowered.clear()
    assert index_table(table.uri, queries=["a", "b"]).labelled_recall is not None
    assert search_table(table, queries()).way.by_index


@pytest.mark.usefixtures("_narrow")
@pytest.mark.parametrize("encoding", [{"precision": "int8"}, {"normalize": False}])
def test_lists_of_other_vectors_find_their_neighbours_too(tmp_path: Path, model: str, encoding: dict[str, Any]) -> None:
    raw = write(tmp_path / "raw.jsonl", rows(0, 600))
    refreshed(raw, tmp_path / "table", model=model, settings={"encoding": {**encoding, "min_recall": 0}})
    report = index_table(str(tmp_path / "table"))
    (record,), _ = read_segments(str(tmp_path / "table"))
    assert record.num_lists > 30
    assert report.recall_at_10 is not None
    assert report.recall_at_10 >= 0.95


def test_an_index_of_an_earlier_release_is_neither_used_nor_called_broken(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    table = make_version(str(tmp_path / "table"), state_of(0))
    name = f"segment-{'0' * 32}"
    folder = Path(table.uri) / INDEX_FOLDER
    folder.mkdir()
    for file in (f"{name}.json", f"{name}-00000000.graph", f"{name}-00000000.vectors"):
        (folder / file).write_text("{}")
    assert not search_table(table, queries()).way.by_index
    assert index_table(table.uri).num_segments_built == 1
    assert not caplog.messages
    removed = vacuum_table(table.uri, retention_hours=0, apply=True).files
    assert sum(name in file for file in removed) == 3


def test_more_lists_than_rows_allow_are_not_made(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(inverted_file, "FEW_ROWS", 100)
    table = make_version(str(tmp_path / "table"), state_of(0, 1))
    index_table(table.uri, settings=IndexSettings(list_factor=100))
    (record,), _ = read_segments(table.uri)
    assert record.num_lists == 600 // 8
    assert_finds_what_exact_search_finds(table)


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


def test_dropping_the_index_makes_search_exact(tmp_path: Path) -> None:
    table = make_version(str(tmp_path / "table"), state_of(0))
    index_table(table.uri)
    former = f"segment-{'0' * 32}"
    for file in (f"{former}.json", f"{former}-00000000.graph", f"{former}-00000000.vectors"):
        (Path(table.uri) / INDEX_FOLDER / file).write_text("{}")
    assert drop_index(table.uri) == 1
    assert not search_table(table, queries()).way.by_index
    assert not list((Path(table.uri) / INDEX_FOLDER).iterdir())


def test_a_table_in_object_storage_is_searched_from_a_cache_that_keeps_its_limit(
    s3_bucket: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    table = make_version(f"{s3_bucket}/table", state_of(0, 1))
    index_table(table.uri)
    assert_finds_what_exact_search_finds(table)
    cache = tmp_path / "cache" / "sbert" / "index"
    copies = [path for path in cache.rglob("*") if path.is_file()]
    assert sorted(path.suffix for path in copies) == [".lists", ".vectors"]
    other = make_version(f"{s3_bucket}/other", state_of(7))
    index_table(other.uri)
    monkeypatch.setenv("SBERT_INDEX_CACHE_BYTES", "1")
    search_table(other, queries())
    assert {path.parent for path in cache.rglob("*.lists")}.isdisjoint({path.parent for path in copies})
    assert len(list(cache.rglob("*.lists"))) == 1


def test_records_hold_what_a_reader_of_the_table_needs(tmp_path: Path) -> None:
    table = make_version(str(tmp_path / "table"), state_of(0))
    index_table(table.uri, settings=IndexSettings(list_factor=2))
    (path,) = (Path(table.uri) / INDEX_FOLDER).glob("ivf-*.json")
    record = json.loads(path.read_text())
    assert record["num_lists"] == record["probes"] == 1  # few rows: a single list
    assert record["codes"] == "scalar"
    assert record["recall"]["num_queries"] == 200
    assert [split["num_rows"] for split in record["splits"]] == [NUM_ROWS]

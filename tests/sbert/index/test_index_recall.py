"""The lists of a segment: as many are looked into as the recall needs, for every query, filter and kind of vector."""

from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest

from sbert.errors import QualityError
from sbert.index import index_run, inverted_file, segment, segment_build
from sbert.index.index_run import drop_index, index_table
from sbert.index.index_settings import IndexSettings
from sbert.index.search import search_table
from sbert.index.search_settings import SearchSettings
from sbert.table.delta import Table
from sbert.table.vector_segments import read_segments
from tests.sbert.index.indexed_tables import assert_finds_what_exact_search_finds, queries, state_of
from tests.support.made_tables import make_version
from tests.support.refreshing import refreshed
from tests.support.tables import rows, write

pytestmark = pytest.mark.usefixtures("own_cache")
NARROW = IndexSettings(min_recall=0.5, aimed_recall=0.9, list_factor=3)
"""Settings of small segments with many lists, of which a query looks into few (`narrow`)."""


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


def test_more_lists_than_rows_allow_are_not_made(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(inverted_file, "FEW_ROWS", 100)
    table = make_version(str(tmp_path / "table"), state_of(0, 1))
    index_table(table.uri, settings=IndexSettings(list_factor=100))
    (record,), _ = read_segments(table.uri)
    assert record.num_lists == 600 // 8
    assert_finds_what_exact_search_finds(table)


@pytest.fixture
def narrow(monkeypatch: pytest.MonkeyPatch) -> None:
    """Let even small segments have many lists, of which a query looks into few."""
    monkeypatch.setattr(inverted_file, "FEW_ROWS", 100)
    monkeypatch.setattr(segment_build, "PROBES", (1, 2, 4, 8, 16, 32, 64))


@pytest.mark.usefixtures("narrow")
@pytest.mark.parametrize("k", [10, 500, 1_000])
def test_every_query_gets_as_many_rows_as_it_asks_for(tmp_path: Path, k: int) -> None:
    table = make_version(str(tmp_path / "table"), state_of(0, 1, 2))
    assert index_table(table.uri, settings=NARROW).probes < 16  # of 90 lists
    result = search_table(table, queries(), settings=SearchSettings(k=k))
    assert result.way.by_index
    assert all(len(result.hits(number)) == min(k, 900) for number in range(20))


@pytest.mark.usefixtures("narrow")
@pytest.mark.parametrize("where", ["flag", "kind like 'kind 1%'"])
def test_a_filter_does_not_lower_the_recall(tmp_path: Path, where: str) -> None:
    table = make_version(str(tmp_path / "table"), state_of(0, 1, 2))
    index_table(table.uri, settings=NARROW)
    assert_finds_what_exact_search_finds(table, where, least=0.97)


@pytest.mark.usefixtures("narrow")
@pytest.mark.parametrize("encoding", [{"precision": "int8"}, {"normalize": False}])
def test_lists_of_other_vectors_find_their_neighbours_too(tmp_path: Path, model: str, encoding: dict[str, Any]) -> None:
    raw = write(tmp_path / "raw.jsonl", rows(0, 600))
    refreshed(raw, tmp_path / "table", model=model, settings={"encoding": {**encoding, "min_recall": 0}})
    report = index_table(str(tmp_path / "table"))
    (record,), _ = read_segments(str(tmp_path / "table"))
    assert record.num_lists > 30
    assert report.recall_at_10 is not None
    assert report.recall_at_10 >= 0.95


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

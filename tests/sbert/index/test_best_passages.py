"""Search for documents: the best passage of each, as many documents as there are."""

from pathlib import Path

import polars as pl
import pytest

from sbert.errors import ColumnError
from sbert.index.best_passages import search_documents
from sbert.index.query_file import search_file
from sbert.index.search import Searcher
from sbert.index.search_settings import SearchResult, SearchSettings
from sbert.index.words.settings import words_text_column
from sbert.table.delta import Table
from tests.support.refreshing import refreshed
from tests.support.tables import rows, texts, write

CUT = {"source": {"passages": {"max_tokens": 16}}}


@pytest.fixture
def searcher(tmp_path: Path, model: str) -> Searcher:
    """A table of six documents; the first has most of the passages."""
    lines: list[dict[str, object]] = [
        {"id": f"d{number}", "text": " ".join(f"{text.capitalize()}." for text in texts(100 * number, count))}
        for number, count in enumerate([60, 2, 3, 4, 5, 6])
    ]
    write(tmp_path / "raw/a.jsonl", lines)
    refreshed(tmp_path / "raw", tmp_path / "table", model, CUT)
    return Searcher(Table.open(str(tmp_path / "table")))


def test_each_document_is_there_once_with_its_best_passage(searcher: Searcher) -> None:
    query = texts(0, 1)[0]
    answer = search_documents(searcher, query, settings=SearchSettings(k=10))
    every = searcher.search(query, settings=SearchSettings(k=1_000)).hits()
    best: dict[str, tuple[str, float]] = {}
    for hit in every:
        best.setdefault(hit.kept["document_id"], (hit.id, hit.score))
    assert [(hit.kept["document_id"], hit.id) for hit in answer.hits()] == [
        (name, row) for name, (row, _) in best.items()
    ]
    assert answer.places["rank"].to_list() == [1, 2, 3, 4, 5, 6]


def test_more_passages_are_read_until_there_are_enough_documents(searcher: Searcher) -> None:
    answer = search_documents(searcher, [texts(0, 1)[0], texts(300, 1)[0]], settings=SearchSettings(k=3))
    assert answer.places["query"].to_list() == [0, 0, 0, 1, 1, 1]
    for query in (0, 1):
        assert len({hit.kept["document_id"] for hit in answer.hits(query)}) == 3


def test_each_query_gets_the_documents_that_it_gets_alone(searcher: Searcher) -> None:
    # The first document has most passages: some queries are searched again for more rows, others are not.
    queries = [texts(0, 1)[0], texts(300, 1)[0], texts(3, 1)[0], texts(500, 1)[0]]
    settings = SearchSettings(k=4)
    together = search_documents(searcher, queries, settings=settings)
    for number, query in enumerate(queries):
        alone = search_documents(searcher, query, settings=settings)
        assert [hit.id for hit in together.hits(number)] == [hit.id for hit in alone.hits()]
        assert together.places.filter(pl.col("query") == number)["rank"].to_list() == [1, 2, 3, 4]
    assert together.places["query"].is_sorted()


def test_only_queries_with_too_few_documents_are_searched_again(
    searcher: Searcher, monkeypatch: pytest.MonkeyPatch
) -> None:
    candidates, settings = [texts(number, 1)[0] for number in range(0, 560, 20)], SearchSettings(k=4)
    first = searcher.search(candidates, settings=SearchSettings(k=16))
    num_documents = [len({hit.kept["document_id"] for hit in first.hits(number)}) for number in range(len(candidates))]
    queries = [
        next(query for query, number in zip(candidates, num_documents, strict=True) if (number < 4) is is_short)
        for is_short in (True, False)
    ]
    searched: list[list[str]] = []
    search = searcher.search

    def recorded(asked: list[str], *, settings: SearchSettings) -> SearchResult:
        searched.append(asked)
        return search(asked, settings=settings)

    monkeypatch.setattr(searcher, "search", recorded)
    search_documents(searcher, queries, settings=settings)
    assert searched == [queries, queries[:1]]


def test_a_file_of_queries_is_searched_for_documents(searcher: Searcher, tmp_path: Path) -> None:
    write(tmp_path / "queries.jsonl", [{"id": "q1", "text": texts(0, 1)[0]}, {"id": "q2", "text": texts(300, 1)[0]}])
    report = search_file(
        searcher.table,
        str(tmp_path / "queries.jsonl"),
        str(tmp_path / "hits.parquet"),
        settings=SearchSettings(k=3),
        per_document=True,
    )
    assert report.num_hits == 6
    hits = pl.read_parquet(tmp_path / "hits.parquet")
    assert hits["query_id"].to_list() == ["q1"] * 3 + ["q2"] * 3
    assert hits.group_by("query_id").agg(pl.col("document_id").n_unique())["document_id"].to_list() == [3, 3]


def test_a_filter_holds_for_the_passages(searcher: Searcher) -> None:
    settings = SearchSettings(k=5, where="document_id in ('d1', 'd2')")
    answer = search_documents(searcher, "anything", settings=settings)
    assert sorted(hit.kept["document_id"] for hit in answer.hits()) == ["d1", "d2"]


def test_the_words_that_are_searched_are_those_of_the_passages(searcher: Searcher) -> None:
    assert words_text_column(searcher.table) == "passage"


def test_a_table_without_passages_is_refused(tmp_path: Path, model: str) -> None:
    write(tmp_path / "raw/a.jsonl", rows(0, 3))
    refreshed(tmp_path / "raw", tmp_path / "table", model)
    with pytest.raises(ColumnError, match="its rows are not passages"):
        search_documents(Searcher(Table.open(str(tmp_path / "table"))), "anything")

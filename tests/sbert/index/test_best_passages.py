"""Search for documents: the best passage of each, as many documents as there are."""

from pathlib import Path

import pytest

from sbert.errors import ColumnError
from sbert.index.best_passages import search_documents
from sbert.index.search import Searcher
from sbert.index.search_settings import SearchSettings
from sbert.index.words.settings import words_text_column
from sbert.table.delta import Table
from tests.support.refreshing import refresh_table
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
    refresh_table(tmp_path / "raw", tmp_path / "table", model, CUT)
    return Searcher(Table.open(str(tmp_path / "table")))


def test_each_document_is_there_once_with_its_best_passage(searcher: Searcher) -> None:
    query = texts(0, 1)[0]
    found = search_documents(searcher, query, settings=SearchSettings(k=10))
    every = searcher.search(query, settings=SearchSettings(k=1_000)).hits()
    best: dict[str, tuple[str, float]] = {}
    for hit in every:
        best.setdefault(hit.kept["document_id"], (hit.id, hit.score))
    assert [(hit.kept["document_id"], hit.id) for hit in found.hits()] == [
        (name, row) for name, (row, _) in best.items()
    ]
    assert found.places["rank"].to_list() == [1, 2, 3, 4, 5, 6]


def test_more_passages_are_read_until_there_are_enough_documents(searcher: Searcher) -> None:
    found = search_documents(searcher, [texts(0, 1)[0], texts(300, 1)[0]], settings=SearchSettings(k=3))
    assert found.places["query"].to_list() == [0, 0, 0, 1, 1, 1]
    for query in (0, 1):
        assert len({hit.kept["document_id"] for hit in found.hits(query)}) == 3


def test_a_filter_holds_for_the_passages(searcher: Searcher) -> None:
    settings = SearchSettings(k=5, where="document_id in ('d1', 'd2')")
    found = search_documents(searcher, "anything", settings=settings)
    assert sorted(hit.kept["document_id"] for hit in found.hits()) == ["d1", "d2"]


def test_the_words_that_are_searched_are_those_of_the_passages(searcher: Searcher) -> None:
    assert words_text_column(searcher.table) == "passage"


def test_a_table_without_passages_is_refused(tmp_path: Path, model: str) -> None:
    write(tmp_path / "raw/a.jsonl", rows(0, 3))
    refresh_table(tmp_path / "raw", tmp_path / "table", model)
    with pytest.raises(ColumnError, match="its rows are not passages"):
        search_documents(Searcher(Table.open(str(tmp_path / "table"))), "anything")

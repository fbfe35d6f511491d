"""Exact search: the query is encoded as a query, all queries share one reading of the table, and the answer says how."""

from pathlib import Path
from typing import Any

import numpy as np
import polars as pl
import pytest
from pydantic import ValidationError

from sbert.encoder.sentence_encoder import SentenceEncoder
from sbert.encoder.side import Side
from sbert.errors import ColumnError, ModelError, SettingsError
from sbert.index import search as library
from sbert.index.query_file import search_file
from sbert.index.search import search_table
from sbert.index.search_settings import SearchSettings
from sbert.index.version_rows import VersionRows
from sbert.source.settings import SourceSettings
from sbert.table.delta import Table
from tests.support.made_tables import make_version, unit_vector
from tests.support.refreshing import refreshed
from tests.support.tables import rows, texts, write
from tests.support.tiny_models import prompted_encoder


@pytest.fixture(scope="module")
def table(tmp_path_factory: pytest.TempPathFactory) -> Table:
    """A table of an encoder with prompts."""
    folder = tmp_path_factory.mktemp("search")
    prompted_encoder().save_pretrained(folder / "model")
    raw = write(folder / "raw.jsonl", rows(0, 40))
    refreshed(raw, folder / "table", model=str(folder / "model"))
    return Table.open(str(folder / "table"))


def made_table(folder: Path, num_sources: int = 3, num_rows: int = 150) -> Table:
    state = {f"{number}": {str(row): number * 10_000 + row for row in range(num_rows)} for number in range(num_sources)}
    return make_version(str(folder / "made"), state)


def test_the_query_and_the_rows_have_the_prompts_of_their_sides(table: Table) -> None:
    encoder = SentenceEncoder.from_pretrained(table.encoder.model)
    query = "forgot my password"
    scores = encoder.encode(texts(0, 40), side=Side.DOCUMENT) @ encoder.encode([query], side=Side.QUERY)[0]
    hits = search_table(table, query, settings=SearchSettings(k=5)).hits()
    assert [hit.id for hit in hits] == [str(at) for at in np.argsort(-scores, kind="stable")[:5]]
    np.testing.assert_allclose([hit.score for hit in hits], np.sort(scores)[::-1][:5], atol=1e-5)


@pytest.mark.parametrize(
    ("query", "message"),
    [
        (" ", "the query is empty after cleaning"),
        ("half \ud83d", r"the query is not valid Unicode: character 5 is U[+]D83D"),
    ],
)
def test_a_text_that_is_no_query_is_refused(table: Table, query: str, message: str) -> None:
    with pytest.raises(SettingsError, match=message):
        search_table(table, query)


def test_a_search_for_no_rows_is_refused() -> None:
    with pytest.raises(ValidationError, match="greater than or equal to 1"):
        SearchSettings(k=0)


def test_of_many_queries_those_that_are_none_are_named_and_the_others_searched(table: Table) -> None:
    result = search_table(table, ["forgot my password", " ", texts(7, 1)[0]], settings=SearchSettings(k=2))
    assert [(query.number, query.reason) for query in result.rejected] == [(1, "empty_text")]
    assert result.places["query"].to_list() == [0, 0, 2, 2]
    alone = search_table(table, texts(7, 1)[0], settings=SearchSettings(k=2)).hits()
    assert [hit.id for hit in result.hits(2)] == [hit.id for hit in alone]


def test_queries_are_cleaned_as_the_table_s_texts_were(tmp_path: Path, model: str) -> None:
    raw = write(tmp_path / "raw.jsonl", [{"id": "a", "text": "see www.a.org"}, {"id": "b", "text": "red blue"}])
    refreshed(raw, tmp_path / "table", model=model, settings={"cleaning": {"mask_urls": True}})
    hits = search_table(Table.open(str(tmp_path / "table")), "see  https://other.org/page").hits()
    assert hits[0].id == "a"
    assert hits[0].score == pytest.approx(1, abs=1e-5)


def test_a_table_that_rejects_long_texts_rejects_long_queries(tmp_path: Path, model: str) -> None:
    raw = write(tmp_path / "raw.jsonl", rows(0, 4))
    refreshed(
        raw, tmp_path / "table", model=model, settings={"encoding": {"truncation": "reject", "max_seq_length": 32}}
    )
    with pytest.raises(SettingsError, match=r"the query has \d+ tokens, the table takes texts of at most 32"):
        search_table(Table.open(str(tmp_path / "table")), "red " * 40)


def test_an_encoder_that_is_gone_is_an_error_that_says_what_to_do(tmp_path: Path) -> None:
    with pytest.raises(ModelError, match=r"its encoder model 0 cannot be loaded .*put the model back there"):
        search_table(made_table(tmp_path), "a text")


@pytest.mark.parametrize("num_queries", [1, 3, 40])
def test_vectors_find_what_a_plain_matrix_product_finds(tmp_path: Path, num_queries: int) -> None:
    table = made_table(tmp_path)
    frame = table.scan().collect()
    vectors = np.array(frame["embedding"].to_list(), np.float32)
    queries = np.array([unit_vector(77_000 + number) for number in range(num_queries)])
    result = search_table(table, queries, settings=SearchSettings(k=7))
    for number in range(num_queries):
        scores = vectors @ queries[number]
        hits = result.hits(number)
        np.testing.assert_allclose([hit.score for hit in hits], np.sort(scores)[::-1][:7], atol=1e-6)
        best = frame[int(scores.argmax())]
        assert hits[0].source == best["source"].item()
        assert hits[0].id == best["id"].item()
        assert hits[0].kept["price"] == best["price"].item()
    assert result.way.describe() == "exact, 450 rows of version 0"


def test_vectors_of_another_dim_are_refused(tmp_path: Path) -> None:
    with pytest.raises(SettingsError, match=r"shape \(2, 5\), the table has dim 4"):
        search_table(made_table(tmp_path), np.zeros((2, 5), np.float32))


def test_a_table_of_fewer_rows_than_asked_for_gives_them_all(tmp_path: Path) -> None:
    result = search_table(made_table(tmp_path, 1, 3), np.eye(4, dtype=np.float32), settings=SearchSettings(k=10))
    assert result.places.group_by("query", maintain_order=True).len()["len"].to_list() == [3, 3, 3, 3]


def test_all_queries_share_one_reading_of_the_table(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    table = made_table(tmp_path)
    readings = []
    real = VersionRows.vectors

    def counted(self: VersionRows, ranges: Any) -> Any:
        readings.append(ranges)
        return real(self, ranges)

    monkeypatch.setattr(VersionRows, "vectors", counted)
    monkeypatch.setattr(library, "QUERIES_PER_PASS", 50)
    search_table(table, np.ones((100, 4), np.float32))
    assert len(readings) == 2


def test_a_file_of_queries_gives_a_file_of_hits(table: Table, tmp_path: Path) -> None:
    asked = [{"name": str(number), "body": text} for number, text in enumerate(texts(0, 30))]
    write(tmp_path / "queries.jsonl", [*asked, {"name": "none", "body": "  "}, {"name": "null"}])
    source = SourceSettings(text_column="body", id_column="name")
    report = search_file(
        table, str(tmp_path / "queries.jsonl"), str(tmp_path / "hits.parquet"),
        settings=SearchSettings(k=3), source=source,
    )  # fmt: skip
    hits = pl.read_parquet(tmp_path / "hits.parquet")
    assert hits.columns == ["query_id", "query", "rank", "score", "id", "source"]
    assert hits["query_id"].to_list() == [str(number) for number in range(30) for _ in range(3)]
    assert hits["rank"].to_list() == [1, 2, 3] * 30
    assert report.num_queries == 30
    assert report.num_hits == hits.height == 90
    assert report.rejected_by_reason == {"null_text": 1, "empty_text": 1}
    single = search_table(table, texts(4, 1)[0], settings=SearchSettings(k=3)).hits()
    assert hits.filter(pl.col("query_id") == "4")["id"].to_list() == [hit.id for hit in single]


def test_hits_are_written_as_parquet_and_whole_or_not_at_all(table: Table, tmp_path: Path) -> None:
    write(tmp_path / "queries.jsonl", [{"text": "red"}])
    with pytest.raises(SettingsError, match=r"hits.csv: the output is written as Parquet"):
        search_file(table, str(tmp_path / "queries.jsonl"), str(tmp_path / "hits.csv"))
    with pytest.raises(ColumnError, match="no column 'body'"):
        search_file(
            table, str(tmp_path / "queries.jsonl"), str(tmp_path / "hits.parquet"),
            source=SourceSettings(text_column="body"),
        )  # fmt: skip
    assert [path.name for path in tmp_path.iterdir()] == ["queries.jsonl"]

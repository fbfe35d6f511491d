"""Rankings put together, and rows that differ."""

import numpy as np
import pytest

from sbert.errors import SettingsError
from sbert.index.fusion import diversify, fuse_rankings
from sbert.index.search import search_table
from sbert.index.search_settings import SearchMode, SearchSettings
from sbert.index.top_k import NO_ROW
from sbert.table.delta import Table
from tests.support.tables import rows, update, write


def test_fusion_adds_the_reciprocal_ranks() -> None:
    near, worded = np.array([[5, 7, 9]]), np.array([[7, 8, NO_ROW]])
    scores, numbers = fuse_rankings([near, worded], [1.0, 0.5], 4, 10.0)
    # 7: 1/12 + 0.5/11, 5: 1/11, 9: 1/13, 8: 0.5/12
    assert numbers.tolist() == [[7, 5, 9, 8]]
    np.testing.assert_allclose(scores[0], [1 / 12 + 0.5 / 11, 1 / 11, 1 / 13, 0.5 / 12], rtol=1e-6)


def test_fusion_of_nothing_is_nothing() -> None:
    scores, numbers = fuse_rankings([np.full((1, 2), NO_ROW), np.full((1, 2), NO_ROW)], [1.0, 1.0], 3, 60.0)
    assert numbers.tolist() == [[NO_ROW] * 3]
    assert np.isneginf(scores).all()


def test_a_diverse_choice_leaves_out_what_was_said() -> None:
    vectors = np.array([[1, 0], [1, 0], [0.8, 0.6], [0, 1]], np.float32)
    relevance = np.array([1.0, 0.99, 0.8, 0.1], np.float32)
    assert diversify(relevance, vectors, 3, 0.0).tolist() == [0, 1, 2]
    # the twin of row 0 has 0.5 * 0.99 - 0.5 * 1, row 2 has 0.5 * 0.8 - 0.5 * 0.8, row 3 has 0.5 * 0.1 - 0
    assert diversify(relevance, vectors, 3, 0.5).tolist() == [0, 3, 2]
    assert diversify(relevance, vectors, 9, 1.0).tolist()[0] == 0
    assert len(diversify(relevance, vectors, 9, 1.0)) == 4


@pytest.fixture(scope="module")
def table(tmp_path_factory: pytest.TempPathFactory, model: str) -> Table:
    folder = tmp_path_factory.mktemp("fusion")
    lines = [*rows(0, 30), {"id": "twin", "text": rows(0, 1)[0]["text"], "kind": "even"}]
    lines.append({"id": "code", "text": "order PR-1042", "kind": "odd"})
    raw = write(folder / "raw.jsonl", lines)
    update(raw, folder / "table", model=model, settings={"source": {"keep_columns": ["text", "kind"]}})
    return Table.open(str(folder / "table"))


def ids(table: Table, query: str, **asked: object) -> list[str]:
    return [hit.id for hit in search_table(table, query, settings=SearchSettings.model_validate(asked)).hits()]


def test_hybrid_finds_the_code_and_the_neighbours(table: Table) -> None:
    result = search_table(table, "PR-1042", settings=SearchSettings(mode=SearchMode.HYBRID, k=8))
    hits = result.hits()
    assert "code" in [hit.id for hit in hits[:5]]
    assert 0 < hits[0].score <= 1
    assert len(hits) == 8
    assert result.way.describe().startswith("words: no word index, the texts of 32 rows were read; vectors: exact, 32")


def test_a_filter_holds_in_every_mode(table: Table) -> None:
    for mode in SearchMode:
        result = search_table(
            table, "red password 1042", settings=SearchSettings(mode=mode, where="kind = 'odd'", k=40)
        )
        assert {hit.kept["kind"] for hit in result.hits()} == {"odd"}


def test_a_diverse_answer_names_equal_texts_once(table: Table) -> None:
    query = str(rows(0, 1)[0]["text"])
    assert set(ids(table, query, k=2)) == {"0", "twin"}
    assert len({"0", "twin"} & set(ids(table, query, k=5, diversity=0.95))) == 1


def test_several_queries_are_ranked_each_by_itself(table: Table) -> None:
    settings = SearchSettings(mode=SearchMode.HYBRID, k=3, diversity=0.2)
    together = search_table(table, ["PR-1042", " ", "red"], settings=settings)
    assert [query.number for query in together.rejected] == [1]
    alone = [[hit.id for hit in search_table(table, query, settings=settings).hits()] for query in ("PR-1042", "red")]
    assert [[hit.id for hit in together.hits(number)] for number in (0, 2)] == alone


def test_vectors_cannot_be_searched_for_words(table: Table) -> None:
    vectors = np.zeros((1, table.encoder.dim), np.float32)
    with pytest.raises(SettingsError, match="the queries are vectors, mode hybrid needs texts"):
        search_table(table, vectors, settings=SearchSettings(mode=SearchMode.HYBRID))
    with pytest.raises(SettingsError, match="empty after cleaning"):
        search_table(table, " ", settings=SearchSettings(mode=SearchMode.WORDS))

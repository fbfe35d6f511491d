"""Exact search: the query is encoded as a query, and what cannot be a query is said before the table is read."""

import numpy as np
import pytest

from sbert.encoder.sentence_encoder import SentenceEncoder
from sbert.encoder.side import Side
from sbert.errors import SettingsError
from sbert.index.exact_search import search_table
from sbert.table.delta import Table
from tests.support.refreshing import refresh_table
from tests.support.tables import rows, texts, write
from tests.support.tiny_models import prompted_encoder


@pytest.fixture(scope="module")
def table(tmp_path_factory: pytest.TempPathFactory) -> Table:
    """A table of an encoder with prompts."""
    folder = tmp_path_factory.mktemp("search")
    prompted_encoder().save_pretrained(folder / "model")
    raw = write(folder / "raw.jsonl", rows(0, 40))
    refresh_table(raw, folder / "table", model=str(folder / "model"))
    return Table.open(str(folder / "table"))


def test_the_query_and_the_rows_have_the_prompts_of_their_sides(table: Table) -> None:
    encoder = SentenceEncoder.from_pretrained(table.encoder.model)
    query = "forgot my password"
    scores = encoder.encode(texts(0, 40), side=Side.DOCUMENT) @ encoder.encode([query], side=Side.QUERY)[0]
    hits = search_table(table, query, k=5)
    assert [hit.id for hit in hits] == [str(at) for at in np.argsort(-scores, kind="stable")[:5]]
    np.testing.assert_allclose([hit.score for hit in hits], np.sort(scores)[::-1][:5], atol=1e-5)


@pytest.mark.parametrize(
    ("query", "k", "message"),
    [
        ("red", 0, "k is 0: ask for at least 1 row"),
        (" ", 5, "the query is empty after cleaning"),
        ("half \ud83d", 5, r"the query is not valid Unicode: character 5 is U[+]D83D"),
        (None, 5, "the query is None, expected a string"),
    ],
)
def test_what_is_no_query_is_refused(table: Table, query: str, k: int, message: str) -> None:
    with pytest.raises(SettingsError, match=message):
        search_table(table, query, k=k)

"""Labelled texts get the vectors that they have, or would have, in the table."""

from pathlib import Path

import numpy as np
import pytest

from sbert.apply import text_vectors
from sbert.apply.text_vectors import table_texts, vectors_of_texts
from sbert.table.delta import Table
from tests.support.tables import read, rows, texts, update, write


@pytest.mark.parametrize("vectors", [{}, {"precision": "int8", "min_recall": 0}, {"output_dim": 16, "min_recall": 0}])
def test_known_texts_have_the_tables_vectors_and_others_are_encoded_as_rows_are(
    tmp_path: Path, model: str, monkeypatch: pytest.MonkeyPatch, vectors: dict[str, object]
) -> None:
    write(tmp_path / "raw/a.jsonl", rows(0, 20))
    settings = {"encoding": vectors, "cleaning": {"mask_emails": True}}
    update(tmp_path / "raw", tmp_path / "table", model=model, settings=settings)
    table = Table.open(str(tmp_path / "table"))
    asked = ["red a@b.com", *texts(0, 20), *texts(50, 3)]
    first = vectors_of_texts(table, [f"  {text}\u200b" for text in asked])  # cleaning removes what was added
    assert first.dtype == np.float32
    assert first.shape == (24, table.encoder.dim)
    assert table_texts(table, asked)[0] == "red [EMAIL]"
    write(
        tmp_path / "raw/b.jsonl", [{"id": str(at), "text": text} for at, text in enumerate([asked[0], *texts(50, 3)])]
    )
    update(tmp_path / "raw", tmp_path / "table", model=model, settings=settings)
    monkeypatch.setattr(text_vectors, "load_table_encoder", lambda _: pytest.fail("every text is in the table now"))
    again = vectors_of_texts(Table.open(str(tmp_path / "table")), asked)
    np.testing.assert_array_equal(again[1:21], first[1:21])
    tolerance = 0.02 if "precision" in vectors else 1e-5
    np.testing.assert_allclose(again, first, atol=tolerance)
    assert read(tmp_path / "table").height == 24

"""The whole choice by one call of the library: locations in, a file to fill in and a report out."""

from pathlib import Path

import polars as pl
import pytest

from sbert.errors import NotATableError, SettingsError
from sbert.suggest.run import suggest_labels
from sbert.suggest.settings import SuggestSettings
from tests.support.tables import objects_apart, update, write


@pytest.fixture
def table(tmp_path: Path, model: str) -> str:
    raw, folder = tmp_path / "raw", str(tmp_path / "table")
    write(raw / "0.jsonl", [{"id": str(at), "text": f"a text about thing {at}"} for at in range(30)])
    update(raw, folder, model=model, settings=objects_apart(source={"keep_columns": ["text"]}))
    return folder


def test_the_file_holds_the_texts_that_the_report_counts(table: str, tmp_path: Path) -> None:
    file = tmp_path / "todo.jsonl"
    report = suggest_labels(table, str(file), 5, settings=SuggestSettings(num_neighbors=3))
    written = pl.read_ndjson(file)
    assert report.num_rows == written.height == 5
    assert report.num_pool == 30
    assert report.criteria == ["density"]
    assert written["text"].to_list() == report.rows["text"].to_list()
    assert written["label"].null_count() == 5
    assert "rows" not in report.model_dump()


def test_a_file_that_exists_is_left_as_it_is(table: str, tmp_path: Path) -> None:
    file = tmp_path / "todo.csv"
    file.write_text("text,label\nmine,yes\n")
    with pytest.raises(SettingsError, match="the file exists and may hold labels"):
        suggest_labels(table, str(file), 5)
    assert file.read_text() == "text,label\nmine,yes\n"


def test_a_wrong_ending_is_refused_before_the_table_is_opened(tmp_path: Path) -> None:
    with pytest.raises(SettingsError, match=r"must end in \.jsonl, \.csv, \.parquet"):
        suggest_labels(str(tmp_path / "nowhere"), str(tmp_path / "todo.txt"))
    with pytest.raises(NotATableError):
        suggest_labels(str(tmp_path / "nowhere"), str(tmp_path / "todo.csv"))

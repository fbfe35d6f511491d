"""`sbert index-words`, and searches by words."""

import json
from pathlib import Path

import pytest
from typer.testing import CliRunner

from flows.cli.commands import app
from flows.index_words import index_table_words
from sbert.index.words.settings import WordSettings
from tests.support.flow_runs import outcome_of_newest_run
from tests.support.made_tables import make_version


@pytest.fixture
def table(tmp_path: Path) -> str:
    folder = str(tmp_path / "table")
    make_version(folder, {"a": {str(row): row for row in range(6)}})
    return folder


def test_words_are_indexed_searched_and_dropped(table: str) -> None:
    run = CliRunner().invoke
    report = json.loads(run(app, ["index-words", table, "--words-column", "kind", "--json"]).stdout)
    assert report["num_segments"] == 1
    assert report["num_segments_built"] == 1
    assert report["num_rows"] == 6
    asked = ["search", table, "KIND 2", "--mode", "words", "--words-column", "kind"]
    result = json.loads(run(app, [*asked, "--json"]).stdout)
    assert {row["id"] for row in result["results"][:2]} == {"2", "5"}
    assert result["way"]["num_word_segments"] == 1
    assert "1 segment of the word index" in run(app, asked).stdout
    assert "1 segment removed" in run(app, ["index-words", table, "--drop"]).stdout
    assert "no word index, the texts of 6 rows were read" in run(app, asked).stdout


def test_an_unknown_mode_is_named_with_those_there_are(table: str) -> None:
    done = CliRunner().invoke(app, ["search", table, "word", "--mode", "letters"])
    assert done.exit_code == 2
    assert "'vector', 'words', 'hybrid'" in done.output


@pytest.mark.usefixtures("prefect_server")
def test_the_flow_indexes_words_as_the_command_does(table: str) -> None:
    settings = WordSettings(text_column="kind")
    assert index_table_words(table, settings).num_rows_built == 6
    assert outcome_of_newest_run() == "Version 0 of the table: 6 rows in 1 segment, 6 indexed in this run"
    assert index_table_words(table, settings).num_rows_built == 0

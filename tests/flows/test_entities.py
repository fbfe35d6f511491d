"""`sbert entities` and its flow."""

import json
from pathlib import Path

import pytest
from typer.testing import CliRunner

from flows.cli.commands import app
from flows.entities import find_table_entities
from tests.support.flow_runs import outcome_of_newest_run
from tests.support.tables import update, write


@pytest.fixture
def places(tmp_path: Path, model: str) -> tuple[str, str, str]:
    """A table of two texts, labels, and a place for the output."""
    texts = ["the red cat sat on a mat at hamburg", "the cat sat on a mat"]
    write(tmp_path / "raw/a.jsonl", [{"id": str(at), "text": text} for at, text in enumerate(texts)])
    update(tmp_path / "raw", tmp_path / "table", model=model, settings={"source": {"keep_columns": ["text"]}})
    red, hamburg = {"start": 4, "end": 7, "type": "colour"}, {"start": 28, "end": 35, "type": "city"}
    write(tmp_path / "labels.jsonl", [{"text": texts[0], "entities": [red, hamburg]}] * 3
          + [{"text": texts[1], "entities": []}] * 2)  # fmt: skip
    return str(tmp_path / "table"), str(tmp_path / "labels.jsonl"), str(tmp_path / "out")


def test_the_command_says_what_it_learned_from_and_what_it_found(places: tuple[str, str, str]) -> None:
    done = CliRunner().invoke(app, ["entities", *places])
    assert done.exit_code == 0, done.output
    assert "learned from 6 entities of 2 types in 5 texts" in done.output
    assert "2 entities in 1 row" in done.output
    assert "city: 1 (hamburg)" in done.output
    report = json.loads(CliRunner().invoke(app, ["entities", *places, "--json"]).stdout)
    assert report["output"]["num_rows"] == 2
    assert report["output"]["num_rows_built"] == 0
    assert report["types"] == [
        {"type": "city", "num_entities": 1, "frequent": ["hamburg"]},
        {"type": "colour", "num_entities": 1, "frequent": ["red"]},
    ]


def test_bad_labels_are_one_line(places: tuple[str, str, str], tmp_path: Path) -> None:
    write(tmp_path / "labels.jsonl", [{"text": "red", "entities": [{"start": 0, "end": 9, "type": "colour"}]}])
    done = CliRunner().invoke(app, ["entities", *places])
    assert done.exit_code == 1
    assert "ends at 9, but the text has 3 characters" in " ".join(done.output.split())


@pytest.mark.usefixtures("prefect_server")
def test_the_flow_finds_entities_and_a_second_run_computes_nothing(places: tuple[str, str, str]) -> None:
    report = find_table_entities(*places)
    assert outcome_of_newest_run() == "Version 0: 2 rows, 2 computed; 2 entities in 1 row"
    assert report.num_entities == 2
    assert report.output.num_rows_built == 2
    assert find_table_entities(*places).output.num_rows_built == 0

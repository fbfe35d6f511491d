"""`sbert relations` and its flow."""

import json
from pathlib import Path

import pytest
from typer.testing import CliRunner

from flows.cli.commands import app
from flows.relations import find_table_relations
from sbert.apply.relations.settings import RelationSettings
from tests.support.flow_runs import outcome_of_newest_run
from tests.support.tables import update, write


def pair(text: str, head: str, tail: str, relation: str) -> dict[str, object]:
    """Return a labelled pair of two words."""
    places = {side: {"start": text.index(word), "end": text.index(word) + len(word)} for side, word in
              (("head", head), ("tail", tail))}  # fmt: skip
    return {"text": text, **places, "relation": relation}


@pytest.fixture
def places(tmp_path: Path, model: str) -> tuple[str, str, str]:
    """A table that marks names, labels, and a place for the output."""
    labels = [pair(f"the {word} sat on rain", word, "rain", "sat on") for word in ("cat", "match", "cake")]
    labels += [pair(f"{word} turns into butter", word, "butter", "becomes") for word in ("red", "oven", "cake")]
    write(tmp_path / "labels.jsonl", labels)
    names = json.dumps([labels[0]["head"], labels[0]["tail"]])
    rows = [{"id": "a", "text": labels[0]["text"], "names": names}, {"id": "b", "text": "the cat", "names": "[]"}]
    write(tmp_path / "raw/a.jsonl", rows)
    settings = {"source": {"keep_columns": ["text", "names"]}}
    update(tmp_path / "raw", tmp_path / "table", model=model, settings=settings)
    return str(tmp_path / "table"), str(tmp_path / "labels.jsonl"), str(tmp_path / "out")


def test_the_command_says_what_it_learned_from_and_what_it_found(places: tuple[str, str, str]) -> None:
    arguments = ["relations", *places, "--entities-column", "names", "--min-probability", "0.3"]
    done = CliRunner().invoke(app, arguments)
    assert done.exit_code == 0, done.output
    assert "learned from 6 pairs of 2 relations" in " ".join(done.output.split())
    assert "1 relation in 1 row" in done.output
    assert "sat on: 1 (cat → rain)" in done.output
    report = json.loads(CliRunner().invoke(app, [*arguments, "--json"]).stdout)
    assert report["output"]["num_rows"] == 2
    assert report["output"]["num_rows_built"] == 0


def test_names_that_are_nowhere_are_one_line(places: tuple[str, str, str]) -> None:
    done = CliRunner().invoke(app, ["relations", *places])
    assert done.exit_code == 1
    assert "this table has no marked names" in " ".join(done.output.split())


@pytest.mark.usefixtures("prefect_server")
def test_the_flow_finds_relations_and_a_second_run_computes_nothing(places: tuple[str, str, str]) -> None:
    settings = RelationSettings(entities_column="names", min_probability=0.3)
    report = find_table_relations(*places, settings)
    assert outcome_of_newest_run() == "Version 0: 2 rows, 2 computed; 1 relation in 1 row"
    assert report.num_relations == 1
    assert report.output.num_rows_built == 2
    assert find_table_relations(*places, settings).output.num_rows_built == 0

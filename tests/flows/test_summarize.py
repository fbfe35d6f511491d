"""`sbert summarize` and its flow."""

import json
from pathlib import Path

import pytest
from typer.testing import CliRunner

from flows.cli.commands import app
from flows.summarize import summarize_documents
from sbert.apply.summaries.settings import SummarySettings
from sbert.derived.derived_table import DerivedTable
from tests.support.flow_runs import outcome_of_newest_run
from tests.support.tables import texts, update, write

QUICK = {
    "budget": {"max_words": None, "max_sentences": 1},
    "ranker": {"num_networks": 1, "num_hidden": 4, "num_epochs": 2, "num_folds": 2},
}


@pytest.fixture
def places(tmp_path: Path, model: str) -> tuple[str, str]:
    """A table of passages of eight documents, and a place for the output."""
    rows = [{"id": f"d{at}", "text": ". ".join(text.capitalize() for text in texts(at * 4, 4))} for at in range(8)]
    write(tmp_path / "raw/a.jsonl", rows)
    labels = [{"document": f"d{at}", "summary": texts(at * 4, 1)[0]} for at in range(8)]
    write(tmp_path / "labels.jsonl", labels)
    settings = {"source": {"passages": {"max_tokens": 48}}}
    update(tmp_path / "raw", tmp_path / "table", model=model, settings=settings)
    return str(tmp_path / "table"), str(tmp_path / "out")


def test_the_command_prints_what_ranked_and_the_keys_that_scripts_rely_on(
    tmp_path: Path, places: tuple[str, str]
) -> None:
    done = CliRunner().invoke(app, ["summarize", *places, "--words", "30"])
    assert done.exit_code == 0, done.output
    assert "no labels are given: LexRank ranks" in done.stdout
    assert "8 documents, 8 computed" in done.stdout
    labels = ["--labels", str(tmp_path / "labels.jsonl"), "--settings", json.dumps(QUICK)]
    report = json.loads(CliRunner().invoke(app, ["summarize", *places, *labels, "--json"]).stdout)
    assert report["decision"]["labels"]["num_learned"] == 8
    assert report["output"]["num_rows"] == 8
    again = CliRunner().invoke(app, ["summarize", *places, *labels])
    assert "0 computed" in again.stdout
    assert "gain over LexRank" in again.stdout
    rows = DerivedTable.open(places[1]).scan().collect()
    assert [sum(part["chosen"] for part in sentences) for sentences in rows["sentences"].to_list()] == [1] * 8


def test_wrong_labels_and_budgets_are_one_line(tmp_path: Path, places: tuple[str, str]) -> None:
    write(tmp_path / "labels.jsonl", [{"document": "d1", "text": "She won."}])
    done = CliRunner().invoke(app, ["summarize", *places, "--labels", str(tmp_path / "labels.jsonl")])
    assert done.exit_code == 1
    assert "no column 'summary'" in " ".join(done.output.split())
    done = CliRunner().invoke(app, ["summarize", *places, "--settings", '{"budget": {"max_words": null}}'])
    assert done.exit_code == 1
    assert "set at least one of them" in " ".join(done.output.split())
    assert not Path(places[1]).exists()


@pytest.mark.usefixtures("prefect_server")
def test_the_flow_summarizes_every_document_and_a_second_run_computes_nothing(places: tuple[str, str]) -> None:
    settings = SummarySettings.model_validate(QUICK)
    assert summarize_documents(*places, settings=settings).num_computed == 8
    assert outcome_of_newest_run() == "Version 0: 8 documents, 8 computed"
    assert summarize_documents(*places, settings=settings).num_computed == 0

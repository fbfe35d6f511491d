"""`sbert duplicates` and its flow."""

import json
from pathlib import Path

import pytest
from typer.testing import CliRunner

from flows.cli.commands import app
from flows.duplicates import find_duplicate_texts
from sbert.errors import ModelError
from tests.support.flow_runs import outcome_of_newest_run
from tests.support.made_texts import make_text_version


@pytest.fixture
def places(tmp_path: Path) -> tuple[str, str]:
    table = str(tmp_path / "table")
    texts = ["my card is lost", "my card was lost", "pay 5 euros", "pay 6 euros"]
    vectors = [[1.0, 0.0, 0.0], [1.0, 0.1, 0.0], [0.0, 0.0, 1.0], [0.0, 0.1, 1.0]]
    make_text_version(table, {"a": [(str(n), text, vectors[n]) for n, text in enumerate(texts)]})
    return table, str(tmp_path / "out")


def test_the_command_says_how_many_rows_repeat_another(places: tuple[str, str]) -> None:
    done = CliRunner().invoke(app, ["duplicates", *places])
    assert done.exit_code == 0, done.output
    assert "1 group of texts that say the same, with 2 rows: 1 repeat of another row" in done.output
    report = json.loads(CliRunner().invoke(app, ["duplicates", *places, "--no-guard", "--json"]).stdout)  # the old name
    assert report["num_groups"] == 2
    assert report["num_rows_in_groups"] == 4
    assert report["num_repeats"] == 2
    assert report["num_rows"] == 4
    assert report["rule"]["similarity"] == 0.9
    assert not report["rule"]["conflict_check"]


def test_a_promise_needs_labels(places: tuple[str, str]) -> None:
    done = CliRunner().invoke(app, ["duplicates", *places, "--precision", "0.95"])
    assert done.exit_code == 1
    assert "a precision needs labelled pairs" in done.output


def test_reasons_need_the_encoder_of_the_table(places: tuple[str, str]) -> None:
    done = CliRunner().invoke(app, ["duplicates", *places, "--explain"])
    assert done.exit_code == 1
    assert "reasons cannot be given" in done.output


@pytest.mark.usefixtures("prefect_server")
def test_the_flow_finds_repeats_and_a_second_run_computes_nothing(places: tuple[str, str]) -> None:
    report = find_duplicate_texts(*places)
    assert outcome_of_newest_run() == "Version 0: 4 rows, 4 computed; 1 group with 1 repeat"
    assert report.num_groups == 1
    assert report.num_rows_built == 4
    assert find_duplicate_texts(*places).num_rows_built == 0
    assert not find_duplicate_texts(*places, guard=False).rule.conflict_check  # the old name
    with pytest.raises(ModelError, match="reasons cannot be given"):
        find_duplicate_texts(*places, explain=True)
    assert "guard" not in find_duplicate_texts.parameters.properties

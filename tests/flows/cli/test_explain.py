"""`sbert explain`, and `sbert search --explain`."""

import json
from pathlib import Path

import pytest
from typer.testing import CliRunner

from flows.cli.commands import app
from flows.cli.search_reasons import show_reasons


def test_the_command_prints_pairs_and_writes_a_page(model: str, tmp_path: Path) -> None:
    page = tmp_path / "why.html"
    arguments = ["explain", "the train is late", "the train is not late", "--model", model, "-n", "3"]
    done = CliRunner().invoke(app, [*arguments, "--output", str(page), "--json"])
    assert done.exit_code == 0, done.output
    explanation = json.loads(done.stdout)
    assert len(explanation["pairs"]) == 3
    assert sum(map(sum, explanation["parts"])) == pytest.approx(explanation["cosine"], abs=1e-4)
    assert page.read_text().startswith("<!doctype html>")
    assert "the parts add up" in CliRunner().invoke(app, arguments).stdout


def test_a_model_and_a_table_together_are_wrong_usage() -> None:
    done = CliRunner().invoke(app, ["explain", "a", "b", "--model", "m", "--table", "t"])
    assert done.exit_code == 2
    assert "give one of them" in done.output


def test_an_empty_text_is_refused(model: str) -> None:
    done = CliRunner().invoke(app, ["explain", "", "the train is late", "--model", model])
    assert done.exit_code == 1
    assert "the left text is empty" in done.output


def test_hits_show_their_pairs_and_warnings(capsys: pytest.CaptureFixture[str]) -> None:
    pair = {"left": "late", "right": "delay", "part": 0.25}
    warning = {"kind": "number", "left": ["9"], "right": ["10"], "message": "the numbers differ: 9 on the left"}
    show_reasons(
        [{"id": "a", "explanation": {"pairs": [pair], "warnings": [warning]}}, {"id": "b", "explanation": None}]
    )
    shown = capsys.readouterr().out
    assert "a: late ~ delay +0.250" in shown
    assert "the numbers differ" in shown
    assert len(shown.splitlines()) == 2

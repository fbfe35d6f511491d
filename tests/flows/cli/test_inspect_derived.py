"""``sbert inspect`` of a derived table: settings are read like the other properties."""

from pathlib import Path

import pytest
from typer.testing import CliRunner

from flows.cli.commands import app
from flows.cli.inspect_derived import shown_setting
from sbert.apply.duplicates.job import DuplicatesJob
from sbert.apply.duplicates.rule import PairRule
from sbert.derived.run import derive
from tests.support.made_tables import make_version


@pytest.mark.parametrize(
    ("value", "shown"),
    [
        (None, "none"),
        ("", "none"),
        ([], "none"),
        ({}, "none"),
        (True, "yes"),
        (0.9, "0.9"),
        (["a", "b"], "a, b"),
        ({"similarity": 0.9, "check": False, "model": None}, "similarity 0.9 · check no · model none"),
        ([{"task": "", "labels": [1, 2]}], "task none · labels 1, 2"),
    ],
)
def test_a_setting_is_words_and_no_code(value: object, shown: str) -> None:
    assert shown_setting(value) == shown


def test_each_setting_of_the_job_has_a_line(tmp_path: Path) -> None:
    table, out = str(tmp_path / "table"), str(tmp_path / "out")
    make_version(table, {"a": {str(row): row for row in range(4)}})
    derive(DuplicatesJob(rule=PairRule(conflict_check=False)), table, out)
    shown = CliRunner().invoke(app, ["inspect", out]).stdout
    lines = [" ".join(line.replace("│", " ").split()) for line in shown.splitlines()]
    assert "rule similarity 0.9 · conflict_check no · conflict_overlap 0.0 · model none" in lines
    assert "max_compared 64" in lines
    assert "text_column none" in lines
    assert not set("{}'") & set(shown)

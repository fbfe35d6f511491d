"""`sbert neighbours` and its flow."""

import json
from pathlib import Path

import pytest
from typer.testing import CliRunner

from flows.cli.commands import app
from flows.neighbours import find_neighbours
from tests.support.made_tables import make_version


@pytest.fixture
def places(tmp_path: Path) -> tuple[str, str]:
    table = str(tmp_path / "table")
    make_version(table, {"a": {str(row): row for row in range(30)}})
    return table, str(tmp_path / "out")


def test_the_command_prints_the_keys_that_scripts_rely_on(places: tuple[str, str]) -> None:
    done = CliRunner().invoke(app, ["neighbours", *places, "-k", "3", "--json"])
    report = json.loads(done.stdout)
    assert done.exit_code == 0
    assert (report["version"], report["table_version"], report["num_rows"]) == (0, 0, 30)
    assert (report["num_shards_built"], report["num_shards_kept"]) == (1, 0)
    again = CliRunner().invoke(app, ["neighbours", *places, "-k", "3"])
    assert "30 rows, computed from version 0" in again.stdout
    assert "0 shards built (0 rows), 1 kept" in again.stdout


def test_the_table_and_the_output_must_be_two_folders(places: tuple[str, str]) -> None:
    done = CliRunner().invoke(app, ["neighbours", places[0], places[0]])
    assert done.exit_code == 1
    assert "needs a folder of its own" in done.output


@pytest.mark.usefixtures("prefect_server")
def test_the_flow_does_the_same(places: tuple[str, str]) -> None:
    report = find_neighbours(*places, k=3)
    assert (report.num_rows, report.num_rows_built) == (30, 30)
    assert find_neighbours(*places, k=3).num_rows_built == 0

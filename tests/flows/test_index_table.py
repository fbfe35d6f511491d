"""`sbert index` and its flow."""

import json
from pathlib import Path

import pytest
from typer.testing import CliRunner

from flows.cli.commands import app
from flows.index_table import index_embeddings
from sbert.index.index_settings import IndexSettings
from tests.support.flow_runs import outcome_of_newest_run
from tests.support.made_tables import make_version


@pytest.fixture
def table(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> str:
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))
    return make_version(str(tmp_path / "table"), {"a": {str(row): row for row in range(250)}}).uri


def test_the_command_prints_the_keys_that_scripts_rely_on(table: str) -> None:
    done = CliRunner().invoke(app, ["index", table, "--json"])
    report = json.loads(done.stdout)
    assert done.exit_code == 0
    assert report["num_segments"] == 1
    assert report["recall_at_10"] >= 0.95
    again = CliRunner().invoke(app, ["index", table, "--check"])
    assert "250 of 250 rows in 1 segment, recall@10" in again.stdout
    assert "0 segments built" in again.stdout
    dropped = CliRunner().invoke(app, ["index", table, "--drop"])
    assert "1 segment removed" in dropped.stdout


@pytest.mark.usefixtures("prefect_server")
def test_the_flow_builds_the_index_and_a_second_run_builds_nothing(table: str) -> None:
    report = index_embeddings(table, settings=IndexSettings(list_factor=2))
    assert outcome_of_newest_run() == "Version 0 of the table: 250 of 250 rows in 1 segment, recall@10 1.000"
    assert report.recall_at_10 == 1
    assert report.num_segments_built == 1
    assert index_embeddings(table, settings=IndexSettings(list_factor=2)).num_rows_built == 0

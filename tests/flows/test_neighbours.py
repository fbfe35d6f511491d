"""`sbert neighbours` and its flow."""

import json
from pathlib import Path
from typing import Any

import polars as pl
import pytest
from typer.testing import CliRunner

from flows.cli.commands import app
from flows.engines import EngineSettings
from flows.neighbours import find_neighbours
from flows.upkeep import upkeep_table
from sbert.apply.neighbours.job import NeighboursJob
from sbert.derived.any_table import verify_any
from sbert.derived.derived_table import DerivedTable
from sbert.derived.run import derive
from tests.support.flow_runs import outcome_of_newest_run
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
    assert report["version"] == 0
    assert report["table_version"] == 0
    assert report["num_rows"] == 30
    assert report["num_shards_built"] == 1
    assert report["num_shards_kept"] == 0
    again = CliRunner().invoke(app, ["neighbours", *places, "-k", "3"])
    assert "30 rows, computed from version 0" in again.stdout
    assert "0 shards built (0 rows), 1 kept" in again.stdout


def test_the_table_and_the_output_must_be_two_folders(places: tuple[str, str]) -> None:
    done = CliRunner().invoke(app, ["neighbours", places[0], places[0]])
    assert done.exit_code == 1
    assert "needs a folder of its own" in done.output


@pytest.mark.usefixtures("prefect_server")
def test_the_flow_finds_neighbours_and_a_second_run_computes_nothing(places: tuple[str, str]) -> None:
    report = find_neighbours(*places, k=3)
    assert outcome_of_newest_run() == "Version 0: 30 rows, 30 computed"
    assert report.num_rows == 30
    assert report.num_rows_built == 30
    assert find_neighbours(*places, k=3).num_rows_built == 0


@pytest.mark.slow
@pytest.mark.parametrize("engine", ["ray", "dask"])
@pytest.mark.usefixtures("prefect_server")
def test_a_cluster_makes_the_same_table_as_threads(places: tuple[str, str], tmp_path: Path, engine: str) -> None:
    make_version(places[0], {f"object {number}": {str(row): row for row in range(20)} for number in range(9)})
    other = str(tmp_path / "by threads")
    derive(NeighboursJob(k=3), places[0], other)
    report = find_neighbours(*places, k=3, concurrency=2, engine=EngineSettings.model_validate(engine))
    assert report.num_shards_built == 9
    assert report.num_rows_built == 180
    assert rows_of(places[1]).equals(rows_of(other))
    assert verify_any(places[1]).findings == []


def rows_of(out: str) -> pl.DataFrame:
    return DerivedTable.open(out).scan().collect().sort("source", "id")


def test_the_commands_of_upkeep_take_a_derived_table(places: tuple[str, str]) -> None:
    table, out = places
    derive(NeighboursJob(k=3), table, out)
    make_version(table, {"a": {str(row): row for row in range(40)}})

    def answer(*arguments: str) -> dict[str, Any]:
        done = CliRunner().invoke(app, [*arguments, "--json"])
        assert done.exit_code == 0, done.output
        output: dict[str, Any] = json.loads(done.stdout)
        return output

    inspected = answer("inspect", out)
    assert inspected["job"] == "neighbours"
    assert inspected["num_rows"] == 30
    assert inspected["table_version"] == 0
    assert inspected["lag_versions"] == 1
    derive(NeighboursJob(k=3), table, out)
    assert answer("inspect", out)["lag_versions"] == 0
    assert answer("verify", out)["num_rows"] == 40
    assert answer("rollback", out)["num_rows"] == 30
    assert answer("vacuum", out, "--retention-hours", "0", "--apply")["num_shards"] == 1
    for command in ("inspect", "verify", "vacuum"):
        assert out in CliRunner().invoke(app, [command, out]).output.replace("\n", "")
    refused = CliRunner().invoke(app, ["compact", out])
    assert refused.exit_code == 1
    assert "this table is derived, by the job neighbours" in refused.output


@pytest.mark.usefixtures("prefect_server")
def test_upkeep_takes_a_derived_table(places: tuple[str, str]) -> None:
    derive(NeighboursJob(k=3), *places)
    report = upkeep_table(places[1], compact=False, retention_hours=0)
    assert report.verification is not None
    assert report.verification.num_rows == 30

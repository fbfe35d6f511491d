"""`sbert sync` and `sbert reconcile` as a person uses them."""

import json
from pathlib import Path

import pytest
from typer.testing import CliRunner

from flows.cli.commands import app
from tests.support.made_tables import make_version
from tests.support.stores import visible_collection


@pytest.fixture
def table(tmp_path: Path) -> str:
    folder = str(tmp_path / "table")
    make_version(folder, {"s3://raw/a.jsonl": {str(number): number for number in range(30)}})
    return folder


@pytest.fixture
def location(tmp_path: Path) -> str:
    return f"qdrant:{tmp_path / 'qdrant'}#docs"


def run(*arguments: str) -> tuple[int, str]:
    done = CliRunner().invoke(app, list(arguments))
    return done.exit_code, done.stdout


def test_sync_and_reconcile_print_the_keys_that_scripts_rely_on(table: str, location: str) -> None:
    status, printed = run("sync", table, location, "--json")
    report = json.loads(printed)
    assert status == 0
    assert report["from_version"] is None
    assert report["to_version"] == 0
    assert report["num_upserts"] == 30
    assert report["num_deletes"] == 0
    status, printed = run("reconcile", table, location, "--json")
    report = json.loads(printed)
    assert status == 0
    assert report["is_equal"] is True
    (follower,) = json.loads(run("inspect", table, "--json")[1])["followers"]
    assert follower["version"] == 0
    assert follower["lag_versions"] == 0
    assert follower["proven_version"] == 0
    assert follower["num_rows"] == 30
    assert follower["coverage"] == 1.0
    assert follower["is_equal"]
    assert "lag none" in " ".join(run("inspect", table)[1].split())
    assert report["num_missing"] == 0
    assert report["num_extra"] == 0
    assert report["num_stale"] == 0


def test_reconcile_ends_with_status_1_and_names_the_rows_that_differ(table: str, location: str) -> None:
    from qdrant_client import QdrantClient, models

    from sbert.sync.destinations.qdrant import point_id

    run("sync", table, location)
    name = visible_collection(location)
    client = QdrantClient(path=location.removeprefix("qdrant:").removesuffix("#docs"))
    client.delete(name, models.PointIdsList(points=[point_id("s3://raw/a.jsonl", "7")]))
    client.close()
    status, printed = run("reconcile", table, location)
    assert status == 1
    assert "1 row the store lacks: '7' of s3://raw/a.jsonl" in printed
    status, printed = run("reconcile", table, location, "--repair")
    assert status == 0
    assert "the differences were repaired; both sides are equal now" in printed


def test_a_store_that_is_gone_is_taken_off_the_list_of_consumers(table: str, location: str) -> None:
    run("sync", table, location)
    (follower,) = json.loads(run("inspect", table, "--json")[1])["followers"]
    status, printed = run("forget", table, "qdrant:/elsewhere#docs", "--json")
    assert status == 1
    assert follower["name"] in json.loads(printed)["error"]["message"]
    status, printed = run("forget", table, location)
    assert status == 0
    assert "(qdrant, version 0) is forgotten" in " ".join(printed.split())
    assert json.loads(run("inspect", table, "--json")[1])["followers"] == []
    assert visible_collection(location)  # the store itself is not touched


def test_a_store_is_forgotten_by_the_relative_location_that_followed_the_table(
    table: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capfd: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.chdir(tmp_path)
    run("sync", table, "lancedb:lance#docs")
    assert "WARN" not in capfd.readouterr().err
    assert run("forget", table, "lancedb:lance#docs")[0] == 0


def test_a_failure_is_one_json_object(table: str, tmp_path: Path) -> None:
    status, printed = run("reconcile", table, f"qdrant:{tmp_path / 'empty'}#docs", "--json")
    assert status == 1
    assert json.loads(printed)["error"]["kind"] == "DestinationError"


def test_a_password_in_the_destination_is_refused_without_repeating_it(table: str) -> None:
    done = CliRunner().invoke(app, ["sync", table, "postgresql://user:hunter2@host/db#docs"])
    assert done.exit_code == 2
    assert "hunter2" not in done.output

"""``sbert erase``: keys of the JSON object, exit status, the question on a terminal, lifted tombstones."""

import json
from pathlib import Path

import pytest
from typer.testing import CliRunner

from flows.cli import erase as command
from flows.cli.commands import app
from sbert.table.delta import Table
from tests.support.made_tables import make_version


@pytest.fixture
def table(tmp_path: Path) -> str:
    folder = str(tmp_path / "table")
    make_version(folder, {"s3://raw/a.jsonl": {f"a-{at}": at for at in range(5)}})
    (tmp_path / "ids.txt").write_text("a-3\n")
    return folder


def test_one_json_object_and_status_0_when_everything_is_erased(table: str, tmp_path: Path) -> None:
    done = CliRunner().invoke(app, ["erase", table, "--ids", str(tmp_path / "ids.txt"), "--json"])
    assert done.exit_code == 0
    answer = json.loads(done.stdout)
    assert answer["num_rows_erased"] == 1
    assert Path(answer["receipt"]).is_file()


def test_status_1_when_something_is_left_and_the_place_is_named(table: str, tmp_path: Path) -> None:
    Path(table, "notes.txt").write_text("a-3")
    done = CliRunner().invoke(app, ["erase", table, "--ids", str(tmp_path / "ids.txt")])
    assert done.exit_code == 1
    assert "notes.txt" in done.stdout
    assert "LEFT" in done.stdout
    assert "a-3" not in done.stdout


def test_a_dry_run_writes_nothing(table: str, tmp_path: Path) -> None:
    done = CliRunner().invoke(app, ["erase", table, "--ids", str(tmp_path / "ids.txt"), "--dry-run"])
    assert done.exit_code == 0
    assert "1 rows would leave the newest version" in done.stdout
    assert Table.open(table).num_rows == 5


@pytest.mark.parametrize(("answer", "num_rows"), [("n\n", 5), ("y\n", 4)])
def test_a_terminal_is_asked(
    table: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, answer: str, num_rows: int
) -> None:
    monkeypatch.setattr(command, "is_terminal", lambda: True)
    done = CliRunner().invoke(app, ["erase", table, "--ids", str(tmp_path / "ids.txt")], input=answer)
    assert Table.open(table).num_rows == num_rows
    assert done.exit_code == (0 if num_rows == 4 else 1)


def test_tombstones_are_lifted(table: str, tmp_path: Path) -> None:
    ids = ["--ids", str(tmp_path / "ids.txt"), "--json"]
    CliRunner().invoke(app, ["erase", table, *ids])
    done = CliRunner().invoke(app, ["erase", table, "--undo", *ids])
    assert json.loads(done.stdout)["num_lifted"] == 1
    assert list(Path(table, "_erased/tombstones").glob("*.json")) == []

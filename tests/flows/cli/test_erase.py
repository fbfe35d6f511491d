"""``sbert erase``: keys of the JSON object, exit status, the question on a terminal, lifted tombstones."""

import json
import re
from pathlib import Path

import pytest
from click.testing import Result
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
    done = CliRunner().invoke(app, ["erase", table, "--ids", str(tmp_path / "ids.txt"), "--yes", "--json"])
    assert done.exit_code == 0
    answer = json.loads(done.stdout)
    assert answer["num_rows_erased"] == 1
    assert Path(answer["receipt"]).is_file()


def test_status_1_when_something_is_left_and_the_place_is_named(table: str, tmp_path: Path) -> None:
    Path(table, "notes.txt").write_text("a-3")
    done = CliRunner().invoke(app, ["erase", table, "--ids", str(tmp_path / "ids.txt"), "--yes"])
    assert done.exit_code == 1
    assert "notes.txt" in done.stdout
    assert "LEFT" in done.stdout
    assert not re.search(r"\ba-3\b", done.stdout)  # random names may hold 0a-3f


def test_a_dry_run_writes_nothing(table: str, tmp_path: Path) -> None:
    done = CliRunner().invoke(app, ["erase", table, "--ids", str(tmp_path / "ids.txt"), "--dry-run"])
    assert done.exit_code == 0
    assert "1 row would leave the newest version" in done.stdout
    assert Table.open(table).num_rows == 5


@pytest.mark.parametrize(("answer", "num_rows"), [("n\n", 5), ("y\n", 4)])
def test_only_a_yes_at_the_terminal_erases_rows(
    table: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, answer: str, num_rows: int
) -> None:
    monkeypatch.setattr(command, "is_terminal", lambda: True)
    done = CliRunner().invoke(app, ["erase", table, "--ids", str(tmp_path / "ids.txt")], input=answer)
    assert Table.open(table).num_rows == num_rows
    assert done.exit_code == (0 if num_rows == 4 else 1)


def test_tombstones_are_lifted(table: str, tmp_path: Path) -> None:
    ids = ["--ids", str(tmp_path / "ids.txt"), "--json", "--yes"]
    CliRunner().invoke(app, ["erase", table, *ids])
    done = CliRunner().invoke(app, ["erase", table, "--undo", *ids])
    assert json.loads(done.stdout)["num_lifted"] == 1
    assert list(Path(table, "_erased/tombstones").glob("*.json")) == []


def erase_ids(table: str, tmp_path: Path, content: str, *options: str) -> Result:
    (tmp_path / "ids.csv").write_text(content)
    return CliRunner().invoke(app, ["erase", table, "--ids", str(tmp_path / "ids.csv"), *options])


def test_without_a_terminal_nothing_is_erased_unless_yes_is_given(table: str, tmp_path: Path) -> None:
    done = erase_ids(table, tmp_path, "id\na-3\n")
    assert done.exit_code == 2
    assert "pass --yes" in done.stderr
    assert Table.open(table).num_rows == 5
    assert erase_ids(table, tmp_path, "id\na-3\n", "--yes").exit_code == 0
    assert Table.open(table).num_rows == 4


@pytest.mark.parametrize("option", ["--yes", "--dry-run"])
def test_ids_that_are_found_nowhere_are_named_and_the_status_is_1(table: str, tmp_path: Path, option: str) -> None:
    content = "id\na-1\na-3\n" + "".join(f"nosuch-{at:02}\n" for at in range(22))
    done = erase_ids(table, tmp_path, content, option)
    assert done.exit_code == 1
    assert "found nowhere: nosuch-00, nosuch-01," in done.stdout
    assert "nosuch-19 and 2 more" in done.stdout
    assert Table.open(table).num_rows == (3 if option == "--yes" else 5)


def test_allow_missing_gives_status_0_and_json_still_names_the_ids(table: str, tmp_path: Path) -> None:
    done = erase_ids(table, tmp_path, "id\na-1\nnosuch\n", "--yes", "--json", "--allow-missing")
    assert done.exit_code == 0
    answer = json.loads(done.stdout)
    assert answer["ids_not_found"] == ["nosuch"]
    stored = Path(answer["receipt"]).read_text()
    assert json.loads(stored)["num_not_found"] == 1
    assert "nosuch" not in stored


def test_versions_and_single_things_read_as_people_write_them(table: str, tmp_path: Path) -> None:
    done = erase_ids(table, tmp_path, "id\na-1\n", "--yes")
    assert "1 row left the newest version, asked for 1 key," in done.stdout
    assert "version 0 cannot be read any more" in done.stdout


def test_a_second_erasure_says_that_nothing_was_found(table: str, tmp_path: Path) -> None:
    erase_ids(table, tmp_path, "id\na-1\n", "--yes")
    done = erase_ids(table, tmp_path, "id\na-1\n", "--yes")
    assert done.exit_code == 0
    assert "nothing was found, 1 key had been erased before" in done.stdout
    assert "receipt: " not in done.stdout
    assert "out of reach" not in done.stdout


def test_a_source_that_is_no_object_is_an_error_with_status_1(table: str, tmp_path: Path) -> None:
    done = erase_ids(table, tmp_path, "id,source\na-1,b.jsonl\n", "--yes")
    assert done.exit_code == 1
    assert "no object 'b.jsonl' in the table; did you mean s3://raw/a.jsonl?" in done.stderr
    assert not Path(table, "_erased").exists()

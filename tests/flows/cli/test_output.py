"""Answers of commands: JSON alone on standard output, every failure as one line and an exit status."""

import json
import os
import re
import subprocess
import sys
from pathlib import Path

import pytest
import typer
from prefect.exceptions import TerminationSignal
from typer.testing import CliRunner, Result

from flows.cli import output
from flows.cli.commands import app
from flows.cli.output import answering
from sbert.errors import TableError

READERS = [
    ["inspect", "TABLE"],
    ["verify", "TABLE"],
    ["rollback", "TABLE"],
    ["vacuum", "TABLE"],
    ["compact", "TABLE"],
    ["report", "TABLE", "--output", "out.html"],
    ["changes", "TABLE", "--from", "0"],
    ["search", "TABLE", "red"],
    ["suggest", "TABLE", "labels.jsonl"],
    ["forget", "TABLE", "s3://bucket/old"],
    ["models", "TABLE", "rollback"],
    ["models", "TABLE", "compare", "v0001", "v0002"],
]
"""Every command that looks at something that must exist."""


@pytest.fixture
def places(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, new_s3_clients: None) -> Path:
    """A file, a folder that is no table, and files that are no settings; storage without keys."""
    monkeypatch.chdir(tmp_path)
    for name in [name for name in os.environ if name.startswith("AWS_")]:
        monkeypatch.delenv(name)
    monkeypatch.setenv("AWS_EC2_METADATA_DISABLED", "true")
    monkeypatch.setenv("AWS_ENDPOINT_URL", "http://127.0.0.1:9")
    (tmp_path / "file").write_text("hello")
    (tmp_path / "folder").mkdir()
    (tmp_path / "folder/a.txt").write_text("hello\n")
    (tmp_path / "binary.json").write_bytes(b"\xff\xfe{")
    (tmp_path / "list.json").write_text("[1]")
    return tmp_path


def failure_of(result: Result) -> str:
    """Return the message of a failed command: one JSON object on standard output, one line on standard error."""
    answer = json.loads(result.stdout)
    assert set(answer) == {"error"}
    assert set(answer["error"]) == {"kind", "message"}
    lines = result.stderr.splitlines()
    assert lines == [f"error: {answer['error']['message']}"]
    return str(answer["error"]["message"])


@pytest.mark.parametrize("command", READERS, ids=lambda words: "-".join(words[::2]))
@pytest.mark.parametrize("place", ["missing", "file", "folder", "s3://no-keys/table"])
def test_a_place_without_a_table_is_one_object_and_one_line(places: Path, command: list[str], place: str) -> None:
    words = [place if word == "TABLE" else word for word in command]
    result = CliRunner().invoke(app, [*words, "--json"])
    assert result.exit_code == 1
    assert place in failure_of(result)


@pytest.mark.parametrize(
    ("settings", "expected"),
    [
        ("@missing.json", "no such file"),
        ("@binary.json", "not UTF-8 text"),
        ("@list.json", "should be an object"),
        ("@folder", "Is a directory"),
        ("@s3://no-keys/settings.json", "access denied"),
        ("{", "Invalid JSON"),
        ('{"nothing": 1}', "nothing: no such setting"),
    ],
)
def test_settings_that_cannot_be_read_are_one_object_and_one_line(places: Path, settings: str, expected: str) -> None:
    result = CliRunner().invoke(app, ["suggest", "missing", "labels.jsonl", "--settings", settings, "--json"])
    assert result.exit_code == 1
    assert expected in failure_of(result)


@pytest.mark.parametrize(
    "words",
    [
        ["inspect"],
        ["nonsense"],
        ["changes", "table"],
        ["search", "table", "red", "-k", "0"],
        ["report", "table", "--price-per-hour", "0"],
        ["report", "table", "--price-per-hour", "nan"],
        ["vacuum", "table", "--retention-hours", "inf"],
        ["inspect", ""],
        ["inspect", "s3://key:planted-secret@bucket/table"],
        ["retrain", "s3://key:planted-secret@bucket/labels", "models"],
        ["suggest", "table", "labels.jsonl", "--models", "s3://key:planted-secret@bucket/models"],
    ],
)
def test_wrong_usage_is_one_object_and_one_line(words: list[str]) -> None:
    result = CliRunner().invoke(app, [*words, "--json"])
    assert result.exit_code == 2
    assert "planted-secret" not in failure_of(result)


@pytest.mark.parametrize(
    ("error", "kind", "status", "message"),
    [
        (TableError("two\nlines"), "TableError", 1, "two lines"),
        (PermissionError(13, "Permission denied", "/closed"), "PermissionError", 1, "Permission denied: '/closed'"),
        (KeyboardInterrupt(), "KeyboardInterrupt", 130, "run again to go on"),
        (TerminationSignal(15), "TerminationSignal", 143, "told to stop; finished work is kept"),
        (ZeroDivisionError("a bug"), "ZeroDivisionError", 1, "unexpected ZeroDivisionError: a bug (SBERT_TRACEBACK=1"),
    ],
)
def test_every_error_has_a_kind_a_line_and_a_status(
    error: BaseException,
    kind: str,
    status: int,
    message: str,
    capsys: pytest.CaptureFixture[str],
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr("signal.signal", lambda *_: None)  # the test's process must keep its Ctrl-C
    with pytest.raises(typer.Exit) as caught, answering(as_json=True):
        raise error
    printed = capsys.readouterr()
    printed_error = json.loads(printed.out)["error"]
    assert caught.value.exit_code == status
    assert printed_error["kind"] == kind
    assert message in printed_error["message"]
    assert len(printed.err.splitlines()) == 1


def test_a_fault_of_the_program_shows_its_traceback_on_request(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("SBERT_TRACEBACK", "1")
    with pytest.raises(ZeroDivisionError), answering(as_json=False):
        raise ZeroDivisionError


def test_standard_output_has_the_object_alone_whatever_others_print() -> None:
    """Python's print, C code and child processes all write to the same place; a dying worker does so, too."""
    script = (
        "import os, subprocess, sys\n"
        "from flows.cli.output import answering\n"
        "with answering(as_json=True) as answer:\n"
        "    print('from Python')\n"
        "    os.write(1, b'from C\\n')\n"
        "    subprocess.run(['echo', 'from a child'])\n"
        "    answer.print({'done': True}, print)\n"
        "    print('afterwards')\n"
    )
    done = subprocess.run([sys.executable, "-c", script], capture_output=True, text=True, timeout=60, check=True)
    assert json.loads(done.stdout) == {"done": True}
    assert set(done.stderr.splitlines()) == {"from Python", "from C", "from a child", "afterwards"}


def test_numbers_of_things_are_printed_with_the_right_noun() -> None:
    """``1 rows`` reads as a mistake: a number and its noun go through `sbert.counted`."""
    pattern = re.compile(r"\['\]:,\} [a-z]*(?:row|shard|topic|file|segment|object|alert|group|text)s\\b")
    folder = Path(output.__file__).parent
    wrong = {
        path.name: matches for path in folder.glob("*.py") if (matches := pattern.findall(path.read_text("utf-8")))
    }
    assert wrong.keys() <= {"retrain.py"}


def test_an_error_that_an_interrupted_import_made_counts_as_the_signal(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(output, "_ignore_signals", lambda: None)
    output.is_told_to_stop.set()
    try:
        with pytest.raises(typer.Exit) as caught, answering(as_json=True):
            raise SystemError("returned a result with an exception set")
    finally:
        output.is_told_to_stop.clear()
    assert caught.value.exit_code == 143

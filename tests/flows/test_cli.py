"""The command line as its users run it: real processes, their output, exit status and signals.

Starting a process takes seconds, and starting a temporary Prefect server some more. Commands here run on Prefect's test server,
but for those that are stopped and go on, which start one of their own. What follows a command that ran as a process is asked
in this process.
"""

import contextlib
import json
import os
import signal
import sqlite3
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

import pytest
import torch
from prefect.settings import PREFECT_API_URL
from typer.testing import CliRunner

from flows.cli.commands import app
from sbert.encoder.engine.budget import CPU_TOKENS
from sbert.encoder.sentence_encoder import SentenceEncoder
from sbert.table.delta import Table
from tests.support.services import S3Server
from tests.support.tiny_models import WORDS, save_tiny

ROOT = Path(__file__).parent.parent.parent
REFRESH_KEYS = {
    "version", "encoder", "num_rows_read", "num_rows_encoded", "num_texts_encoded", "num_rows_carried",
    "num_rows_rejected", "num_splits_built", "num_splits_kept", "num_splits_dropped", "seconds",
}  # fmt: skip
"""Scripts rely on these."""
RUN_SECONDS = 600
"""Limit of a command: encoding the sample in float32 takes minutes on a busy machine."""


@pytest.fixture(scope="module")
def place(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder with a model and a Prefect home of its own."""
    folder = tmp_path_factory.mktemp("cli")
    save_tiny(folder / "model")
    return folder


@pytest.fixture
def server(prefect_server: None, place: Path, monkeypatch: pytest.MonkeyPatch) -> str:
    """The address of Prefect's test server; the working folder is `place`, as for the processes."""
    monkeypatch.chdir(place)
    return PREFECT_API_URL.value()


def start(place: Path, *arguments: object, **environment: str) -> "subprocess.Popen[str]":
    """Start a command, with a temporary Prefect server unless PREFECT_API_URL is given."""
    variables = {name: value for name, value in os.environ.items() if not name.startswith("PREFECT_")}
    return subprocess.Popen(
        [sys.executable, "-m", "flows.cli", *map(str, arguments)],
        cwd=place,
        env={**variables, "PYTHONPATH": str(ROOT), "PREFECT_HOME": str(place / "prefect"), **environment},
        stdin=subprocess.DEVNULL,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
        start_new_session=True,
    )


def run(place: Path, *arguments: object, status: int = 0, **environment: str) -> tuple[str, str]:
    with start(place, *arguments, **environment) as process:
        try:
            out, err = process.communicate(timeout=RUN_SECONDS)
        except subprocess.TimeoutExpired:
            process.terminate()  # or it would disturb the tests after this one
            raise
    assert process.returncode == status, out + err
    return out, err


def run_json(place: Path, *arguments: object, status: int = 0, **environment: str) -> dict[str, Any]:
    """Run with ``--json``: standard output must be one JSON object and nothing else."""
    out, _ = run(place, *arguments, "--json", status=status, **environment)
    answer = json.loads(out)
    assert isinstance(answer, dict)
    return answer


def ask(*arguments: object, status: int = 0) -> tuple[str, str]:
    """Run a command in this process."""
    done = CliRunner().invoke(app, [str(argument) for argument in arguments])
    assert done.exit_code == status, done.output
    return done.stdout, done.stderr


def ask_json(*arguments: object, status: int = 0) -> dict[str, Any]:
    """Run with ``--json`` in this process."""
    answer = json.loads(ask(*arguments, "--json", status=status)[0])
    assert isinstance(answer, dict)
    return answer


def write_rows(path: Path, count: int) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    lines = [
        {"id": str(n), "text": " ".join(WORDS[(n * 7 + k * k) % len(WORDS)] for k in range(3 + n % 9)), "kind": "x"}
        for n in range(count)
    ]
    path.write_text("".join(json.dumps(line) + "\n" for line in lines))


def test_the_doctor_says_what_an_encoder_does(place: Path) -> None:
    encoder = SentenceEncoder.from_pretrained(place / "model")
    diagnosis = ask_json("doctor", "--model", place / "model", "--seconds", 0.1)
    assert diagnosis["compute_dtype"] == encoder.compute_dtype == "float32"
    assert diagnosis["path"] == encoder.selected_runner.name
    assert diagnosis["reason"] == encoder.selected_runner.reason
    assert diagnosis["num_threads"] == torch.get_num_threads()
    assert diagnosis["token_budget"] == CPU_TOKENS
    assert [way["path"] for way in diagnosis["measured"] if way["chosen"]] == [diagnosis["path"]]
    out, _ = ask("doctor", "--model", place / "model", "--seconds", 0.1)
    assert "tokens of a batch" in out
    assert "SBERT_COMPUTE_DTYPE says so" in out


def test_commands_lead_from_raw_text_to_an_answer(place: Path, server: str) -> None:
    write_rows(place / "raw/a.jsonl", 30)
    (place / "settings.json").write_text('{"encoding": {"max_seq_length": 16}}')
    options = ("--model", "model", "--keep-columns", "kind", "--settings", "@settings.json")
    planned = ask_json("refresh", "raw", "table", *options, "--dry-run")
    assert planned.keys() >= REFRESH_KEYS
    assert planned["dry_run"]
    assert planned["version"] is None
    assert planned["num_splits_built"] == 1
    assert not (place / "table").exists()

    first = run_json(place, "refresh", "raw", "table", *options, PREFECT_API_URL=server)
    assert first.keys() >= REFRESH_KEYS
    assert first["version"] == 0
    assert first["num_rows_read"] == 30
    assert first["num_rows_encoded"] == 30
    assert Table.open(str(place / "table")).encoder.max_seq_length == 16

    answer = ask_json("search", "table", "how do i reset my password", "-k", 3)
    assert [set(hit) for hit in answer["results"]] == [{"id", "source", "score", "kind"}] * 3

    seen = ask_json("inspect", "table")
    assert {name: seen[name] for name in ("version", "dim", "num_rows", "num_shards")} == {
        "version": 0,
        "dim": 32,
        "num_rows": 30,
        "num_shards": 1,
    }
    assert seen["encoder"] == str(place / "model")

    for width in ("40", "80"):  # for people, however narrow their window
        out, _ = run(place, "search", "table", "red", "-k", 2, COLUMNS=width)
        assert "score" in out
        assert max(map(len, out.splitlines())) <= int(width)
    assert "unit length" in ask("inspect", "table")[0]


def test_errors_are_one_line_and_a_status(place: Path, server: str) -> None:
    write_rows(place / "few/a.jsonl", 3)
    options = ("--model", "model", "--text-column", "boddy")
    failed = run_json(place, "refresh", "few", "few-table", *options, status=1, PREFECT_API_URL=server)
    assert failed["error"]["kind"] == "ColumnError"
    out, err = run(place, "refresh", "nowhere", "t", "--model", "model", status=1, PREFECT_API_URL=server)
    assert out == ""
    assert err == f"error: {place}/nowhere: no such file or folder\n"
    for settings, message in (
        ('{"foo": 1}', "error: foo: no such setting; the settings are"),
        ("{", "error: settings: Invalid JSON"),
        ("@none.json", "none.json"),
    ):
        assert message in ask("refresh", "few", "t", "--settings", settings, status=1)[1]
    assert "no table here" in ask("search", "few", "x", status=1)[1]
    run(place, "refresh", "few", status=2)  # wrong usage


def test_an_unreadable_object_makes_the_status_1(place: Path, server: str) -> None:
    write_rows(place / "some/a.jsonl", 5)
    (place / "some/b.jsonl.gz").write_bytes(b"\x1f\x8b\x08")
    report = ask_json("refresh", "some", "some-table", "--model", "model", status=1)
    assert report["num_rows_encoded"] == 5
    assert list(report["broken_objects"]) == [str(place / "some/b.jsonl.gz")]


def newest_run(place: Path) -> tuple[str, str]:
    """Return the state of the newest flow run and the text of its last artifact, from Prefect's own database."""
    with contextlib.closing(sqlite3.connect(place / "prefect/prefect.db")) as database:
        run_id, state = database.execute("SELECT id, state_name FROM flow_run ORDER BY created DESC").fetchone()
        [text] = database.execute(
            "SELECT data FROM artifact WHERE flow_run_id = ? AND key = 'what-happened' ORDER BY created DESC", (run_id,)
        ).fetchone()
    return str(state), json.loads(text)


def test_ctrl_c_stops_cleanly_is_recorded_as_such_and_the_next_run_goes_on(place: Path) -> None:
    raw, table = place / "many", place / "many-table"
    for number in range(40):
        write_rows(raw / f"{number:02d}.jsonl", 200)
        (raw / f"{number:02d}.jsonl").write_text(
            (raw / f"{number:02d}.jsonl").read_text().replace('"id": "', f'"id": "{number}-')
        )
    options = ("--model", "model", "--concurrency", "1", "--settings", '{"splits": {"pack_below_bytes": 0}}')
    process = start(place, "refresh", raw, table, *options, "--json")
    deadline = time.monotonic() + 120
    while not list(table.glob("_splits/*.json")):
        assert process.poll() is None, process.communicate()
        assert time.monotonic() < deadline
        time.sleep(0.02)
    os.killpg(process.pid, signal.SIGINT)  # as a terminal does: to every process that the command started
    out, err = process.communicate(timeout=60)
    assert process.returncode == 130, err
    assert json.loads(out)["error"]["kind"] == "KeyboardInterrupt"
    assert err == "error: stopped on request; finished work is kept, run again to go on\n"
    state, told = newest_run(place)
    assert state == "Cancelled"
    assert "Stopped by Ctrl-C" in told.splitlines()[0]
    assert "The process died" not in told
    finished = len(list(table.glob("_splits/*.json")))
    assert 0 < finished < 40
    assert not (table / "_delta_log").exists()
    assert not list(table.rglob("*.tmp"))
    report = run_json(place, "refresh", raw, table, *options)
    assert report["num_splits_resumed"] == finished
    assert report["num_splits_built"] == 40 - finished
    assert report["num_rows"] == 8_000


@pytest.mark.s3
def test_the_standard_environment_variables_are_enough_for_s3(
    place: Path, server: str, s3: S3Server, s3_bucket: str
) -> None:
    write_rows(place / "up/a.jsonl", 12)
    s3.filesystem().put_file(str(place / "up/a.jsonl"), f"{s3_bucket}/raw/a.jsonl")
    tables = (f"{s3_bucket}/raw", f"{s3_bucket}/table")
    report = run_json(place, "refresh", *tables, "--model", "model", PREFECT_API_URL=server)
    assert report["version"] == 0
    assert report["num_rows"] == 12
    assert ask_json("inspect", f"{s3_bucket}/table")["num_rows"] == 12
    assert len(ask_json("search", f"{s3_bucket}/table", "red cat", "-k", "4")["results"]) == 4
    missing = ask_json("refresh", "s3://no-such-bucket-at-all/raw", "t", "--model", "model", status=1)
    assert missing["error"]["kind"] == "MissingError"
    assert "no-such-bucket-at-all" in missing["error"]["message"]


@pytest.mark.slow
@pytest.mark.timeout(1_800)
def test_make_run_ends_with_the_table_and_a_search(place: Path) -> None:
    """The sample corpus, the packaged model, and the right answer to a question."""
    sample = run_json(place, "sample", "sample")
    assert sample["num_documents"] >= 4_500
    report = run_json(place, "refresh", "sample", "sample-table", "--keep-columns", "kind,text")
    assert report["num_rows_encoded"] == report["num_rows_read"] == sample["num_documents"]
    answer = run_json(place, "search", "sample-table", "how do I parse a date from a string", "-k", 10)
    ids = [hit["id"] for hit in answer["results"]]
    assert any("fromisoformat" in name or "strptime" in name for name in ids[:5]), ids
    assert {"datetime.datetime.strptime", "datetime.date.fromisoformat"} & set(ids), ids
    again = run_json(place, "refresh", "sample", "sample-table", "--keep-columns", "kind,text")
    assert again["num_texts_encoded"] == 0
    assert again["num_splits_built"] == 0

"""Credentials leave no trace. Names, texts and labels from outside are data: escaped, never run, never used as a path."""

import base64
import datetime as dt
import json
import os
import random
import sqlite3
import subprocess
import sys
import urllib.parse
import uuid
from collections.abc import Iterator
from pathlib import Path

import polars as pl
import pytest
from prefect.client.schemas.objects import State, StateType

from flows.hooks import ending_markdown
from flows.refresh import refresh_embeddings
from sbert.errors import SettingsError
from sbert.refresh.job import RefreshSettings
from sbert.storage.files import normalize_uri
from sbert.table.delta import Table
from tests.support.services import S3Server
from tests.support.tables import texts

REPOSITORY = Path(__file__).parents[1]
NUM_PLANTED = 500
HOSTILE_NAMES = [
    "new\nline", "..dots", "..%2f..%2fetc%2fpasswd", "ünïcødé-日本語-🚀", "[glob]*?", "#fragment?query=1", "%41%0a",
    "<img src=x onerror=alert(1)>", "'; drop table x;--", "|pipe`tick", "=1+1", "{assignment.__class__}", "{{ 7*7 }}",
    "$(touch owned)", "`touch owned`", "a\tb", "back\\slash", "a" * 200,
]  # fmt: skip


def hostile_texts(number: int) -> list[str]:
    """Return texts that have broken other programs, and many random ones."""
    hostile = [
        "<script>alert(1)</script>", "=cmd|' /C calc'!A0", "../../../../etc/passwd", "{{7*7}} ${7*7} {0.__class__}", "\u0000null",
        "\u202eright to left", "a\u0300" * 500, "\ufeffmark", "x" * 100_000, "\ud83d half", "' or 1=1 --", "%s%n%x", "![](http://x)",
        "[link](javascript:alert(1))", "| a | b |\n|---|", "``` code", "\x1b[31mred", "-" * 5000, "🏳️‍🌈" * 100, "\r\n\r\n",
    ]  # fmt: skip
    generator = random.Random(7)
    while len(hostile) < number:
        hostile.append("".join(chr(generator.choice([*range(1, 128), *range(0x80, 0x800)])) for _ in range(60)))
    return hostile


@pytest.mark.parametrize("uri", ["s3://AKIAPLANTED:planted-secret@bucket/raw", "https://user:planted-secret@host/x"])
def test_a_location_with_credentials_is_refused_without_repeating_them(uri: str) -> None:
    with pytest.raises(SettingsError, match="credentials do not belong in a location") as caught:
        normalize_uri(uri)
    assert "planted-secret" not in str(caught.value)


def test_an_at_sign_in_a_key_is_no_credential() -> None:
    assert normalize_uri("s3://bucket/mail/ann@example.org") == "s3://bucket/mail/ann@example.org"


def test_the_trace_of_a_failure_is_escaped_and_redacted(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("AWS_SECRET_ACCESS_KEY", "planted-secret")
    state = State[object](
        type=StateType.FAILED, name="Failed", timestamp=dt.datetime(2026, 1, 1, tzinfo=dt.UTC),  # type: ignore[arg-type]
        message="<script>alert(1)</script> | planted-secret\n# heading",
    )  # fmt: skip
    shown = ending_markdown("refresh-embeddings", "refresh <b>", state)
    assert "> &lt;script&gt;alert(1)&lt;/script&gt; &#124; *** # heading" in shown
    assert "# refresh &lt;b&gt;: Failed" in shown
    assert "Nothing half-done is in the table" in shown
    for flow, of in (("retrain-encoder", "Production is as"), ("watch-labels", "labels that were not handed over")):
        shown = ending_markdown(flow, "run", state)
        assert of in shown
        assert "table" not in shown
        assert "splits" not in shown


@pytest.fixture
def hostile_raw(tmp_path: Path) -> Path:
    raw = tmp_path / "raw"
    raw.mkdir()
    for number, name in enumerate(HOSTILE_NAMES):
        path = raw / f"x{name.replace('/', '_')}.jsonl"
        path.write_text(json.dumps({"id": f"{number} {name}", "text": f"text {number}", "kept": name}) + "\n")
    texts = hostile_texts(NUM_PLANTED)
    lines = [json.dumps({"id": f"row {number}", "text": text, "kept": text}) for number, text in enumerate(texts)]
    (raw / "texts.jsonl").write_text("\n".join(lines) + "\n")
    os.close(os.open(os.fsencode(str(raw)) + b"/not-utf8-\xff.jsonl", os.O_CREAT))
    return raw


def test_hostile_names_and_texts_are_rows_like_others(
    hostile_raw: Path, model: str, tmp_path: Path, prefect_server: None, monkeypatch: pytest.MonkeyPatch
) -> None:
    shown: list[str] = []
    monkeypatch.setattr(
        "tasks.refresh_artifacts.create_markdown_artifact", lambda **artifact: shown.append(artifact["markdown"])
    )
    before = set(tmp_path.rglob("*")) | set(Path.cwd().iterdir())
    report = refresh_embeddings(
        raw_uri=str(hostile_raw), table_uri=str(tmp_path / "table"), model=model, keep_columns=["kept"],
        settings=RefreshSettings.model_validate({"splits": {"pack_below_bytes": 0}}),
    )  # fmt: skip
    assert report.num_rows_read == NUM_PLANTED + len(HOSTILE_NAMES)
    assert report.num_objects == len(HOSTILE_NAMES) + 1
    rows = Table.open(str(tmp_path / "table")).scan().collect()
    assert {f"{number} {name}" for number, name in enumerate(HOSTILE_NAMES)} <= set(rows["id"])
    assert len(shown) == 2
    for markdown in shown:
        assert "<img" not in markdown
        assert "<script" not in markdown
    new = (set(tmp_path.rglob("*")) | set(Path.cwd().iterdir())) - before
    assert all(path.is_relative_to(tmp_path / "table") for path in new)


@pytest.mark.s3
def test_objects_with_hostile_keys_on_s3_keep_their_rows(
    model: str, s3: S3Server, s3_bucket: str, prefect_server: None
) -> None:
    client = s3.filesystem()
    names = [name for name in HOSTILE_NAMES if "\\" not in name and ".." not in name and "\n" not in name]
    for name, words in zip(names, texts(0, len(names)), strict=True):
        client.pipe_file(f"{s3_bucket}/raw/x{name}.jsonl", json.dumps({"id": name, "text": words}).encode())
    report = refresh_embeddings(f"{s3_bucket}/raw", f"{s3_bucket}/table", model=model)
    assert report.num_rows == len(names)
    assert report.num_rows_rejected == 0
    assert set(Table.open(f"{s3_bucket}/table").scan().collect()["id"]) == set(names)


def planted() -> dict[str, str]:
    """Return environment variables whose values must not appear anywhere."""
    kinds = (
        "AWS_SESSION_{}_TOKEN",
        "SERVICE_{}_PASSWORD",
        "VENDOR_{}_API_KEY",
        "STORE_{}_SECRET",
        "AZURE_{}_ACCOUNT_KEY",
    )
    return {kinds[number % 5].format(number): f"planted-{uuid.uuid4().hex}" for number in range(NUM_PLANTED)}


def everything(*folders: Path) -> Iterator[tuple[str, str]]:
    """Return the path and content of each file as text; Parquet and SQLite are decoded."""
    for folder in folders:
        for path in sorted(folder.rglob("*")):
            if not path.is_file():
                continue
            if path.suffix == ".parquet":
                frame = pl.read_parquet(path)
                yield str(path), repr(frame.rows()) + repr(pl.read_parquet_metadata(path))
            elif path.suffix == ".db":
                with sqlite3.connect(path) as database:
                    yield str(path), "\n".join(database.iterdump())
            else:
                yield str(path), path.read_bytes().decode("utf-8", "replace")


def spellings(secret: str) -> list[str]:
    """Return a secret in plain form and in the encodings that could hide it."""
    return [
        secret,
        urllib.parse.quote(secret, safe=""),
        base64.b64encode(secret.encode()).decode(),
        secret.encode().hex(),
    ]


@pytest.mark.slow
@pytest.mark.s3
def test_planted_credentials_are_nowhere(tmp_path: Path, model: str, s3: S3Server, s3_bucket: str) -> None:
    """Run commands that succeed and commands that fail, then search everything that they left."""
    client = s3.filesystem()
    lines = [json.dumps({"id": str(n), "text": text}) for n, text in enumerate(hostile_texts(60))]
    client.pipe_file(f"{s3_bucket}/raw/a.jsonl", "\n".join(lines).encode())
    client.pipe_file(f"{s3_bucket}/broken/b.jsonl.gz", b"not gzip")
    secrets = planted()
    environment = {
        **{name: value for name, value in os.environ.items() if not name.startswith("PREFECT")},
        **secrets, **s3.environment(), "PREFECT_HOME": str(tmp_path / "prefect"), "PYTHONPATH": str(REPOSITORY),
        "PREFECT_LOGGING_LEVEL": "DEBUG",
    }  # fmt: skip
    wrong = {**environment, "AWS_SECRET_ACCESS_KEY": f"planted-{uuid.uuid4().hex}"}
    runs = [
        (environment, ["refresh", f"{s3_bucket}/raw", f"{s3_bucket}/table", "--model", model], 0),
        (environment, ["refresh", f"{s3_bucket}/broken", f"{s3_bucket}/other", "--model", model], 1),
        (environment, ["refresh", f"{s3_bucket}/raw", f"{s3_bucket}/table", "--model", f"{s3_bucket}/none"], 1),
        (wrong, ["refresh", f"{s3_bucket}/raw", f"{s3_bucket}/table"], 1),
        (
            environment,
            ["refresh", f"s3://AKIAPLANTED:{wrong['AWS_SECRET_ACCESS_KEY']}@bucket/raw", f"{s3_bucket}/t"],
            2,
        ),
        (environment, ["report", f"{s3_bucket}/table", "--output", str(tmp_path / "report.html")], 0),
    ]
    output = tmp_path / "output"
    output.mkdir()
    for number, (variables, command, status) in enumerate(runs):
        done = subprocess.run(
            [sys.executable, "-m", "flows.cli", *command], env=variables, capture_output=True, cwd=tmp_path, check=False
        )
        (output / f"{number}.txt").write_bytes(done.stdout + done.stderr)
        assert done.returncode == status, done.stderr.decode()
    client.get(s3_bucket, str(tmp_path / "bucket"), recursive=True)
    searched = list(everything(tmp_path))
    stored_text = "\n".join(content for _, content in searched)
    assert "refresh-embeddings" in stored_text  # the database was searched
    assert '"num_rows_read"' in stored_text  # the records too
    assert "access denied" in stored_text  # and the failures
    hidden = [*secrets.values(), environment["AWS_SECRET_ACCESS_KEY"], wrong["AWS_SECRET_ACCESS_KEY"]]
    leaks = [
        path for secret in hidden for path, content in searched if any(form in content for form in spellings(secret))
    ]
    assert leaks == []

"""A run leaves for people its name, its artifacts, its metrics, the trend report."""

import datetime as dt
import json
import logging
import os
import subprocess
import sys
from pathlib import Path

import pytest
from prefect.client.orchestration import get_client
from typer.testing import CliRunner

from flows.backfill import backfill_embeddings
from flows.cli.commands import app
from flows.cli.options import parse_engine
from flows.engines import EngineSettings
from flows.refresh import refresh_embeddings
from sbert.errors import MissingError
from sbert.refresh.job import RefreshSettings
from sbert.refresh.run_metrics import read_runs
from tests.support.flow_runs import newest_run
from tests.support.tables import rows, write

pytestmark = pytest.mark.usefixtures("prefect_server")


def test_a_run_says_what_it_does_and_remembers_what_it_did(tmp_path: Path, model: str) -> None:
    raw, table = tmp_path / "raw", tmp_path / "tickets"
    for number in range(3):
        write(raw / f"part-{number}.jsonl", [*rows(number * 20, 20), {"id": f"blank {number}", "text": " "}])
    settings = {"splits": {"pack_below_bytes": 0}}
    first = refresh_embeddings(str(raw), str(table), model=model, settings=settings)  # type: ignore[arg-type]
    write(raw / "part-1.jsonl", rows(500, 15))
    second = refresh_embeddings(str(raw), str(table), settings=settings)  # type: ignore[arg-type]
    first_record, second_record = read_runs(str(table)).to_dicts()
    assert first_record["version"] == 0
    assert first_record["num_rows_read"] == 63
    assert first_record["num_rows"] == 60
    assert first_record["rejects_by_reason"] == [{"reason": "empty_text", "num_rows": 3}]
    assert first_record["engine"] == "local"
    assert first_record["concurrency"] == 2
    assert second_record["version"] == 1
    assert second_record["num_rows_read"] == 15
    assert second_record["num_rows"] == 55
    assert second_record["num_rows_sampled"] == 55
    run, artifacts = newest_run()
    assert run["id"] == second_record["run_id"]
    assert run["name"] == "refresh tickets · 1 of 3 splits (changed object)"
    assert first.run_url is None
    assert second.run_url is None  # the server of the tests has no UI
    assert "| part-1.jsonl | changed object |" in artifacts["plan"]["data"]
    assert "| encoded | 15 (15 distinct texts) |" in artifacts["refresh-report"]["data"]
    output = tmp_path / "trend.html"
    done = CliRunner().invoke(app, ["report", str(table), "--output", str(output), "--json"])
    assert json.loads(done.stdout)["output"] == str(output)
    assert output.read_text().count("data:image/svg+xml") == 15


def test_a_dry_run_is_named_and_leaves_no_metrics(tmp_path: Path, model: str) -> None:
    write(tmp_path / "raw/a.jsonl", rows(0, 5))
    report = refresh_embeddings(str(tmp_path / "raw"), str(tmp_path / "table"), model=model, dry_run=True)
    run, artifacts = newest_run()
    assert run["name"] == "refresh table · 1 of 1 split (new object)"
    assert artifacts["refresh-report"]["data"].startswith(f"# Plan of a refresh of {report.table_uri}\n")
    assert "plan" in artifacts
    assert not (tmp_path / "table").exists()


def test_artifacts_of_a_backfill_say_what_was_chosen_and_agree_with_each_other(tmp_path: Path, model: str) -> None:
    raw, table = tmp_path / "raw", tmp_path / "table"
    for number in range(3):
        write(raw / f"part-{number}.jsonl", rows(number * 10, 10))
    settings = RefreshSettings.model_validate({"splits": {"pack_below_bytes": 0}})
    refresh_embeddings(str(raw), str(table), model=model, settings=settings)
    report = backfill_embeddings(
        str(raw), str(table), include=["part-[01].jsonl"], since=dt.date(2020, 1, 1), force=True, settings=settings
    )
    run, artifacts = newest_run()
    assert report.num_splits_built == 2
    assert run["name"] == "backfill table · 2 of 2 splits (forced)"
    selection = "include part-&#91;01&#93;.jsonl, modified since 2020-01-01, every vector computed anew (force)"
    plan, told = artifacts["plan"]["data"], artifacts["refresh-report"]["data"]
    assert f"Chosen: {selection}" in plan
    assert "| to build | 2 (" in plan
    assert "| part-0.jsonl | forced |" in plan
    assert told.startswith(f"# Backfill of {table}\n")
    assert f"| chosen | {selection} (2 objects) |" in told
    assert "| built | 2 |" in told
    assert "| — forced | 2 |" in told
    assert "2 of 2 splits" in artifacts["progress"]["description"]


def test_a_backfill_of_two_objects_of_a_pack_says_so(tmp_path: Path, model: str) -> None:
    raw, table = tmp_path / "raw", tmp_path / "table"
    for number in range(3):
        write(raw / f"part-{number}.jsonl", rows(number * 10, 10))
    refresh_embeddings(str(raw), str(table), model=model)
    for dry_run in (True, False):
        backfill_embeddings(str(raw), str(table), include=["part-[01].jsonl"], force=True, dry_run=dry_run)
        _, artifacts = newest_run()
        plan, told = artifacts["plan"]["data"], artifacts["refresh-report"]["data"]
        assert "| raw/ pack 1 (2 of 3 objects) | forced |" in plan
        assert "| to build | 1 (0.00" in plan  # some hundred bytes are not 0.0 MiB
        assert "| to take apart, rows copied | 1 |" in plan
        assert f"| {'to take apart' if dry_run else 'taken apart'}, rows copied | 1 |" in told
        head = (
            "| figure | estimate |\n| --- | ---: |"
            if dry_run
            else "| figure | estimate | actual |\n| --- | ---: | ---: |"
        )
        assert f"{head}\n| MiB to read | 0.0" in told
    figures = told.partition("## Estimate and actual")[2]
    assert "\n\n| rows to read" not in figures  # an empty line would end the table


def test_a_run_that_encodes_nothing_shows_no_rate_of_encoding(tmp_path: Path, model: str) -> None:
    raw, table = tmp_path / "raw", tmp_path / "table"
    write(raw / "a.jsonl", rows(0, 10))
    refresh_embeddings(str(raw), str(table), model=model)
    _, artifacts = newest_run()
    assert "| encoded per second of building |" in artifacts["refresh-report"]["data"]
    write(raw / "a.jsonl", rows(0, 9))
    report = refresh_embeddings(str(raw), str(table), allow_drop=True)
    _, artifacts = newest_run()
    assert report.num_texts_encoded == 0
    assert report.num_rows_carried == 9
    assert "per second" not in artifacts["refresh-report"]["data"]
    assert "tokens/s" not in artifacts["progress"]["description"]


def test_the_log_of_a_successful_run_says_what_it_did_once(
    tmp_path: Path, model: str, caplog: pytest.LogCaptureFixture
) -> None:
    write(tmp_path / "raw/a.jsonl", rows(0, 10))
    with caplog.at_level(logging.INFO):
        refresh_embeddings(str(tmp_path / "raw"), str(tmp_path / "table"), model=model)
    ours = [record.getMessage() for record in caplog.records if record.name.startswith(("sbert", "flows", "tasks"))]
    parts = (
        "checking encoder",
        "planned: 1 split to build (1 new object)",
        "loading encoder",
        "encoding: ",
        "version 0: 10",
    )
    for part in parts:
        assert any(part in line for line in ours), part
    completed = [record.name for record in caplog.records if "Finished in state Completed(" in record.getMessage()]
    assert completed == ["prefect.flow_runs"]


def test_lines_of_the_library_reach_the_log_of_a_run_when_a_flow_is_imported(tmp_path: Path) -> None:
    """In a process of its own: pytest and earlier tests change the levels of loggers."""
    script = (
        "import logging, flows.refresh\n"
        "print(all(logging.getLogger(f'{name}.x').isEnabledFor(logging.INFO) for name in ('sbert', 'flows', 'tasks')))\n"
    )
    environment = {name: value for name, value in os.environ.items() if not name.startswith("PREFECT_")}
    done = subprocess.run(
        [sys.executable, "-c", script],
        env={**environment, "PYTHONPATH": str(Path(__file__).parents[2]), "PREFECT_HOME": str(tmp_path)},
        capture_output=True,
        text=True,
        timeout=120,
        check=True,
    )
    assert done.stdout == "True\n"


def test_a_failed_run_leaves_what_happened(tmp_path: Path, model: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("STORE_SECRET", "planted-secret")
    raw = tmp_path / "planted-secret-<b>"
    with pytest.raises(MissingError):
        refresh_embeddings(str(raw), str(tmp_path / "table"), model=model)
    with get_client(sync_client=True) as client:
        artifacts = client.request(
            "POST", "/artifacts/filter", json={"artifacts": {"key": {"any_": ["what-happened"]}}}
        ).json()
    what_happened = next(str(item["data"]) for item in artifacts if "***-" in str(item["data"]))
    assert "no such file or folder" in what_happened
    assert "***-&lt;b&gt;" in what_happened
    assert "planted-secret" not in what_happened


def test_an_engine_is_a_name_or_json_on_the_command_line() -> None:
    assert parse_engine("dask") == EngineSettings.model_validate({"kind": "dask"})
    assert parse_engine('{"kind": "ray", "gpus_per_worker": 0.5}').gpus_per_worker == 0.5
    done = CliRunner().invoke(app, ["refresh", "raw", "table", "--engine", "spark", "--json"])
    assert done.exit_code == 1
    assert "'local', 'ray' or 'dask'" in json.loads(done.stdout)["error"]["message"]


def test_a_location_with_credentials_makes_no_run() -> None:
    done = CliRunner().invoke(app, ["refresh", "s3://key:planted-secret@bucket/raw", "table"])
    assert done.exit_code == 2
    assert "planted-secret" not in done.output

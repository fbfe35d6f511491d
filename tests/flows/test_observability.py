"""What a run leaves for people: its name, its artifacts, its metrics, the trend report."""

import json
from pathlib import Path
from typing import Any

import pytest
from prefect.client.orchestration import get_client
from typer.testing import CliRunner

from flows.cli.commands import app
from flows.cli.options import parse_engine
from flows.engines import EngineSettings
from flows.refresh import refresh_embeddings
from sbert.errors import MissingError
from sbert.refresh.run_metrics import read_runs
from tests.support.tables import rows, write

pytestmark = pytest.mark.usefixtures("prefect_server")


def run_of(run_id: str) -> tuple[dict[str, Any], dict[str, dict[str, Any]]]:
    """Give a flow run and its artifacts by key."""
    with get_client(sync_client=True) as client:
        run = client.request("GET", f"/flow_runs/{run_id}").json()
        asked = {"artifacts": {"flow_run_id": {"any_": [run_id]}}}
        found = client.request("POST", "/artifacts/filter", json=asked).json()
    return run, {item["key"] or item["type"]: item for item in found}


def test_a_run_says_what_it_does_and_remembers_what_it_did(tmp_path: Path, model: str) -> None:
    raw, table = tmp_path / "raw", tmp_path / "tickets"
    for number in range(3):
        write(raw / f"part-{number}.jsonl", [*rows(number * 20, 20), {"id": f"blank {number}", "text": " "}])
    settings = {"splits": {"pack_below_bytes": 0}}
    first = refresh_embeddings(str(raw), str(table), model=model, settings=settings)  # type: ignore[arg-type]
    write(raw / "part-1.jsonl", rows(500, 15))
    second = refresh_embeddings(str(raw), str(table), settings=settings)  # type: ignore[arg-type]
    runs = read_runs(str(table)).to_dicts()
    assert [(run["num_rows_read"], run["num_rows"], run["version"]) for run in runs] == [(63, 60, 0), (15, 55, 1)]
    assert runs[0]["rejects_by_reason"] == [{"reason": "empty_text", "num_rows": 3}]
    assert runs[1]["num_rows_sampled"] == 55
    assert (runs[0]["engine"], runs[0]["concurrency"]) == ("local", 2)
    assert first.run_url is not None
    assert first.run_url.endswith(runs[0]["run_id"])
    assert second.run_url is not None
    run, artifacts = run_of(second.run_url.rsplit("/", 1)[-1])
    assert run["name"] == "refresh tickets · 1 of 3 splits changed"
    assert "| `part-1.jsonl` |" in artifacts["plan"]["data"]
    assert "| encoded | 15 (15 distinct texts) |" in artifacts["refresh-report"]["data"]
    output = tmp_path / "trend.html"
    done = CliRunner().invoke(app, ["report", str(table), "--output", str(output), "--json"])
    assert json.loads(done.stdout)["output"] == str(output)
    assert output.read_text().count("data:image/svg+xml") == 15


def test_a_dry_run_is_named_and_leaves_no_metrics(tmp_path: Path, model: str) -> None:
    write(tmp_path / "raw/a.jsonl", rows(0, 5))
    report = refresh_embeddings(str(tmp_path / "raw"), str(tmp_path / "table"), model=model, dry_run=True)
    assert report.run_url is not None
    run, artifacts = run_of(report.run_url.rsplit("/", 1)[-1])
    assert run["name"] == "refresh table · 1 of 1 splits changed"
    assert "plan" in artifacts
    assert not (tmp_path / "table").exists()


def test_a_failed_run_leaves_what_happened(tmp_path: Path, model: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("STORE_SECRET", "planted-secret")
    raw = tmp_path / "planted-secret-<b>"
    with pytest.raises(MissingError):
        refresh_embeddings(str(raw), str(tmp_path / "table"), model=model)
    with get_client(sync_client=True) as client:
        found = client.request(
            "POST", "/artifacts/filter", json={"artifacts": {"key": {"any_": ["what-happened"]}}}
        ).json()
    told = next(str(item["data"]) for item in found if "***-" in str(item["data"]))
    assert "no such file or folder" in told
    assert "***-&lt;b&gt;" in told
    assert "planted-secret" not in told


def test_engines_on_the_command_line() -> None:
    assert parse_engine("dask") == EngineSettings.model_validate({"kind": "dask"})
    assert parse_engine('{"kind": "ray", "gpus_per_worker": 0.5}').gpus_per_worker == 0.5
    done = CliRunner().invoke(app, ["refresh", "raw", "table", "--engine", "spark", "--json"])
    assert done.exit_code == 1
    assert "'local', 'ray' or 'dask'" in json.loads(done.stdout)["error"]["message"]


def test_a_location_with_credentials_makes_no_run() -> None:
    done = CliRunner().invoke(app, ["refresh", "s3://key:planted-secret@bucket/raw", "table"])
    assert done.exit_code == 2
    assert "planted-secret" not in done.output

"""`make serve` starts everything on one machine, used as people use it."""

import contextlib
import json
import os
import re
import signal
import sqlite3
import time
from collections.abc import Iterator
from pathlib import Path

import psutil
import pytest

from sbert.table.delta import Table
from tests.support.prefect_stack import Stack, stack, until
from tests.support.tables import rows, write

pytestmark = [pytest.mark.slow, pytest.mark.timeout(1_200)]

LOCKED_SECONDS = 20
SILENT_SECONDS = 150
"""After this long without a heartbeat, the automation has acted on a run (90 seconds), or never will."""
NAMES = {"nightly-refresh", "watch-labels", "retrain-on-labels", "reembed-on-promotion", "backfill", "upkeep", "erase"}


@pytest.fixture(scope="module")
def served(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Stack]:
    with stack(tmp_path_factory.mktemp("served")) as running:
        yield running


def test_the_address_is_said_and_listens_on_loopback_only(served: Stack) -> None:
    ready = next(line for line in served.lines if line.startswith("ready"))
    print(ready)
    assert served.api.removesuffix("/api") in ready
    port = int(served.api.split(":")[2].split("/")[0])
    listening = {
        connection.laddr.ip for connection in psutil.net_connections("tcp")
        if connection.status == psutil.CONN_LISTEN and connection.laddr.port == port
    }  # fmt: skip
    assert listening == {"127.0.0.1"}


def test_all_deployments_are_there_and_the_night_is_scheduled(served: Stack) -> None:
    deployments = served.deployments()
    assert set(deployments) == NAMES
    for deployment in deployments.values():
        assert deployment["global_concurrency_limit"]["limit"] == 1
        assert deployment["concurrency_options"]["collision_strategy"] == "ENQUEUE"
    nightly = deployments["nightly-refresh"]["id"]

    def scheduled() -> list[dict[str, object]] | None:
        runs = served.runs(
            deployments={"id": {"any_": [nightly]}}, flow_runs={"state": {"type": {"any_": ["SCHEDULED"]}}}
        )
        return runs or None

    assert len(until(scheduled, 60)) > 1
    schedule = deployments["nightly-refresh"]["schedules"][0]["schedule"]
    assert schedule["cron"] == "0 2 * * *"
    assert schedule["timezone"] == "Europe/Berlin"
    automations = {item["name"] for item in served.call("POST", "/automations/filter", {})}
    assert "sbert crash silent runs" in automations


def test_each_field_of_the_backfill_form_has_a_title_and_a_description(served: Stack) -> None:
    schema = served.deployments()["backfill"]["parameter_openapi_schema"]
    properties = schema["properties"]
    for name, field in properties.items():
        assert field.get("title"), name
        assert field.get("description"), name
    assert len(properties) <= 10
    assert properties["since"]["anyOf"][0]["format"] == "date"


def test_a_run_names_itself_logs_and_leaves_its_artifacts(served: Stack, model: str) -> None:
    raw, table = served.folder / "raw", served.folder / "table"
    write(raw / "a.jsonl", [*rows(0, 20), {"id": "x", "text": " "}])
    (raw / "notes.docx").write_bytes(b"passed over, with a warning")
    run = served.wait_for(served.start("backfill", model=model), "Completed")
    assert run["name"] == "backfill table · 1 of 1 split (new object)"
    artifacts = served.artifacts(run["id"])
    assert set(artifacts) == {"plan", "progress", "refresh-report"}
    assert "raw/ pack 1" in artifacts["plan"] or "a.jsonl" in artifacts["plan"]
    assert "empty_text" in artifacts["refresh-report"]
    logged = until(lambda: [item for item in served.logs(run["id"]) if item["name"].startswith("sbert")] or None, 60)
    assert any("passed over by their ending or name" in item["message"] for item in logged)
    assert Table.open(str(table)).num_rows == 20
    again = served.wait_for(served.start("nightly-refresh"), "Completed")
    assert again["name"] == "refresh table · 0 of 1 split (nothing to build)"
    assert len(list((table / "_runs").glob("*.parquet"))) == 2


def test_two_nights_at_once_run_one_after_the_other(served: Stack) -> None:
    first, second = served.start("nightly-refresh"), served.start("nightly-refresh")
    runs = [served.wait_for(run, "Completed") for run in (first, second)]
    begun, ended = sorted(run["start_time"] for run in runs), sorted(run["end_time"] for run in runs)
    assert ended[0] <= begun[1]


def test_a_failed_run_says_what_happened(served: Stack) -> None:
    run_id = served.start("backfill", raw_uri=str(served.folder / "nowhere"), table_uri=str(served.folder / "other"))
    served.wait_for(run_id, "Failed")
    told = until(lambda: served.artifacts(run_id).get("what-happened"), 60)
    assert "no such file or folder" in told
    assert "The next run goes on" in told


def test_labels_are_told_of_once(served: Stack) -> None:
    labels = served.folder / "labels-watched"
    labels.mkdir()
    (labels / "a.jsonl").write_text('{"text": "x", "label": "y"}\n' * 3)
    parameters = {"labels_uri": str(labels), "models_uri": str(served.folder / "models-watched")}
    waiting = served.wait_for(served.start("watch-labels", **parameters, min_new_rows=4), "Completed")
    assert waiting["state"]["message"] == "waiting for more than 3 new rows; 1 object of labels"
    told = served.wait_for(served.start("watch-labels", **parameters, min_new_rows=3), "Completed")
    assert told["state"]["message"] == "3 new rows handed over"
    again = served.wait_for(served.start("watch-labels", **parameters, min_new_rows=3), "Completed")
    assert again["state"]["message"] == "nothing new; 1 object of labels"
    events = [event for event in served.events("sbert.labels.arrived") if event["payload"]["labels_uri"] == str(labels)]
    assert len(events) == 1
    assert events[0]["payload"]["num_new_rows"] == 3


def test_a_locked_database_loses_no_event(served: Stack) -> None:
    """The event is stored when the lock is gone, and its trigger starts the retraining."""
    labels = served.folder / "labels-locked"
    labels.mkdir()
    (labels / "a.jsonl").write_text('{"text": "x", "label": "y"}\n' * 3)
    parameters = {"labels_uri": str(labels), "models_uri": str(served.folder / "models-locked"), "min_new_rows": 1}
    run_id = served.start("watch-labels", **parameters)
    until(lambda: served.run(run_id)["state_name"] == "Running" or None, 120)
    with contextlib.closing(sqlite3.connect(served.folder / "prefect/prefect.db", timeout=30)) as other:
        other.execute("BEGIN IMMEDIATE")  # as a long write of another service does
        time.sleep(LOCKED_SECONDS)
        other.rollback()
    told = served.wait_for(run_id, "Completed")
    assert told["state"]["message"] == "3 new rows handed over"
    stored = [event for event in served.events("sbert.labels.arrived") if event["payload"]["labels_uri"] == str(labels)]
    assert len(stored) == 1

    def retrained() -> list[dict[str, object]] | None:
        return [run for run in served.runs() if run["parameters"].get("labels_uri") == str(labels)
                and run["deployment_id"] == served.deployments()["retrain-on-labels"]["id"]] or None  # fmt: skip

    assert len(until(retrained, 120)) == 1
    assert not [line for line in served.lines if "database is locked" in line]
    assert not (served.folder / "prefect/dlq").exists()  # where Prefect puts events that nothing came of


def test_a_restart_ends_the_runs_of_the_killed_machine_and_keeps_the_automation(tmp_path: Path) -> None:
    """Everything is killed at once, as by a power cut: server, worker, flow and serve.py.

    Of three runs one is in the middle, one waits for it, and one has no process yet.
    """
    raw, table = tmp_path / "raw", tmp_path / "table"
    for number in range(60):
        write(raw / f"part-{number:02}.jsonl", rows(number * 400, 400))
    with stack(tmp_path) as served:
        run_id = start_long(served, raw, table)
        waiting = served.start("backfill", raw_uri=str(raw), table_uri=str(table))
        upkeep = served.deployments()["upkeep"]["id"]
        pending = {"state": {"type": "PENDING", "name": "Pending"}}
        without_process = served.call("POST", f"/deployments/{upkeep}/create_flow_run", pending)["id"]
        automations = automation_ids(served)
        flow = served.process_of(run_id)
        for process in (served.process, *psutil.Process(served.process.pid).children(recursive=True), flow):
            with contextlib.suppress(psutil.NoSuchProcess):
                os.kill(process.pid, signal.SIGKILL)
        killed = time.monotonic()
    with stack(tmp_path) as served:
        for orphan in (run_id, without_process):
            run = served.wait_for(orphan, "Crashed", seconds=10)
            assert "The machine or the worker stopped" in run["state"]["message"]
        assert automation_ids(served) == automations
        next_run = served.wait_for(waiting, "Completed", seconds=500)
        triggers = served.call("POST", "/automations/filter", {})
        assert next_run["start_time"] > max(item["created"] for item in triggers)  # no event meets a missing trigger
        assert served.wait_for(served.start("nightly-refresh"), "Completed", seconds=500)
        time.sleep(max(0.0, killed + SILENT_SECONDS - time.monotonic()))
        assert not [line for line in served.lines if "already in terminal state" in line]


def automation_ids(served: Stack) -> set[str]:
    return {
        item["id"] for item in served.call("POST", "/automations/filter", {}) if item["name"].startswith("sbert crash")
    }


@pytest.fixture
def long_raw(served: Stack, request: pytest.FixtureRequest) -> Path:
    """Enough text for a run that is still going on when something happens to it."""
    raw = served.folder / f"long-{request.node.name}"
    for number in range(60):
        write(raw / f"part-{number:02}.jsonl", rows(number * 400, 400))
    return raw


def start_long(served: Stack, raw: Path, table: Path) -> str:
    settings = {"splits": {"pack_below_bytes": 0}}
    run_id = served.start("backfill", raw_uri=str(raw), table_uri=str(table), settings=settings, concurrency=1)
    until(lambda: len(list((table / "_splits").glob("*.json"))) >= 2 or None, 300)
    return run_id


def finish(served: Stack, raw: Path, table: Path, num_finished: int) -> None:
    """Run again, and check that finished splits are taken over and no row is lost."""
    settings = {"splits": {"pack_below_bytes": 0}}
    run_id = served.start("backfill", raw_uri=str(raw), table_uri=str(table), settings=settings, concurrency=2)
    run = served.wait_for(run_id, "Completed", seconds=500)
    row = re.search(
        r"\| finished by an earlier run, published now \| (\d+) \|", served.artifacts(run_id)["refresh-report"]
    )
    assert row
    resumed = int(row[1])
    assert resumed >= num_finished, run["name"]
    assert Table.open(str(table)).num_rows == 24_000


def test_cancelling_stops_within_seconds_and_can_be_resumed(served: Stack, long_raw: Path) -> None:
    table = served.folder / "cancelled"
    run_id = start_long(served, long_raw, table)
    began = time.monotonic()
    served.call("POST", f"/flow_runs/{run_id}/set_state", {"state": {"type": "CANCELLING", "name": "Cancelling"}})
    served.wait_for(run_id, "Cancelled", seconds=120)
    print(f"cancelled after {time.monotonic() - began:.0f} s")
    assert "cancelled the run" in until(lambda: served.artifacts(run_id).get("what-happened"), 60)
    finish(served, long_raw, table, len(list((table / "_splits").glob("*.json"))))


def test_a_killed_run_is_crashed_at_once_and_healed_by_the_next(served: Stack, long_raw: Path) -> None:
    table = served.folder / "killed"
    run_id = start_long(served, long_raw, table)
    os.kill(served.process_of(run_id).pid, signal.SIGKILL)
    served.wait_for(run_id, "Crashed", seconds=120)
    assert "The process died" in until(lambda: served.artifacts(run_id).get("what-happened"), 60)
    finish(served, long_raw, table, 2)


def test_a_run_killed_with_its_worker_is_noticed(tmp_path: Path) -> None:
    """Nothing is left that could report: only the missing heartbeat tells."""
    raw, table = tmp_path / "raw", tmp_path / "table"
    for number in range(60):
        write(raw / f"part-{number:02}.jsonl", rows(number * 400, 400))
    with stack(tmp_path) as served:
        run_id = start_long(served, raw, table)
        worker = next(
            process for process in psutil.Process(served.process.pid).children() if "worker" in process.cmdline()
        )
        os.kill(served.process.pid, signal.SIGSTOP)  # it would stop the server when its worker is gone
        for process in (worker, served.process_of(run_id)):
            os.kill(process.pid, signal.SIGKILL)
        began = time.monotonic()
        try:
            run = served.wait_for(run_id, "Crashed", seconds=400)
            print(f"noticed after {time.monotonic() - began:.0f} s")
            assert "No heartbeat for 90 seconds" in json.dumps(run["state"])
        finally:
            os.kill(served.process.pid, signal.SIGCONT)
    with stack(tmp_path) as served:
        finish(served, raw, table, 2)


def test_ctrl_c_stops_everything(tmp_path: Path) -> None:
    with stack(tmp_path) as served:
        children = psutil.Process(served.process.pid).children(recursive=True)
        assert len(children) >= 2
    assert served.process.returncode == 0
    assert not [child for child in children if child.is_running() and child.status() != psutil.STATUS_ZOMBIE]

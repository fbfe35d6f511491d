"""A retraining that passed waits in Prefect for a person."""

import threading
import time
from pathlib import Path
from typing import Any
from uuid import UUID

import pytest
from prefect.client.orchestration import get_client
from prefect.client.schemas.filters import FlowRunFilter
from prefect.flow_runs import resume_flow_run

from flows.retrain import retrain_on_labels
from sbert.labels.label_kinds import LabelKind
from sbert.registry.store import Registry
from sbert.retrain.settings import RetrainSettings
from tests.sbert.retrain.test_run import QUICK
from tests.support.tiny_models import save_tiny
from tests.support.toy_training import toy_rows

pytestmark = pytest.mark.usefixtures("prefect_server")


def paused_run(earlier: set[UUID], seconds: float = 120) -> UUID:
    """Wait until a run is paused, and return its id."""
    wanted = FlowRunFilter.model_validate({"state": {"type": {"any_": ["PAUSED"]}}})
    end = time.monotonic() + seconds
    with get_client(sync_client=True) as client:
        while time.monotonic() < end:
            new_runs = [run.id for run in client.read_flow_runs(flow_run_filter=wanted) if run.id not in earlier]
            if new_runs:
                return new_runs[0]
            time.sleep(0.2)
    raise AssertionError("no run was paused")


@pytest.mark.slow
def test_the_form_in_the_ui_decides_and_silence_refuses(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("tasks.ask_approval.POLL_SECONDS", 1)
    monkeypatch.setattr("tasks.events._is_stored", lambda _: True)
    toy_rows(LabelKind.SCORED_PAIRS, 240).write_ndjson(tmp_path / "labels.jsonl")
    base, models = save_tiny(tmp_path / "base"), str(tmp_path / "models")

    def run(hours: float) -> Any:
        settings = RetrainSettings.model_validate(
            {**QUICK, "gate": {"approval": "ask", "approval_hours": hours, "robustness": {"sets": []}}}
        )
        return retrain_on_labels(str(tmp_path / "labels.jsonl"), models, base, settings=settings)

    def answer() -> None:
        resume_flow_run(
            paused_run(set()), run_input={"approve": True, "name": "Ada", "reason": "better on our tickets"}
        )

    person = threading.Thread(target=answer)
    person.start()
    report = run(1)
    person.join()
    assert report.promoted
    assert report.version == "v0002"
    assert "approved by Ada: better on our tickets" in report.reason
    registry = Registry(models)
    registry.rollback("v0001")
    toy_rows(LabelKind.SCORED_PAIRS, 300).write_ndjson(tmp_path / "labels.jsonl")
    silent = run(2 / 3600)
    assert not silent.promoted
    assert not silent.awaits_approval
    assert "refused by nobody: nobody answered within" in silent.reason
    approval = registry.version(silent.candidate or "").approval
    assert approval is not None
    assert not approval.approved

"""A person has the last word where the settings say so."""

import json
from pathlib import Path
from typing import Any

import pytest
from typer.testing import CliRunner

from flows.cli.commands import app
from sbert.errors import RegistryError
from sbert.labels.label_kinds import LabelKind
from sbert.registry.approval import Approval, made_now
from sbert.registry.store import Registry
from sbert.retrain.gate_settings import ApprovalMode
from sbert.retrain.late_decision import decide_version
from sbert.retrain.retrain_inputs import find_inputs
from sbert.retrain.retrain_report import RetrainReport
from sbert.retrain.run import RetrainSteps, retrain
from sbert.retrain.settings import RetrainJob, RetrainSettings
from tests.sbert.retrain.test_run import QUICK
from tests.support.tiny_models import save_tiny
from tests.support.toy_training import toy_rows


def no_training(*_: object) -> Any:
    pytest.fail("a version that waits is trained again")


@pytest.fixture(scope="module")
def waiting(tmp_path_factory: pytest.TempPathFactory) -> tuple[RetrainJob, RetrainReport]:
    """A registry with a version that passed and waits; tests work on copies of it."""
    folder = tmp_path_factory.mktemp("waiting")
    toy_rows(LabelKind.SCORED_PAIRS, 240).write_ndjson(folder / "labels.jsonl")
    settings = {**QUICK, "gate": {"approval": "ask", "robustness": {"sets": []}}}
    job = RetrainJob(
        labels_uri=str(folder / "labels.jsonl"),
        models_uri=str(folder / "models"),
        base=save_tiny(folder / "base"),
        settings=RetrainSettings.model_validate(settings),
    )
    return job, retrain(job)


@pytest.fixture
def job(waiting: tuple[RetrainJob, RetrainReport], tmp_path: Path) -> RetrainJob:
    import shutil

    shutil.copytree(waiting[0].models_uri, tmp_path / "models")
    return waiting[0].model_copy(update={"models_uri": str(tmp_path / "models")})


def production(job: RetrainJob) -> str:
    pointer = Registry(job.models_uri).production()
    assert pointer is not None
    return pointer.version


def said(approved: bool) -> Approval:
    return made_now(approved=approved, name="Ada", reason="looked at the report")


def test_a_candidate_that_passed_waits_and_is_not_trained_again(
    job: RetrainJob, waiting: tuple[RetrainJob, RetrainReport]
) -> None:
    report = waiting[1]
    assert report.awaits_approval
    assert not report.promoted
    assert report.candidate == "v0002"
    assert report.version == "v0001"
    assert "waits for approval" in report.summary()
    assert production(job) == "v0001"
    again = retrain(job, RetrainSteps(train=no_training))
    assert again.awaits_approval
    assert again.candidate == "v0002"


@pytest.mark.parametrize("approved", [True, False])
def test_the_decision_of_a_person_is_carried_out_and_recorded(job: RetrainJob, approved: bool) -> None:
    asked: list[RetrainReport] = []
    announced: list[bool] = []

    def ask(_: RetrainJob, report: RetrainReport) -> Approval:
        asked.append(report)
        return said(approved)

    steps = RetrainSteps(train=no_training, ask=ask, announce=lambda _, report: announced.append(report.promoted))
    report = retrain(job, steps)
    assert report.promoted == approved
    assert not report.awaits_approval
    assert production(job) == ("v0002" if approved else "v0001")
    assert announced == [approved]
    record = json.loads(Path(job.models_uri, "v0002/version.json").read_text())
    assert record["approval"]["name"] == "Ada"
    assert record["approval"]["approved"] is approved
    assert record["approval"]["reason"] == "looked at the report"
    assert f"{'approved' if approved else 'refused'} by Ada: looked at the report" in report.reason
    again = retrain(job, steps)
    assert again.decided_before
    assert len(asked) == 1


def test_an_approval_may_come_later_and_the_first_decision_counts(job: RetrainJob) -> None:
    report = decide_version(job.models_uri, "v0002", said(approved=True))
    assert report.promoted
    assert report.version == "v0002"
    assert production(job) == "v0002"
    with pytest.raises(RegistryError, match="v0002 does not wait for a decision: it was approved by Ada"):
        decide_version(job.models_uri, "v0002", said(approved=False))
    assert retrain(job, RetrainSteps(train=no_training)).decided_before


def test_a_decision_whose_process_was_killed_in_the_middle_counts(job: RetrainJob) -> None:
    folder = Path(job.models_uri, "v0002")
    (folder / "approval.json").write_text(
        said(approved=True).model_dump_json()
    )  # killed before version.json and promotion
    report = retrain(job, RetrainSteps(train=no_training))
    assert report.promoted
    assert production(job) == "v0002"


def test_an_approval_of_what_was_compared_with_another_production_is_refused(job: RetrainJob) -> None:
    registry = Registry(job.models_uri)
    other = registry.version("v0001").model_copy(update={"encoder_fingerprint": "e" * 64, "version": ""})
    added = registry.add(other, Path(job.base or ""))
    registry.promote(added.version, current=registry.production(), reason="by hand", run_id="x")
    with pytest.raises(RegistryError, match=r"v0002 was compared with .* but production is v0003 \(eeeeeeeeeeee\) now"):
        decide_version(job.models_uri, "v0002", said(approved=True))
    assert not decide_version(job.models_uri, "v0002", said(approved=False)).promoted


def test_who_is_asked_does_not_change_what_a_run_is(job: RetrainJob) -> None:
    automatic = job.settings.model_copy(
        update={"gate": job.settings.gate.model_copy(update={"approval": ApprovalMode.AUTOMATIC})}
    )
    keys = {find_inputs(item, "r").run_key for item in (job, job.model_copy(update={"settings": automatic}))}
    assert len(keys) == 1


def test_the_command_lists_what_waits_and_decides(job: RetrainJob) -> None:
    run = CliRunner().invoke
    assert "waits for approval" in run(app, ["models", job.models_uri]).stdout
    incomplete = run(app, ["models", job.models_uri, "approve", "v0002"])
    assert incomplete.exit_code == 1
    assert "needs one version, --name and --reason" in incomplete.output
    done = run(app, ["models", job.models_uri, "refuse", "v0002", "--name", "Ada", "--reason", "too slow", "--json"])
    assert done.exit_code == 0, done.output
    assert json.loads(done.stdout)["approval"]["approved"] is False
    listing = run(app, ["models", job.models_uri]).stdout
    assert "refused by Ada: too slow" in listing
    assert production(job) == "v0001"

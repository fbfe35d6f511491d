"""A whole retraining by one call of the library, without Prefect."""

from pathlib import Path
from typing import Any

import pytest

from sbert.evaluation import changed_texts
from sbert.labels.label_kinds import LabelKind
from sbert.registry.store import Registry
from sbert.retrain.judge import Judgement, train_candidate
from sbert.retrain.retrain_report import RetrainReport
from sbert.retrain.run import RetrainSteps, retrain
from sbert.retrain.settings import RetrainJob, RetrainSettings
from sbert.training.result import TrainingResult
from tests.support.tiny_models import save_tiny
from tests.support.toy_training import blind_rows, toy_rows

QUICK: dict[str, Any] = {
    "labels": {"near_duplicate_similarity": 1.0, "test_share": 0.3},
    "training": {"objective": "cosine", "epochs": 4, "batch_size": 16, "learning_rate": 2e-3, "bf16": False},
    "evaluation": {"num_resamples": 200, "bias": False, "speed_texts": 0, "perturbations": []},
    "gate": {"robustness": {"sets": []}},
}


@pytest.fixture
def job(tmp_path: Path) -> RetrainJob:
    toy_rows(LabelKind.SCORED_PAIRS, 240).write_ndjson(tmp_path / "labels.jsonl")
    return RetrainJob(
        labels_uri=str(tmp_path / "labels.jsonl"),
        models_uri=str(tmp_path / "models"),
        base=save_tiny(tmp_path / "base"),
        settings=RetrainSettings.model_validate(QUICK),
    )


def test_one_call_trains_judges_and_promotes_and_the_next_has_nothing_to_do(job: RetrainJob) -> None:
    first = retrain(job)
    assert first.promoted, first.reason
    assert first.seconds > 0
    production = Registry(job.models_uri).production()
    assert production is not None
    assert production.version == first.version == "v0002"
    again = retrain(job)
    assert again.decided_before
    assert again.version == "v0002"


def test_steps_replace_the_librarys_own_and_hear_of_the_decision(job: RetrainJob) -> None:
    calls: list[str] = []

    def train(*arguments: Any) -> TrainingResult:
        calls.append("train")
        return train_candidate(*arguments)

    def announce(models_uri: str, report: RetrainReport) -> None:
        calls.append(f"announce {Path(models_uri).name} {report.version}")

    def show(_: RetrainJob, report: RetrainReport, result: TrainingResult | None) -> None:
        calls.append(f"show {report.version} {'with' if result else 'without'} training")

    steps = RetrainSteps(train=train, announce=announce, show=show)
    retrain(job, steps)
    assert calls == ["train", "announce models v0002", "show v0002 with training"]
    calls.clear()
    retrain(job, steps)
    assert calls == ["show v0002 without training"]  # what was announced is not announced again


def test_a_killed_run_leaves_checkpoints_until_it_is_resumed_or_the_labels_change(job: RetrainJob) -> None:
    def killed(*_: object) -> Judgement:
        raise KeyboardInterrupt

    runs = Path(job.models_uri, "_runs")
    with pytest.raises(KeyboardInterrupt):
        retrain(job, RetrainSteps(judge=killed))
    [run] = runs.iterdir()
    assert list(run.rglob("*.safetensors"))
    toy_rows(LabelKind.SCORED_PAIRS, 260).write_ndjson(Path(job.labels_uri))
    with pytest.raises(KeyboardInterrupt):
        retrain(job, RetrainSteps(judge=killed))
    assert not list(run.rglob("*.safetensors"))
    [resumable] = [other for other in runs.iterdir() if other != run]
    assert list(resumable.rglob("*.safetensors"))
    assert retrain(job).promoted
    assert not list(runs.rglob("*.safetensors"))


def test_a_candidate_that_unlearned_negations_is_refused_unless_the_settings_only_report(
    job: RetrainJob, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The labels call a text and its negation the same. Nothing is rehearsed, so the gate must notice.

    A random encoder does not know openings: here a text in other words is the text with its words turned round.
    """
    monkeypatch.setattr(changed_texts, "reword", lambda text, **_: " ".join(reversed(text.split())))
    blind_rows(200).write_ndjson(Path(job.labels_uri))
    decisions = []
    for action in ("refuse", "report"):
        settings: dict[str, Any] = {
            **QUICK,
            "labels": {**QUICK["labels"], "max_contradictions": 1.0},
            "training": {**QUICK["training"], "continual": {"rehearsal_weight": 0}},
            "gate": {"robustness": {"sets": ["negation"], "num_texts": 100, "action": action}},
        }
        decisions.append(
            retrain(job.model_copy(update={"settings": RetrainSettings.model_validate(settings)})).decision
        )
    refused, reported = decisions
    assert refused is not None
    assert reported is not None
    assert not refused.promoted
    [reason] = refused.reasons
    assert reason.startswith("robustness set negation: triplet_accuracy drops by ")
    assert reported.promoted
    assert reported.warnings == [reason]


def test_the_report_shows_the_robustness_sets_before_and_after(job: RetrainJob) -> None:
    made = {**QUICK, "gate": {"robustness": {"num_texts": 30, "sets": ["number", "other_domain"]}}}
    report = retrain(job.model_copy(update={"settings": RetrainSettings.model_validate(made)}))
    assert [item.set_name for item in report.decision.robustness] == ["robustness:number", "robustness:other_domain"]
    assert [item.num_rows for item in report.decision.robustness] == [30, 30]
    assert report.report_uri is not None
    page = Path(report.report_uri).read_text()
    assert "robustness:number: triplet_accuracy" in page
    assert "their intervals allow for 2 sets looked at" in page

"""One retraining from start to end, as a function of the library.

>>> from sbert.retrain.run import retrain
>>> from sbert.retrain.settings import RetrainJob
>>> report = retrain(RetrainJob(labels_uri="labels", models_uri="models"))  # doctest: +SKIP

A run that is killed anywhere is resumed by running again.
"""

import tempfile
import time
import uuid
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

from sbert.registry.approval import Approval
from sbert.retrain.judge import Judgement, judge_candidate, train_candidate
from sbert.retrain.promotion import decide_stored, promote_stored, store_and_promote
from sbert.retrain.retrain_inputs import RetrainInputs, find_inputs
from sbert.retrain.retrain_report import RetrainReport
from sbert.retrain.run_records import find_decision, record_run, remember_decision, remove_stale_checkpoints
from sbert.retrain.settings import RetrainJob
from sbert.retrain.tuning import TuningOutcome, tune_candidate
from sbert.training.result import TrainingResult

__all__ = ["RetrainSteps", "retrain"]


def _tell_nobody(models_uri: str, report: RetrainReport) -> None:
    """Do nothing: outside Prefect there is no one to tell."""


def _ask_nobody(job: RetrainJob, report: RetrainReport) -> Approval | None:
    """Ask no one: the version stays stored and waits for `sbert models MODELS approve`, or the next run."""


def _show_nothing(job: RetrainJob, report: RetrainReport, result: TrainingResult | None) -> None:
    """Do nothing: the caller gets the report."""


@dataclass(frozen=True)
class RetrainSteps:
    """The functions that do the parts of a retraining. The flow passes the same functions as Prefect tasks."""

    find_inputs: Callable[[RetrainJob, str], RetrainInputs] = find_inputs
    remove_stale_checkpoints: Callable[[RetrainJob, RetrainInputs], list[str]] = remove_stale_checkpoints
    find_decision: Callable[[RetrainInputs], RetrainReport | None] = find_decision
    record_run: Callable[[RetrainInputs], None] = record_run
    train: Callable[[RetrainJob, RetrainInputs, Path], TrainingResult] = train_candidate
    search: Callable[[RetrainJob, RetrainInputs, Path], TuningOutcome] = tune_candidate
    """Takes the place of `train` where the settings ask for a search."""
    judge: Callable[[RetrainJob, RetrainInputs, TrainingResult], Judgement] = judge_candidate
    store_and_promote: Callable[[RetrainJob, RetrainInputs, TrainingResult, Judgement], RetrainReport] = (
        store_and_promote
    )
    promote_stored: Callable[[RetrainInputs], RetrainReport] = promote_stored
    ask: Callable[[RetrainJob, RetrainReport], Approval | None] = _ask_nobody
    """Asks a person about a candidate that passed, where the settings say so; None leaves it waiting."""
    decide: Callable[[RetrainInputs, RetrainReport, Approval], RetrainReport] = decide_stored
    announce: Callable[[str, RetrainReport], None] = _tell_nobody
    """Gets the registry and the report of each new decision, before the decision is remembered."""
    remember: Callable[[RetrainJob, RetrainInputs, RetrainReport], None] = remember_decision
    show: Callable[[RetrainJob, RetrainReport, TrainingResult | None], None] = _show_nothing
    """Gets every report, and the numbers of the training if there was one."""


def retrain(job: RetrainJob, steps: RetrainSteps | None = None, *, run_id: str | None = None) -> RetrainReport:
    """Fine-tune the encoder on labels, compare it with production, and promote it only if it is better.

    Args:
        job: the labels, the registry, and all settings.
        steps: functions in place of the library's own, for example wrapped as tasks.
        run_id: name of the run in records; a random one by default.

    Returns:
        The decision and the numbers behind it. A refused candidate is not an error. A candidate that waits for a person
        is stored; running again finds it and trains nothing.

    Raises:
        LabelError: when nothing should be learned from the labels.
        EvaluationError, SettingsError: when two encoders cannot be compared on these labels with these settings.
        TrainingError: when training failed; production stays.
        PromotionConflictError: when another run promoted a version meanwhile; the candidate is stored, not promoted.
    """
    began = time.monotonic()
    steps = steps or RetrainSteps()
    inputs = steps.find_inputs(job, run_id or str(uuid.uuid4()))
    steps.remove_stale_checkpoints(job, inputs)
    report = None if job.force else steps.find_decision(inputs)
    result: TrainingResult | None = None
    if report is None:
        if inputs.stored is not None:
            report = steps.promote_stored(inputs)
        else:
            steps.record_run(inputs)
            with tempfile.TemporaryDirectory(prefix="sbert-retrain-") as folder:
                if job.settings.search is None:
                    result = steps.train(job, inputs, Path(folder))
                else:
                    search = steps.search(job, inputs, Path(folder))
                    job, result = search.job, search.training
                judgement = steps.judge(job, inputs, result)
                report = steps.store_and_promote(job, inputs, result, judgement)
        approval = None
        if report.awaits_approval:
            steps.show(job, report, result)  # who is asked wants to see the report
            approval = steps.ask(job, report)
        if approval is not None:
            report = steps.decide(inputs, report, approval)
        if not report.awaits_approval:
            steps.announce(inputs.models_uri, report)
            steps.remember(job, inputs, report)
    report = report.model_copy(update={"seconds": round(time.monotonic() - began, 3)})
    steps.show(job, report, result)
    return report

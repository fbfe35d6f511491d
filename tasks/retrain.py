"""The steps of a retraining as Prefect tasks."""

from pathlib import Path

from prefect import task
from prefect.cache_policies import NO_CACHE

from sbert.counted import counted
from sbert.refresh.progress import describe_seconds
from sbert.registry.approval import Approval
from sbert.retrain.judge import Judgement, judge_candidate, train_candidate
from sbert.retrain.promotion import decide_stored, promote_stored, store_and_promote
from sbert.retrain.retrain_inputs import RetrainInputs, find_inputs
from sbert.retrain.retrain_report import RetrainReport
from sbert.retrain.run import RetrainSteps
from sbert.retrain.run_records import find_decision, record_run, remember_decision, remove_stale_checkpoints
from sbert.retrain.settings import RetrainJob
from sbert.retrain.tuning import TrialWorkers, TuningOutcome, TuningProgress, tune_candidate
from sbert.training.result import TrainingProgress, TrainingResult
from tasks.announce_decision import announce_decision, report_retrain
from tasks.ask_approval import ask_in_prefect
from tasks.progress import ProgressArtifact
from tasks.retries import RETRIED
from tasks.terminal import terminal

__all__ = ["PREFECT_STEPS", "describe_training", "describe_tuning", "search_settings"]


@task(name="find inputs", **RETRIED)
def _find_inputs(job: RetrainJob, run_id: str) -> RetrainInputs:
    terminal.update(["reading labels and finding the base encoder"])
    return find_inputs(job, run_id)


@task(name="remove stale checkpoints", **RETRIED)
def _remove_stale_checkpoints(job: RetrainJob, inputs: RetrainInputs) -> list[str]:
    return remove_stale_checkpoints(job, inputs)


@task(name="find decision", **RETRIED)
def _find_decision(inputs: RetrainInputs) -> RetrainReport | None:
    return find_decision(inputs)


@task(name="record run", **RETRIED)
def _record_run(inputs: RetrainInputs) -> None:
    record_run(inputs)


@task(name="train candidate", tags={"sbert-train"}, **RETRIED)
def _train(job: RetrainJob, inputs: RetrainInputs, folder: Path) -> TrainingResult:
    """Fine-tune; a retry continues from the last checkpoint."""
    terminal.update(["loading the encoder for training"])
    with ProgressArtifact() as artifact:

        def show(progress: TrainingProgress) -> None:
            parts = describe_training(progress)
            terminal.update(parts, progress.share)
            artifact.show(progress.share, ", ".join(parts), is_at_end=progress.step == progress.num_steps)

        return train_candidate(job, inputs, folder, show)


def describe_training(progress: TrainingProgress) -> list[str]:
    """Return the progress of a training, the most important part first: a narrow window shows the first ones."""
    parts = [f"training step {progress.step:,} of {progress.num_steps:,}"]
    if progress.seconds_left is not None and progress.step < progress.num_steps:
        parts.append(f"{describe_seconds(progress.seconds_left)} left")
    if progress.loss is not None:
        parts.append(f"loss {progress.loss:.4f}")
    if progress.dev is not None:
        parts.append(f"dev {progress.dev:.4f}")
    return parts


@task(name="search settings", tags={"sbert-train"}, **RETRIED)
def _search(job: RetrainJob, inputs: RetrainInputs, folder: Path) -> TuningOutcome:
    """Try settings; a retry goes on with the trial that was running."""
    return search_settings(job, inputs, folder)


def search_settings(
    job: RetrainJob, inputs: RetrainInputs, folder: Path, workers: TrialWorkers | None = None
) -> TuningOutcome:
    """Try settings in this process or on workers, and show the progress.

    Raises:
        SbertError: as `sbert.retrain.tuning.tune_candidate`.
    """
    terminal.update(["loading the encoder for the first trial"])
    with ProgressArtifact() as artifact:

        def show(progress: TuningProgress) -> None:
            parts = describe_tuning(progress)
            terminal.update(parts, progress.share)
            artifact.show(progress.share, ", ".join(parts), is_at_end=progress.share >= 1)

        return tune_candidate(job, inputs, folder, show, workers)


def describe_tuning(progress: TuningProgress) -> list[str]:
    """Return the progress of a search, the most important part first."""
    if progress.training is not None:
        return [f"trial {progress.num_ended + 1} of {progress.num_trials}", *describe_training(progress.training)]
    parts = [f"{progress.num_ended} of {counted(progress.num_trials, 'trial')} ended, {len(progress.shares)} running"]
    if progress.best is not None:
        parts.append(f"best dev {progress.best:.4f}")
    return parts


@task(name="judge candidate", **RETRIED)
def _judge(job: RetrainJob, inputs: RetrainInputs, result: TrainingResult) -> Judgement:
    terminal.update(["measuring production and candidate"])
    return judge_candidate(job, inputs, result)


@task(name="store and promote", cache_policy=NO_CACHE)
def _store_and_promote(
    job: RetrainJob, inputs: RetrainInputs, result: TrainingResult, judgement: Judgement
) -> RetrainReport:
    terminal.update(["storing the candidate"])
    return store_and_promote(job, inputs, result, judgement)


@task(name="promote stored version", cache_policy=NO_CACHE)
def _promote_stored(inputs: RetrainInputs) -> RetrainReport:
    return promote_stored(inputs)


@task(name="do what was decided", cache_policy=NO_CACHE)
def _decide(inputs: RetrainInputs, report: RetrainReport, approval: Approval) -> RetrainReport:
    return decide_stored(inputs, report, approval)


@task(name="remember decision", **RETRIED)
def _remember(job: RetrainJob, inputs: RetrainInputs, report: RetrainReport) -> None:
    remember_decision(job, inputs, report)


def _show(job: RetrainJob, report: RetrainReport, result: TrainingResult | None) -> None:
    report_retrain(report, result, job.settings.gate.margin)


PREFECT_STEPS = RetrainSteps(
    find_inputs=_find_inputs,
    remove_stale_checkpoints=_remove_stale_checkpoints,
    find_decision=_find_decision,
    record_run=_record_run,
    train=_train,
    search=_search,
    judge=_judge,
    store_and_promote=_store_and_promote,
    promote_stored=_promote_stored,
    ask=ask_in_prefect,
    decide=_decide,
    announce=announce_decision,
    remember=_remember,
    show=_show,
)
"""The steps that the flow passes to `sbert.retrain.run.retrain`."""

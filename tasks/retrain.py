"""Retrain: prepare, train, judge, finish."""

from pathlib import Path

from prefect import task
from prefect.cache_policies import NO_CACHE

from sbert.retrain.finish import earlier_decision, finish, remember
from sbert.retrain.judge import Judgement, judge, train
from sbert.retrain.retrain_inputs import Prepared, prepare
from sbert.retrain.retrain_report import RetrainReport
from sbert.retrain.settings import RetrainJob
from sbert.training.result import TrainingProgress, TrainingResult
from tasks.report import open_progress, show_progress
from tasks.retries import RETRIED

__all__ = [
    "find_decision",
    "finish_retrain",
    "judge_candidate",
    "prepare_retrain",
    "remember_decision",
    "train_candidate",
]


@task(name="prepare retrain", **RETRIED)
def prepare_retrain(job: RetrainJob, run_id: str) -> Prepared:
    """Read the labels, find production, find what an earlier run left."""
    return prepare(job, run_id)


@task(name="find decision", **RETRIED)
def find_decision(prepared: Prepared) -> RetrainReport | None:
    """Give the decision of an earlier run on the same labels and settings."""
    return earlier_decision(prepared)


@task(name="train candidate", tags={"sbert-train"}, **RETRIED)
def train_candidate(job: RetrainJob, prepared: Prepared, folder: Path) -> TrainingResult:
    """Fine-tune; a retry goes on from the last checkpoint."""
    artifact = open_progress("training: preparing")

    def show(progress: TrainingProgress) -> None:
        loss = "" if progress.loss is None else f", loss {progress.loss:.4f}"
        dev = "" if progress.dev is None else f", dev {progress.dev:.4f}"
        share = progress.step / max(progress.num_steps, 1)
        show_progress(artifact, share, f"training: step {progress.step:,} of {progress.num_steps:,}{loss}{dev}")

    return train(job, prepared, folder, show)


@task(name="judge candidate", **RETRIED)
def judge_candidate(job: RetrainJob, prepared: Prepared, result: TrainingResult) -> Judgement:
    """Measure production and candidate on the same frozen rows, and decide."""
    return judge(job, prepared, result)


@task(name="finish retrain", cache_policy=NO_CACHE)
def finish_retrain(
    job: RetrainJob,
    prepared: Prepared,
    result: TrainingResult | None = None,
    judgement: Judgement | None = None,
) -> RetrainReport:
    """Store the candidate and promote it if it passed."""
    return finish(job, prepared, result, judgement)


@task(name="remember decision", **RETRIED)
def remember_decision(job: RetrainJob, prepared: Prepared, report: RetrainReport) -> None:
    """Keep the decision, after it was announced, so that it is not made again; drop what it needs no longer."""
    remember(job, prepared, report)

"""Searches whose trials are scripts, in this process or on workers that are threads."""

import time
from collections.abc import Callable
from concurrent.futures import FIRST_COMPLETED, Future, ThreadPoolExecutor, wait
from pathlib import Path
from typing import Any

import pytest

from sbert.errors import SbertError
from sbert.retrain import trial
from sbert.retrain.retrain_inputs import find_inputs
from sbert.retrain.settings import RetrainJob
from sbert.retrain.trial import TrialEnd, TrialJob, run_trial_in_worker
from sbert.retrain.tuning import TuningOutcome, TuningProgress, tune_candidate
from sbert.training.result import StopReason, TrainingProgress, TrainingResult

__all__ = ["RATES", "SPACE", "MakeJob", "Tell", "ThreadWorkers", "script_training", "search", "until_stopped"]

MakeJob = Callable[..., RetrainJob]
RATES = [1e-3, 2e-3, 3e-3, 4e-3, 5e-3, 6e-3]
SPACE = {"learning_rate": RATES}


class ThreadWorkers:
    """Workers that are threads of this process; they know a trial by what lies in its folder alone."""

    num_threads = None

    def __init__(self, num_at_once: int) -> None:
        self.num_at_once = num_at_once
        self.begun: list[TrialJob] = []
        self.is_stopped = False
        self._pool = ThreadPoolExecutor(num_at_once)
        self._numbers: dict[Future[TrialEnd], int] = {}

    def begin(self, job: TrialJob) -> None:
        assert len(self._numbers) < self.num_at_once
        self.begun.append(job)
        self._numbers[self._pool.submit(run_trial_in_worker, job)] = job.number

    def ended(self, seconds: float) -> list[tuple[int, TrialEnd | SbertError]]:
        done, _ = wait(self._numbers, timeout=min(seconds, 0.02), return_when=FIRST_COMPLETED)
        return [(self._numbers.pop(future), end_of(future)) for future in done]

    def stop(self) -> None:
        self.is_stopped = True

    def close(self) -> None:
        """Wait for the trials that are running."""
        self._pool.shutdown()


def end_of(future: Future[TrialEnd]) -> TrialEnd | SbertError:
    error = future.exception()
    if error is not None and not isinstance(error, SbertError):
        raise error
    return future.result() if error is None else error


def search(job: RetrainJob, folder: Path, workers: ThreadWorkers, shown: list[TuningProgress]) -> TuningOutcome:
    return tune_candidate(job, find_inputs(job, "run"), folder, shown.append, workers)


Tell = Callable[[float, float], None]
"""Tells a dev value, after a share of the training."""


def script_training(monkeypatch: pytest.MonkeyPatch, script: Callable[[float, Tell], float]) -> None:
    """Replace training by a script, which gets the learning rate and returns the best dev value."""

    def train(base: str, labels: Any, settings: Any, folder: Path, **options: Any) -> TrainingResult:
        def tell(share: float, dev: float) -> None:
            options["evaluate_dev"](dev)
            options["on_progress"](TrainingProgress(round(100 * share), 100, dev=dev))

        options["evaluate_dev"](0.0)  # of the base encoder
        best = script(settings.learning_rate, tell)
        (folder / "model").mkdir()
        (folder / "model" / "weights").write_text(str(best))
        return TrainingResult(
            folder=str(folder / "model"), stop_reason=StopReason.COMPLETED, dev_before=0.0, dev_best=best,
            best_step=1, num_steps=4, num_trainable=1, num_parameters=1, num_tokens=1, seconds=1.0,
            rows_per_second=1.0, tokens_per_second=1.0,
        )  # fmt: skip

    monkeypatch.setattr(trial, "dev_score", lambda *_: float)
    monkeypatch.setattr(trial, "train_encoder", train)
    monkeypatch.setattr(trial, "STOP_SECONDS", 0.0)


def until_stopped(tell: Tell, share: float, dev: float) -> None:
    """Train until the search says stop; give up after a minute."""
    for _ in range(3_000):
        tell(share, dev)
        time.sleep(0.02)
    raise AssertionError("nobody stopped the trial")

"""Tune the settings of a training by a search on dev rows; the gate judges the best once, on rows that no trial has seen.

Each trial trains from the same base with other settings. Optuna proposes the settings (a tree-structured Parzen estimator)
and stops trials that fall behind (the median rule). The first trial is the recipe, so that the best is never worse on dev
than the recipe. Test rows are not measured before the gate does it: `sbert.retrain.judge.judge_candidate`.

Trials run one after the other in this process, or side by side on workers. The process of the search proposes, compares and
keeps the journal; a worker trains.

The dev metric of the best of many trials is too good by chance. The gate's interval does not suffer from that.
"""

import contextlib
import gc
import json
import logging
import math
import time
from collections.abc import Callable, Iterable
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any, Protocol

from pydantic import TypeAdapter

from sbert.errors import SbertError, SettingsError, StorageError, TooFewLabelsError, TrainingError, WorkerError
from sbert.retrain.label_rows import unchanged_rows
from sbert.retrain.retrain_inputs import RetrainInputs
from sbert.retrain.search_space import recipe_values, search_space, suggest
from sbert.retrain.settings import RetrainJob
from sbert.retrain.study import ended_trials, open_study, remove_folder, remove_left_folders, trial_folder
from sbert.retrain.trial import (
    RESULT_NAME,
    TrialEnd,
    TrialJob,
    TrialOutcome,
    read_values,
    run_trial,
    stop_trial,
)
from sbert.retrain.tuning_settings import TuningSettings, Value, changes_of
from sbert.storage.files import join
from sbert.storage.retry import try_again
from sbert.training.checkpoints import CheckpointStore
from sbert.training.recipes import with_changes
from sbert.training.result import TrainingProgress, TrainingResult, Trial
from sbert.training.settings import TrainingFields, TrainingSettings

__all__ = ["TrialWorkers", "TuningOutcome", "TuningProgress", "tune_candidate"]

log = logging.getLogger(__name__)

POLL_SECONDS = 1.0
"""Time between two looks at what trials on workers have told."""
SECONDS = "seconds"
"""Attribute of a trial, and of the study: how long it has taken."""
LAST_DEV = "dev"
"""Attribute of a trial: the dev value that was measured last."""
SLACK = 1e-6
"""For shares that are a little below a whole number of parts by rounding."""


class TrialWorkers(Protocol):
    """Workers that run trials side by side."""

    num_at_once: int
    """Trials that run at the same time."""
    num_threads: int | None
    """Threads of each worker; None for all of its machine."""

    def begin(self, trial: TrialJob) -> None:
        """Hand a trial to a worker, which calls `sbert.retrain.trial.run_trial_in_worker`."""

    def ended(self, seconds: float) -> list[tuple[int, TrialEnd | SbertError]]:
        """Wait for trials to end, at most so long; return their numbers, with their outcome or the error that ended them."""

    def stop(self) -> None:
        """Stop all trials."""


@dataclass(frozen=True)
class TuningProgress:
    """Progress of a search."""

    num_ended: int
    num_trials: int
    shares: tuple[float, ...]
    """For each trial that is running, the share of its training that is done."""
    best: float | None
    """The best dev value of a trial that ended."""
    training: TrainingProgress | None = None
    """Progress of the trial in this process; None with workers."""

    @property
    def share(self) -> float:
        """Return the share of the search that is done, from 0 to 1."""
        return min(1.0, (self.num_ended + sum(self.shares)) / self.num_trials)


@dataclass(frozen=True)
class TuningOutcome:
    """The best trial of a search."""

    job: RetrainJob
    """The job with the settings of this trial."""
    training: TrainingResult
    """Its training, with all trials."""


def tune_candidate(
    job: RetrainJob,
    inputs: RetrainInputs,
    folder: Path,
    on_progress: Callable[[TuningProgress], None] | None = None,
    workers: TrialWorkers | None = None,
) -> TuningOutcome:
    """Try settings until enough were tried or the time is over; put the model of the best trial into `folder`.

    A killed search goes on when it is run again with the same labels and settings, also in the middle of a trial.

    Args:
        job: the labels, the registry, and all settings.
        inputs: what `find_inputs` found.
        folder: a local folder for the best model.
        on_progress: called while trials run.
        workers: where trials run side by side; None for one after the other in this process.

    Raises:
        SettingsError: there are no dev rows, Optuna is not installed, or no settings of the space fit together.
        TrainingError: the recipe itself cannot be trained, or no trial ended with a model.
        WorkerError: workers that tried the recipe died again and again.
    """
    search = job.settings.search
    assert search is not None
    if unchanged_rows(job, inputs.row_fingerprints).dev is None:
        raise SettingsError(
            f"{job.labels_uri}: a search compares settings on dev rows, but there are none: set labels.dev_share above 0, "
            "or leave out the search"
        )
    tuning = _Tuning(job, inputs, search, on_progress)
    if workers is None:
        tuning.try_one_by_one()
    else:
        tuning.try_side_by_side(workers)
    return tuning.outcome(folder)


@dataclass
class _RunningTrial:
    """A trial that is running."""

    trial: Any
    """The trial of Optuna."""
    job: TrialJob
    is_first: bool
    """Whether it is the first of the search: the recipe, where the space holds it."""
    share: float = 0.0
    """The share of the training after which a dev value was measured last."""
    dev: float | None = None
    """That dev value."""
    num_reported: int = 0
    """The parts of the training, each as long as the time between two evaluations, whose dev value Optuna has."""
    is_stopped: bool = False
    began: float = field(default_factory=time.monotonic)


class _Tuning:
    """One run of a search."""

    def __init__(
        self,
        job: RetrainJob,
        inputs: RetrainInputs,
        settings: TuningSettings,
        on_progress: Callable[[TuningProgress], None] | None,
    ) -> None:
        self._job, self._inputs, self._settings = job, inputs, settings
        self._on_progress = on_progress
        self._recipe = job.settings.training_for(inputs.labels.kind)
        self._space = search_space(settings, self._recipe)
        self._uri = join(inputs.checkpoints_uri, "search")
        self._best = CheckpointStore(join(self._uri, "best"))
        self._study = open_study(self._uri, settings, recipe_values(self._space, self._recipe))
        remove_left_folders(self._uri, self._study)
        if self._has_best():
            self._best.keep_only({self._study.best_trial.number})
        self._seconds_before = self._study.user_attrs.get(SECONDS, self._seconds_of_trials())
        self._began = time.monotonic()

    def try_one_by_one(self) -> None:
        """Try settings in this process."""
        while self._wants_more(()):
            running = self._begin((), None)
            if running is None:
                continue

            def watch(progress: TrainingProgress, dev: float | None, running: _RunningTrial = running) -> str:
                self._show([progress.share], progress)
                return self._reason_to_stop(running, [] if dev is None else [(progress.share, dev)])

            try:
                end = run_trial(running.job, watch)
            except SbertError as error:
                end = self._failed(running, error)
            self._end(running, end, ())
            if end.outcome is TrialOutcome.FAILED:
                _free_memory()

    def try_side_by_side(self, workers: TrialWorkers) -> None:
        """Try settings on workers, as many at once as there are workers."""
        running: dict[int, _RunningTrial] = {}
        try:
            while True:
                while len(running) < workers.num_at_once and self._wants_more(running.values()):
                    begun = self._begin(running.values(), workers.num_threads)
                    if begun is not None:
                        running[begun.job.number] = begun
                        workers.begin(begun.job)
                if not running:
                    return
                for number, end in workers.ended(POLL_SECONDS):
                    ended = running.pop(number)
                    self._follow(ended)
                    outcome = self._failed(ended, end) if isinstance(end, SbertError) else end
                    self._end(ended, outcome, running.values())
                for trial in running.values():
                    self._follow(trial)
                self._show([trial.share for trial in running.values()])
        except BaseException:
            for trial in running.values():  # some engines cannot end a task that runs
                with contextlib.suppress(StorageError):
                    stop_trial(trial.job, "the search was stopped")
            workers.stop()
            raise

    def outcome(self, folder: Path) -> TuningOutcome:
        """Return the best trial, with its model in a folder.

        Raises:
            TrainingError: no trial ended with a model.
        """
        if not self._has_best():
            reasons = "; ".join(f"{each.number}: {each.reason}" for each in self._trials())
            raise TrainingError(f"none of the {self._settings.trials} trials ended with a model: {reasons}")
        best = self._study.best_trial
        stored = try_again(self._best.uri, lambda: self._best.fetch(best.number, folder))
        record = json.loads((stored / RESULT_NAME).read_text())
        training = TypeAdapter(TrainingResult).validate_python(record | {"folder": str(stored / "model")})
        settings = self._settings_of(best.params)
        log.info("the best of %d trials: dev %.4f", len(ended_trials(self._study)), best.value)
        changed = TrainingFields.model_validate(settings.model_dump(mode="json"))
        job = self._job.model_copy(update={"settings": self._job.settings.model_copy(update={"training": changed})})
        return TuningOutcome(job, replace(training, trials=tuple(self._trials()), checkpoints_uri=None))

    def _has_best(self) -> bool:
        return any(trial.value is not None and trial.state.name == "COMPLETE" for trial in self._study.trials)

    def _seconds_of_trials(self) -> float:
        return float(sum(trial.user_attrs[SECONDS] for trial in ended_trials(self._study)))

    def _seconds(self) -> float:
        return float(self._seconds_before) + time.monotonic() - self._began

    def _is_over(self) -> bool:
        return self._seconds() >= 60 * self._settings.max_minutes

    def _wants_more(self, running: Iterable[_RunningTrial]) -> bool:
        num_running = len(list(running))
        if len(ended_trials(self._study)) + num_running >= self._settings.trials:
            return False
        return not self._is_over() or (not self._has_best() and not num_running)

    def _settings_of(self, values: dict[str, Value]) -> TrainingSettings:
        return with_changes(self._recipe, changes_of(values))

    def _begin(self, running: Iterable[_RunningTrial], num_threads: int | None) -> _RunningTrial | None:
        """Return the next trial; None where its settings do not fit together, which ends it.

        Raises:
            SettingsError: those of the first trial do not.
        """
        others, num_ended = list(running), len(ended_trials(self._study))
        is_first = not others and not num_ended
        trial = self._study.ask()
        values = suggest(trial, self._space, self._recipe)
        try:
            settings = self._settings_of(values)
        except SettingsError as error:
            if is_first:
                raise
            self._tell(trial, TrialEnd(outcome=TrialOutcome.FAILED, reason=str(error), seconds=0.0))
            return None
        job = TrialJob(
            number=trial.number,
            place=num_ended + len(others) + 1,
            job=self._job,
            inputs=self._inputs,
            settings=settings,
            folder_uri=trial_folder(self._uri, values, [other.job.folder_uri for other in others]),
            models_uri=self._best.uri,
            better_than=self._study.best_value if self._has_best() else None,
            num_threads=num_threads,
        )
        return _RunningTrial(trial, job, is_first)

    def _follow(self, running: _RunningTrial) -> None:
        """Read what a trial on a worker has told, and stop it where there is a reason."""
        told = [value for value in read_values(running.job.folder_uri) if value[0] > running.share]
        reason = self._reason_to_stop(running, told)
        if reason and not running.is_stopped:
            stop_trial(running.job, reason)
            running.is_stopped = True

    def _reason_to_stop(self, running: _RunningTrial, told: Iterable[tuple[float, float]]) -> str:
        """Note dev values, each after a share of the training; return a reason to stop the trial, empty for none.

        Trials with other batch sizes are measured at other shares. So the training is cut into equal parts, as many as
        evaluations were asked for, and trials are compared by the first value after each part.
        """
        training = running.job.settings
        num_parts = max(1.0, training.epochs * training.evaluations_per_epoch)
        for share, dev in told:
            running.share, running.dev = share, dev
            num_done = math.floor(share * num_parts + SLACK)
            if num_done > running.num_reported:
                running.trial.report(dev, num_done)
                running.num_reported = num_done
                if share < 1 and running.trial.should_prune():
                    return f"below the median of the other trials after {share:.0%}"
        if self._has_best() and self._is_over():
            return f"the time limit of {self._settings.max_minutes:g} minutes"
        return ""

    def _failed(self, running: _RunningTrial, error: SbertError) -> TrialEnd:
        """Return the end of a trial whose settings cannot be trained with.

        Raises:
            SbertError: the error is not a matter of one trial: the recipe cannot be trained, and neither can anything near
                it; the labels changed; or storage fails.
        """
        is_of_trial = isinstance(error, TrainingError | SettingsError | TooFewLabelsError | WorkerError)
        if running.is_first or not is_of_trial:
            raise error
        seconds = round(time.monotonic() - running.began, 3)
        return TrialEnd(outcome=TrialOutcome.FAILED, reason=str(error), seconds=seconds)

    def _tell(self, trial: Any, end: TrialEnd) -> None:
        trial.set_user_attr(SECONDS, end.seconds)
        trial.set_user_attr("reason", end.reason)
        self._study.set_user_attr(SECONDS, round(self._seconds(), 3))
        self._study.tell(trial, end.dev, state=_state(end.outcome))

    def _end(self, running: _RunningTrial, end: TrialEnd, others: Iterable[_RunningTrial]) -> None:
        """Note the result of a trial, whose model is stored already, and remove what is no longer needed."""
        if running.dev is not None:
            running.trial.set_user_attr(LAST_DEV, running.dev)
        self._tell(running.trial, end)
        remove_folder(running.job.folder_uri)
        if end.outcome is TrialOutcome.COMPLETED:
            self._best.keep_only({self._study.best_trial.number, *(other.job.number for other in others)})

    def _show(self, shares: list[float], training: TrainingProgress | None = None) -> None:
        if self._on_progress is not None:
            num_ended, best = len(ended_trials(self._study)), self._study.best_value if self._has_best() else None
            self._on_progress(TuningProgress(num_ended, self._settings.trials, tuple(shares), best, training))

    def _trials(self) -> list[Trial]:
        """Return the result of each trial, in the order in which they began."""
        best = self._study.best_trial.number if self._has_best() else None
        return [
            Trial(
                number=number,
                settings=dict(trial.params),
                outcome={"COMPLETE": "completed", "PRUNED": "stopped", "FAIL": "failed"}[trial.state.name],
                dev=trial.value if trial.state.name == "COMPLETE" else trial.user_attrs.get(LAST_DEV),
                seconds=trial.user_attrs[SECONDS],
                reason=trial.user_attrs["reason"],
                is_best=trial.number == best,
            )
            for number, trial in enumerate(ended_trials(self._study), start=1)
        ]


def _free_memory() -> None:
    """Free what a training left that failed for want of memory, before the next begins."""
    import torch

    gc.collect()
    if torch.cuda.is_available():
        torch.cuda.empty_cache()


def _state(outcome: TrialOutcome) -> Any:
    from optuna.trial import TrialState

    return {
        TrialOutcome.COMPLETED: TrialState.COMPLETE,
        TrialOutcome.STOPPED: TrialState.PRUNED,
        TrialOutcome.FAILED: TrialState.FAIL,
    }[outcome]

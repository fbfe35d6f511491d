"""Tune the settings of a training by a search on dev rows; the gate judges the best once, on rows that no trial has seen.

Each trial trains from the same base with other settings. Optuna proposes the settings (a tree-structured Parzen estimator)
and stops trials that fall behind (the median rule). The first trial is the recipe, so that the best is never worse on dev
than the recipe. Test rows are not measured before the gate does it: `sbert.retrain.judge.judge_candidate`.

The dev metric of the best of many trials is too good by chance. The gate's interval does not suffer from that.
"""

import json
import logging
import shutil
import tempfile
import time
from collections.abc import Callable
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from pydantic import TypeAdapter

from sbert.encoder.sentence_encoder import SentenceEncoder
from sbert.errors import DivergedError, LabelError, SettingsError, TrainingError
from sbert.retrain.judge import dev_score
from sbert.retrain.label_rows import RetrainRows, unchanged_rows
from sbert.retrain.retrain_inputs import RetrainInputs
from sbert.retrain.search_space import recipe_values, search_space, suggest
from sbert.retrain.settings import RetrainJob
from sbert.retrain.study import ended_trials, open_study, remove_checkpoints, trial_checkpoints
from sbert.retrain.tuning_settings import TuningSettings, Value, changes_of
from sbert.storage.files import join
from sbert.training.checkpoints import CheckpointStore
from sbert.training.recipes import with_changes
from sbert.training.result import StopReason, TrainingProgress, TrainingResult, Trial
from sbert.training.settings import TrainingFields, TrainingSettings
from sbert.training.train import train_encoder

__all__ = ["TuningOutcome", "TuningProgress", "tune_candidate"]

log = logging.getLogger(__name__)

RESULT_NAME = "result.json"


@dataclass(frozen=True)
class TuningProgress:
    """Progress of a search."""

    number: int
    """The trial that is running, from 1."""
    num_trials: int
    training: TrainingProgress


@dataclass(frozen=True)
class TuningOutcome:
    """The best trial of a search."""

    job: RetrainJob
    """The job with the settings of this trial."""
    training: TrainingResult
    """Its training, with all trials."""


class _TrialStoppedError(Exception):
    """The trial falls behind, or the time is over."""


def tune_candidate(
    job: RetrainJob,
    inputs: RetrainInputs,
    folder: Path,
    on_progress: Callable[[TuningProgress], None] | None = None,
) -> TuningOutcome:
    """Try settings until enough were tried or the time is over; put the model of the best trial into `folder`.

    A killed search goes on when it is run again with the same labels and settings, also in the middle of a trial.

    Raises:
        SettingsError: there are no dev rows, Optuna is not installed, or no settings of the space fit together.
        TrainingError: the recipe itself cannot be trained, or no trial ended with a model.
    """
    search = job.settings.search
    assert search is not None
    rows = unchanged_rows(job, inputs.row_fingerprints)
    if rows.dev is None:
        raise SettingsError(
            f"{job.labels_uri}: a search compares settings on dev rows, but there are none: set labels.dev_share above 0, "
            "or leave out the search"
        )
    return _Tuning(job, inputs, rows, search, on_progress).run(folder)


class _Tuning:
    """One run of a search."""

    def __init__(
        self,
        job: RetrainJob,
        inputs: RetrainInputs,
        rows: RetrainRows,
        settings: TuningSettings,
        on_progress: Callable[[TuningProgress], None] | None,
    ) -> None:
        self._job, self._inputs, self._rows, self._settings = job, inputs, rows, settings
        self._on_progress = on_progress
        self._recipe = job.settings.training_for(rows.labels.kind)
        self._space = search_space(settings, self._recipe)
        self._uri = join(inputs.checkpoints_uri, "search")
        self._best = CheckpointStore(join(self._uri, "best"))
        self._study = open_study(self._uri, settings, recipe_values(self._space, self._recipe))

    def run(self, folder: Path) -> TuningOutcome:
        """Try settings, and return the best."""
        while len(ended_trials(self._study)) < self._settings.trials and (not self._is_over() or not self._has_best()):
            self._try_next()
        if not self._has_best():
            reasons = "; ".join(f"{each.number}: {each.reason}" for each in self._trials())
            raise TrainingError(f"none of the {self._settings.trials} trials ended with a model: {reasons}")
        best = self._study.best_trial
        stored = self._best.fetch(best.number, folder)
        record = json.loads((stored / RESULT_NAME).read_text())
        training = TypeAdapter(TrainingResult).validate_python(record | {"folder": str(stored / "model")})
        settings = self._settings_of(best.params)
        log.info("trial %d of %d is the best: dev %.4f", best.number, len(ended_trials(self._study)), best.value)
        changed = TrainingFields.model_validate(settings.model_dump(mode="json"))
        job = self._job.model_copy(update={"settings": self._job.settings.model_copy(update={"training": changed})})
        return TuningOutcome(job, replace(training, trials=tuple(self._trials()), checkpoints_uri=None))

    def _has_best(self) -> bool:
        return any(trial.value is not None and trial.state.name == "COMPLETE" for trial in self._study.trials)

    def _is_over(self, seconds: float = 0.0) -> bool:
        used = sum(trial.user_attrs["seconds"] for trial in ended_trials(self._study))
        return bool(used + seconds >= 60 * self._settings.max_minutes)

    def _settings_of(self, values: dict[str, Value]) -> TrainingSettings:
        return with_changes(self._recipe, changes_of(values))

    def _try_next(self) -> None:
        """Run one trial to its end, and store the result: its model first, then the study."""
        trial = self._study.ask()
        values = suggest(trial, self._space, self._recipe)
        checkpoints = trial_checkpoints(self._uri, values)
        began = time.monotonic()
        value, reason, state = None, "", "FAIL"
        with tempfile.TemporaryDirectory(prefix="sbert-trial-") as folder:
            try:
                result = self._train(trial, self._settings_of(values), Path(folder), checkpoints)
            except _TrialStoppedError as stopped:
                state, reason = "PRUNED", str(stopped)
            except (TrainingError, SettingsError, LabelError) as error:
                if not ended_trials(self._study) and not isinstance(error, DivergedError):
                    raise  # the recipe cannot be trained: neither can anything near it
                reason = str(error)
            else:
                if result.stop_reason is StopReason.NAN_LOSS:
                    reason = f"diverged: {result.stop_detail}"
                else:
                    state, value = "COMPLETE", result.dev_best
                    self._keep_if_best(trial.number, result, Path(folder))
        trial.set_user_attr("seconds", round(time.monotonic() - began, 3))
        trial.set_user_attr("reason", reason)
        self._study.tell(trial, value, state=_state(state))
        remove_checkpoints(checkpoints)
        if state == "COMPLETE":
            self._best.keep_only({self._study.best_trial.number})

    def _keep_if_best(self, number: int, result: TrainingResult, folder: Path) -> None:
        if self._has_best() and result.dev_best <= self._study.best_value:
            return
        (folder / RESULT_NAME).write_text(json.dumps(result.to_record()))
        for name in ("checkpoints", "runs"):
            shutil.rmtree(folder / name, ignore_errors=True)
        self._best.upload(folder, number)

    def _train(self, trial: Any, settings: TrainingSettings, folder: Path, checkpoints: str) -> TrainingResult:
        score = dev_score(self._job, self._rows)
        assert score is not None
        assert self._rows.dev is not None
        measured: list[float] = []
        num_evaluations = max(1.0, settings.epochs * settings.evaluations_per_epoch)
        began, number = time.monotonic(), len(ended_trials(self._study)) + 1

        def evaluate_dev(encoder: SentenceEncoder) -> float:
            measured.append(score(encoder))
            return measured[-1]

        def show(progress: TrainingProgress) -> None:
            if self._on_progress is not None:
                self._on_progress(TuningProgress(number, self._settings.trials, progress))
            if len(measured) > 1 and progress.dev == measured[-1]:  # the first is that of the base encoder
                step = max(1, round(progress.share * num_evaluations))
                trial.report(measured[-1], step)
                del measured[1:]
                if trial.should_prune() and progress.share < 1:
                    raise _TrialStoppedError(f"below the median of the other trials after {progress.share:.0%}")
            if self._has_best() and self._is_over(time.monotonic() - began):
                raise _TrialStoppedError(f"the time limit of {self._settings.max_minutes:g} minutes")

        return train_encoder(
            self._inputs.base,
            self._rows.labels,
            settings,
            folder,
            evaluate_dev=evaluate_dev,
            dev_texts=self._rows.dev.texts(),
            checkpoints_uri=checkpoints,
            known_objects=frozenset() if self._job.force else self._inputs.known_objects,
            on_progress=show,
        )

    def _trials(self) -> list[Trial]:
        """Return the result of each trial, in the order in which they began."""
        best = self._study.best_trial.number if self._has_best() else None
        return [
            Trial(
                number=number,
                settings=dict(trial.params),
                outcome={"COMPLETE": "completed", "PRUNED": "stopped", "FAIL": "failed"}[trial.state.name],
                dev=trial.value if trial.state.name == "COMPLETE" else _last(trial.intermediate_values),
                seconds=trial.user_attrs["seconds"],
                reason=trial.user_attrs["reason"],
                is_best=trial.number == best,
            )
            for number, trial in enumerate(ended_trials(self._study), start=1)
        ]


def _last(values: dict[int, float]) -> float | None:
    return values[max(values)] if values else None


def _state(name: str) -> Any:
    from optuna.trial import TrialState

    return TrialState[name]

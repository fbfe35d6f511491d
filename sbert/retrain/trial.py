"""One trial of a search: a training with other settings, in the process of the search or in a worker.

While a trial trains, it tells its dev values and asks whether to go on. In the process of the search a function answers
(`Watch`). In a worker two small files in the trial's folder do, so that any storage that both can reach is enough:

``values.json``    the dev values so far, each with the share of the training; the trial writes it
``stop.json``      the reason to stop; the search writes it
"""

import json
import shutil
import tempfile
import time
from collections.abc import Callable
from enum import StrEnum
from pathlib import Path
from typing import TypeAlias

from pydantic import BaseModel, ConfigDict, Field

from sbert.encoder.engine.budget import is_out_of_memory
from sbert.encoder.sentence_encoder import SentenceEncoder
from sbert.errors import DivergedError, MissingError, TrainingError
from sbert.retrain.judge import dev_score
from sbert.retrain.label_rows import unchanged_rows
from sbert.retrain.retrain_inputs import RetrainInputs
from sbert.retrain.settings import RetrainJob
from sbert.storage.files import join, read_bytes, write_bytes
from sbert.training.checkpoints import CheckpointStore
from sbert.training.result import StopReason, TrainingProgress, TrainingResult
from sbert.training.settings import TrainingSettings
from sbert.training.train import train_encoder

__all__ = [
    "RESULT_NAME",
    "TrialEnd",
    "TrialJob",
    "TrialOutcome",
    "Watch",
    "read_values",
    "run_trial",
    "run_trial_in_worker",
    "stop_trial",
]

RESULT_NAME = "result.json"
VALUES_NAME, STOP_NAME = "values.json", "stop.json"
STOP_SECONDS = 5.0
"""Time between two looks of a worker for a reason to stop."""

Watch: TypeAlias = Callable[[TrainingProgress, float | None], str]
"""Gets the progress of a training, with the dev value if one was measured; returns the reason to stop, empty to go on."""


class TrialOutcome(StrEnum):
    """The ways in which a trial ends."""

    COMPLETED = "completed"
    STOPPED = "stopped"
    """It fell behind, or the time was over."""
    FAILED = "failed"


class TrialJob(BaseModel):
    """One trial; small enough to send to any worker."""

    model_config = ConfigDict(frozen=True)

    number: int = Field(description="Number of the trial in the study.")
    place: int = Field(description="Number of the trial for people, from 1: that of the report.")
    job: RetrainJob
    inputs: RetrainInputs
    settings: TrainingSettings = Field(description="Settings that the trial trains with.")
    folder_uri: str = Field(description="Folder of its checkpoints and messages.")
    models_uri: str = Field(description="Folder of the models of trials, each under the number of its trial.")
    better_than: float | None = Field(description="The model is kept if its dev value is above this; None: always.")
    num_threads: int | None = Field(default=None, description="Threads of a worker; None for those of this process.")


class TrialEnd(BaseModel):
    """The outcome of a trial."""

    model_config = ConfigDict(frozen=True)

    outcome: TrialOutcome
    dev: float | None = Field(default=None, description="The dev value of its best checkpoint, where it completed.")
    reason: str = Field(default="", description="Reason that it was stopped or failed.")
    seconds: float


class _TrialStoppedError(Exception):
    """The trial is told to stop."""


def run_trial(trial: TrialJob, watch: Watch) -> TrialEnd:
    """Train with the settings of a trial. A killed trial goes on from its last checkpoint.

    The model is stored before the function returns.

    Raises:
        LabelError: the labels changed since the search began.
        TrainingError, SettingsError: these settings cannot be trained with, or need more memory than there is.
    """
    began = time.monotonic()

    def ended(outcome: TrialOutcome, dev: float | None = None, reason: str = "") -> TrialEnd:
        return TrialEnd(outcome=outcome, dev=dev, reason=reason, seconds=round(time.monotonic() - began, 3))

    with tempfile.TemporaryDirectory(prefix="sbert-trial-") as name:
        folder = Path(name)
        try:
            result = _train(trial, folder, watch)
        except _TrialStoppedError as stopped:
            return ended(TrialOutcome.STOPPED, reason=str(stopped))
        except DivergedError as error:
            return ended(TrialOutcome.FAILED, reason=str(error))
        except (RuntimeError, MemoryError) as error:
            if not is_out_of_memory(error):
                raise
            raise TrainingError(
                f"out of memory with batches of {trial.settings.batch_size}: lower training.batch_size ({error})"
            ) from error
        if result.stop_reason is StopReason.NAN_LOSS:
            return ended(TrialOutcome.FAILED, reason=f"diverged: {result.stop_detail}")
        if trial.better_than is None or result.dev_best > trial.better_than:
            (folder / RESULT_NAME).write_text(json.dumps(result.to_record()))
            for scratch in ("checkpoints", "runs"):
                shutil.rmtree(folder / scratch, ignore_errors=True)
            CheckpointStore(trial.models_uri).upload(folder, trial.number)
        return ended(TrialOutcome.COMPLETED, result.dev_best)


def _train(trial: TrialJob, folder: Path, watch: Watch) -> TrainingResult:
    rows = unchanged_rows(trial.job, trial.inputs.row_fingerprints)
    score = dev_score(trial.job, rows)
    assert score is not None
    assert rows.dev is not None
    measured: list[float] = []
    """The first is the value of the base encoder, the second one that was not told yet."""

    def evaluate_dev(encoder: SentenceEncoder) -> float:
        measured.append(score(encoder))
        return measured[-1]

    def show(progress: TrainingProgress) -> None:
        dev = progress.dev if len(measured) > 1 and progress.dev == measured[-1] else None
        if dev is not None:
            del measured[1:]
        if reason := watch(progress, dev):
            raise _TrialStoppedError(reason)

    return train_encoder(
        trial.inputs.base,
        rows.labels,
        trial.settings,
        folder,
        evaluate_dev=evaluate_dev,
        dev_texts=rows.dev.texts(),
        checkpoints_uri=trial.folder_uri,
        known_objects=frozenset() if trial.job.force else trial.inputs.known_objects,
        on_progress=show,
    )


def run_trial_in_worker(trial: TrialJob) -> TrialEnd:
    """Run a trial in another process than its search, with the threads that the worker was given.

    Raises:
        SbertError: as `run_trial`.
    """
    import torch

    if trial.num_threads is not None:
        torch.set_num_threads(trial.num_threads)
    return run_trial(trial, _watch_in_files(trial))


def _watch_in_files(trial: TrialJob) -> Watch:
    """Return a function that writes dev values to a trial's folder, and looks there for a reason to stop."""
    folder_uri = trial.folder_uri
    values = read_values(folder_uri)  # of a worker that died
    looked = time.monotonic()

    def watch(progress: TrainingProgress, dev: float | None) -> str:
        nonlocal looked
        if dev is not None and (not values or progress.share > values[-1][0]):
            values.append((progress.share, dev))
            write_bytes(join(folder_uri, VALUES_NAME), json.dumps(values).encode())
        if dev is None and time.monotonic() - looked < STOP_SECONDS:
            return ""
        looked = time.monotonic()
        return _reason_to_stop(trial)

    return watch


def read_values(folder_uri: str) -> list[tuple[float, float]]:
    """Return the dev values that a trial in a worker has told, each after the share of its training.

    A damaged file counts as none: it only helps to stop a trial early.
    """
    try:
        return [(float(share), float(dev)) for share, dev in json.loads(read_bytes(join(folder_uri, VALUES_NAME)))]
    except (MissingError, ValueError, TypeError):
        return []


def stop_trial(trial: TrialJob, reason: str) -> None:
    """Tell the worker of a trial to stop. A later trial in the same folder has another number, and is not meant."""
    message = {"number": trial.number, "reason": reason}
    write_bytes(join(trial.folder_uri, STOP_NAME), json.dumps(message).encode())


def _reason_to_stop(trial: TrialJob) -> str:
    try:
        message = json.loads(read_bytes(join(trial.folder_uri, STOP_NAME)))
        return str(message["reason"]) if message["number"] == trial.number else ""
    except (MissingError, ValueError, TypeError, KeyError):
        return ""

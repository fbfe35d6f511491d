"""The files that runs leave in ``MODELS_URI/_runs/RUN_KEY/``: inputs, checkpoints, and the decision.

run.json                  the labels that the run trains on, written before the first checkpoint
BASE/RUN/checkpoint-N/    checkpoints; removed when the run has decided, or when nothing can resume them any more
report.html               the report, when the candidate was production itself and no version was stored
decision.json             the decision, written last
"""

import contextlib
import datetime as dt
import logging
from typing import Any

from pydantic import BaseModel, ConfigDict, ValidationError

from sbert.errors import MissingError, StorageError
from sbert.registry.store import Registry
from sbert.registry.version_record import LabelsRecord
from sbert.retrain.retrain_inputs import RUNS_FOLDER, RetrainInputs
from sbert.retrain.retrain_report import RetrainReport
from sbert.retrain.settings import RetrainJob
from sbert.storage.errors import translate_errors
from sbert.storage.files import filesystem, join, list_names, read_bytes, strip_protocol, write_bytes

__all__ = ["find_decision", "record_run", "remember_decision", "remove_stale_checkpoints"]

log = logging.getLogger(__name__)

RUN_NAME = "run.json"
DECISION_NAME = "decision.json"


class RunRecord(BaseModel):
    """The inputs that a run trains on."""

    model_config = ConfigDict(frozen=True)

    run_id: str
    labels: LabelsRecord


def record_run(inputs: RetrainInputs) -> None:
    """Write down which labels a run trains on, so that a later run knows whether its checkpoints can still be resumed."""
    record = RunRecord(run_id=inputs.run_id, labels=inputs.labels)
    write_bytes(join(inputs.run_uri, RUN_NAME), record.model_dump_json(indent=1).encode())


def find_decision(inputs: RetrainInputs) -> RetrainReport | None:
    """Return the report of an earlier run that decided on the same labels and settings; None when there was none."""
    uri = join(inputs.run_uri, DECISION_NAME)
    try:
        report = RetrainReport.model_validate_json(read_bytes(uri))
    except MissingError:
        return None
    except ValidationError as error:
        log.warning("%s cannot be read, the decision is made again: %s", uri, error)
        return None
    production = inputs.production.version
    return report.model_copy(
        update={
            "promoted": False,
            "decided_before": True,
            "num_new_objects": 0,
            "version": production,
            "previous": production,
            "model_uri": inputs.production_uri,
            "reason": f"nothing new: these labels and settings were decided on in run {report.run_id} ({report.reason})",
        }
    )


def remember_decision(job: RetrainJob, inputs: RetrainInputs, report: RetrainReport) -> None:
    """Store the decision, so that it is not made again; remove the run's checkpoints, and weights of old refusals."""
    write_bytes(join(inputs.run_uri, DECISION_NAME), report.model_dump_json(indent=1).encode())
    _remove_checkpoints(inputs.run_uri)
    Registry(inputs.models_uri).drop_refused(job.settings.keep_refused)


def remove_stale_checkpoints(job: RetrainJob, inputs: RetrainInputs) -> list[str]:
    """Remove the checkpoints of other, killed runs that nothing will resume; return the keys of these runs.

    A run is resumed only with the labels that it began with. Its checkpoints are stale once these labels changed, and in
    any case `keep_checkpoints_days` after the last of them was written. A failure is logged and does not fail the run.
    """
    stale = []
    runs_uri = join(inputs.models_uri, RUNS_FOLDER)
    for run_key, num_bytes in list_names(runs_uri).items():
        run_uri = join(runs_uri, run_key)
        if num_bytes or run_key == inputs.run_key or not _folders(run_uri):
            continue
        age_days = _days_since_last_write(run_uri)
        has_changed = _labels_changed(run_uri, inputs.labels)
        if has_changed or age_days >= job.settings.keep_checkpoints_days:
            why = "its labels changed" if has_changed else f"it wrote nothing for {age_days:.1f} days"
            log.info("%s: removing the checkpoints of a killed run, %s", run_uri, why)
            _remove_checkpoints(run_uri)
            stale.append(run_key)
    return stale


def _labels_changed(run_uri: str, labels: LabelsRecord) -> bool:
    """Return whether a run began with other objects of the labels that are now trained on."""
    try:
        began = RunRecord.model_validate_json(read_bytes(join(run_uri, RUN_NAME))).labels
    except (MissingError, ValidationError):  # runs of earlier releases have no such file
        return False
    return began.uri == labels.uri and began.objects != labels.objects


def _days_since_last_write(run_uri: str) -> float:
    with translate_errors(run_uri):
        files: dict[str, dict[str, Any]] = filesystem(run_uri).find(strip_protocol(run_uri), detail=True)
    times = [_modified(info) for info in files.values()]
    return (dt.datetime.now(dt.UTC) - max(times)).total_seconds() / 86_400 if times else 0.0


def _modified(info: dict[str, Any]) -> dt.datetime:
    """Return when a file was last written: S3 gives a time, a disk gives seconds since 1970."""
    time = info["LastModified"] if "LastModified" in info else info.get("mtime", 0.0)
    return time if isinstance(time, dt.datetime) else dt.datetime.fromtimestamp(float(time), dt.UTC)


def _folders(run_uri: str) -> list[str]:
    """Return the folders of a run, which hold nothing but checkpoints."""
    return [join(run_uri, name) for name, num_bytes in list_names(run_uri).items() if not num_bytes]


def _remove_checkpoints(run_uri: str) -> None:
    """Remove a run's checkpoints. Checkpoints that cannot be removed take space and do no other harm."""
    for folder in _folders(run_uri):
        try:
            with contextlib.suppress(FileNotFoundError), translate_errors(folder):
                filesystem(folder).rm(strip_protocol(folder), recursive=True)
        except StorageError as error:
            log.warning("%s: checkpoints cannot be removed: %s", folder, error)

"""Fine-tune the encoder on new labels, and make it production only if it is better.

Reads as: prepare, train, judge, finish (store, promote if it passed), announce. Run it with ``sbert retrain LABELS_URI
MODELS_URI`` or as a Prefect deployment. A run that is killed anywhere is resumed by running again; one whose labels and
settings were decided on before trains nothing.
"""

import tempfile
import time
import uuid
from pathlib import Path

from prefect import flow
from prefect.runtime import flow_run

from flows.hooks import HOOKS
from sbert.retrain.retrain_report import RetrainReport
from sbert.retrain.settings import RetrainJob, RetrainSettings
from sbert.training.result import TrainingResult
from tasks.announce import announce_decision, report_retrain
from tasks.report import run_url
from tasks.retrain import (
    find_decision,
    finish_retrain,
    judge_candidate,
    prepare_retrain,
    remember_decision,
    train_candidate,
)

__all__ = ["retrain_encoder"]


@flow(name="retrain-encoder", flow_run_name="retrain {models_uri}", persist_result=False, **HOOKS)
def retrain_encoder(
    labels_uri: str,
    models_uri: str,
    base: str | None = None,
    force: bool = False,
    settings: RetrainSettings = RetrainSettings(),  # noqa: B008  (frozen)
) -> RetrainReport:
    """Fine-tune the encoder on labels, compare it with production, promote it only if it is better.

    Args:
        labels_uri: File, folder or glob of labels, local or s3:// (.jsonl, .csv, .parquet, plain, .gz or .zst).
        models_uri: Folder of the model registry, local or s3://; an empty one gets its first version.
        base: Model to begin with: folder, s3:// URI or hub id; empty for production, or the packaged default.
        force: Train again, on all train rows, although these labels and settings were decided on before.
        settings: Labels, training, evaluation, guards, gate.

    Returns:
        The decision, and the numbers behind it. A refusal is a success of the run.

    Raises:
        LabelError: when nothing should be learned from the labels.
        TrainingError: when training failed; production stays.
        PromotionConflictError: when another run promoted a version meanwhile; the candidate is stored, not promoted.
    """
    began = time.monotonic()
    job = RetrainJob(labels_uri=labels_uri, models_uri=models_uri, base=base, force=force, settings=settings)
    run_id = str(flow_run.get_id() or uuid.uuid4())
    prepared = prepare_retrain(job, run_id)
    report = None if force else find_decision(prepared)
    result: TrainingResult | None = None
    if report is None:
        if prepared.stored:
            report = finish_retrain(job, prepared)
        else:
            with tempfile.TemporaryDirectory(prefix="sbert-retrain-") as folder:
                result = train_candidate(job, prepared, Path(folder))
                judgement = judge_candidate(job, prepared, result)
                report = finish_retrain(job, prepared, result, judgement)
        announce_decision(prepared.models_uri, report)
        remember_decision(job, prepared, report)
    report = report.model_copy(update={"run_url": run_url(run_id), "seconds": round(time.monotonic() - began, 3)})
    report_retrain(report, result, settings.gate.margin)
    return report

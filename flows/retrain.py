"""Fine-tune the encoder on new labels, and make it production only if it is better.

The pipeline is `sbert.retrain.run.retrain`; the flow passes its steps as tasks. Run it with ``sbert retrain LABELS_URI
MODELS_URI`` or as a Prefect deployment. A run that is killed anywhere is resumed by running again. A run whose labels and
settings were decided on before trains nothing.
"""

import uuid
from typing import Annotated

from prefect import flow
from prefect.runtime import flow_run

from flows.hooks import HOOKS
from flows.parameters import RetrainSettingsField, Text, completed, form, location, make_form
from flows.run_names import named_after
from sbert.retrain.retrain_report import RetrainReport
from sbert.retrain.run import retrain
from sbert.retrain.settings import RetrainJob, RetrainSettings
from sbert.retrain.tuning_settings import TuningSettings
from tasks.retrain import PREFECT_STEPS
from tasks.run_link import run_url
from tasks.terminal import terminal

__all__ = ["retrain_on_labels"]


@flow(name="retrain-encoder", flow_run_name=named_after("retrain {models_uri}"), persist_result=False, **HOOKS)
def retrain_on_labels(
    labels_uri: Annotated[
        str,
        location(
            title="Labels",
            description="File, folder or glob of labels, local or s3:// (.jsonl, .csv, .parquet, plain, .gz or .zst). "
            "Example: s3://company-labels/tickets",
        ),
    ],
    models_uri: Annotated[
        str,
        location(
            title="Models",
            description="Folder of the model registry, local or s3://; an empty one gets its first version. "
            "Example: s3://company-embeddings/models",
        ),
    ],
    base: Annotated[
        Text,
        form(
            title="Base model",
            description="Model to begin with: folder, s3:// URI or hub id. Empty: production, or the packaged model. "
            "Example: s3://company-embeddings/models/v0003",
        ),
    ] = None,
    force: Annotated[
        bool,
        form(
            title="Force",
            description="Train again, on all train rows, although these labels and settings were decided on before.",
        ),
    ] = False,
    search: Annotated[
        int,
        form(
            title="Search",
            ge=0,
            le=1_000,
            description="Training settings that are tried on dev rows; the gate judges the best once. 0: no search. Time "
            "limit and values: `search` of the advanced settings.",
        ),
    ] = 0,
    settings: RetrainSettingsField = None,
) -> RetrainReport:
    """Fine-tune the encoder on labels, compare it with production, promote it only if it is better.

    Returns:
        The decision, and the numbers behind it. A refusal is a success of the run.

    Raises:
        LabelError: when nothing should be learned from the labels.
        TrainingError: when training failed; production stays.
        PromotionConflictError: when another run promoted a version meanwhile; the candidate is stored, not promoted.
    """
    settings = settings or RetrainSettings()
    if search:
        trials = (settings.search or TuningSettings()).model_copy(update={"trials": search})
        settings = settings.model_copy(update={"search": trials})
    job = RetrainJob(labels_uri=labels_uri, models_uri=models_uri, base=base, force=force, settings=settings)
    run_id = str(flow_run.get_id() or uuid.uuid4())
    with terminal.shown():
        report = retrain(job, PREFECT_STEPS, run_id=run_id)
    report = report.model_copy(update={"run_url": run_url(run_id)})
    return completed(report, report.summary())


make_form(retrain_on_labels)

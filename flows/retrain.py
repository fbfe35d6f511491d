"""Fine-tune the encoder on new labels, and make it production only if it is better.

The pipeline is `sbert.retrain.run.retrain`; the flow passes its steps as tasks. Run it with ``sbert retrain LABELS_URI
MODELS_URI`` or as a Prefect deployment. A run that is killed anywhere is resumed by running again. A run whose labels and
settings were decided on before trains nothing.
"""

from typing import Annotated

from prefect import flow

from flows.engines import EngineSettings
from flows.hooks import HOOKS
from flows.parameters import (
    ANY_JSON,
    Text,
    TrialEngine,
    TrialsAtOnce,
    advanced_form,
    completed,
    form,
    location,
    make_form,
    read_optional,
)
from flows.retrain_steps import run_retraining
from flows.run_names import named_after
from flows.trial_tasks import check_engine_of_search
from sbert.retrain.retrain_report import RetrainReport
from sbert.retrain.settings import RetrainJob, RetrainSettings
from sbert.retrain.tuning_settings import TuningSettings

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
    settings: Annotated[
        RetrainSettings | None,
        read_optional(RetrainSettings),
        ANY_JSON,
        advanced_form("retrain", '{"training": {"epochs": 2}, "gate": {"margin": 0.01}}'),
    ] = None,
    concurrency: TrialsAtOnce = 1,
    engine: TrialEngine = EngineSettings(),  # noqa: B008  (frozen)
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
    check_engine_of_search(engine, concurrency, has_search=settings.search is not None)
    job = RetrainJob(labels_uri=labels_uri, models_uri=models_uri, base=base, force=force, settings=settings)
    report = run_retraining(job, engine=engine, concurrency=concurrency)
    return completed(report, report.summary())


make_form(retrain_on_labels)

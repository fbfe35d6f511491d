"""A retraining as a Prefect flow: the library's pipeline (`sbert.retrain.run`) with its steps done as tasks."""

import uuid
from dataclasses import replace
from functools import partial

from prefect.runtime import flow_run

from flows.engines import EngineKind, EngineSettings
from flows.trial_tasks import search_on_workers
from sbert.retrain.retrain_report import RetrainReport
from sbert.retrain.run import RetrainSteps, retrain
from sbert.retrain.settings import RetrainJob
from tasks.retrain import PREFECT_STEPS
from tasks.run_link import run_url
from tasks.terminal import terminal

__all__ = ["run_retraining"]


def run_retraining(job: RetrainJob, *, engine: EngineSettings, concurrency: int) -> RetrainReport:
    """Retrain; call it from a flow.

    Args:
        job: the labels, the registry, and all settings.
        engine: where the trials of a search run.
        concurrency: trials that run at the same time on the workers of an engine.

    Raises:
        SbertError: as `sbert.retrain.run.retrain`.
    """
    run_id = str(flow_run.get_id() or uuid.uuid4())
    with terminal.shown():
        report = retrain(job, _steps(engine, concurrency), run_id=run_id)
    return report.model_copy(update={"run_url": run_url(run_id)})


def _steps(engine: EngineSettings, concurrency: int) -> RetrainSteps:
    """Return the steps as tasks; on workers, each trial of the search is one."""
    if engine.kind is EngineKind.LOCAL:
        return PREFECT_STEPS
    return replace(PREFECT_STEPS, search=partial(search_on_workers, engine=engine, concurrency=concurrency))

"""A job on a derived table as a Prefect flow: the library's run (`sbert.derived.run`) with its steps done as tasks."""

import uuid
from collections.abc import Sequence

from prefect.runtime import flow_run

from flows.engines import Engine, EngineSettings
from flows.split_tasks import run_in_groups
from sbert.derived.build import DerivationContext, close_deriver, deriver_for, stop_deriver
from sbert.derived.job import DerivedJob
from sbert.derived.plan import DerivedPlan, PlannedDerivation
from sbert.derived.records import DerivedRecord
from sbert.derived.run import DerivedReport, DerivedSteps, derive
from sbert.refresh.scheduling import cut_into_groups
from tasks.derive import DerivedAssignment, commit_output, derive_splits, plan_output, report_derived
from tasks.publish import Opaque

__all__ = ["run_derivation"]

GROUP_ROWS = 262_144
"""Most rows that a worker gets at once, if they are more than one split."""


def run_derivation(
    job: DerivedJob, table_uri: str, out_uri: str, *, concurrency: int, engine: EngineSettings
) -> DerivedReport:
    """Bring a derived table up to date on an engine, and leave a report; call it from a flow.

    Args:
        job: what is said about each row; its class is importable where the workers run.
        table_uri: the embeddings table.
        out_uri: the derived table; made if it is not there.
        concurrency: splits that are built at the same time.
        engine: threads of this process, or workers of a cluster.

    Raises:
        SbertError: as `derive`; WorkerError when worker processes die again and again.
    """
    run_id = str(flow_run.get_id() or uuid.uuid4())
    workers = Engine(EngineSettings.model_validate(engine), concurrency, stop_run=stop_deriver, close_run=close_deriver)
    report = derive(job, table_uri, out_uri, steps=PrefectDerivedSteps(workers), run_id=run_id)
    report_derived(report)
    return report


class PrefectDerivedSteps(DerivedSteps):
    """Runs each part as a Prefect task, which is retried, logged and shown in the UI."""

    def __init__(self, workers: Engine) -> None:
        """Build splits on `workers`."""
        super().__init__(workers.concurrency)
        self._workers = workers

    def plan(self, job: DerivedJob, table_uri: str, out_uri: str, run_id: str) -> DerivedPlan:
        """Compare both tables."""
        return plan_output(job, table_uri, out_uri, run_id).value

    def build(self, splits: Sequence[PlannedDerivation], context: DerivationContext) -> list[DerivedRecord]:
        """Hand the splits to the workers."""
        context = context.model_copy(update={"worker_threads": self._workers.worker_threads})
        if context.worker_threads is None:
            deriver_for(context)  # what the job loads is loaded once, before the threads need it
        groups = cut_into_groups(
            splits,
            lambda planned: planned.num_rows,
            num_workers=self._workers.concurrency,
            max_items=self._workers.settings.group_splits,
            max_size=GROUP_ROWS,
        )
        work = [
            ({"assignment": DerivedAssignment(group, context)}, [planned.split for planned in group])
            for group in groups
        ]
        return run_in_groups(self._workers, derive_splits, work, context.run_id, lambda _: None)

    def commit(self, job: DerivedJob, plan: DerivedPlan, records: Sequence[DerivedRecord]) -> int:
        """Publish."""
        return commit_output(job, Opaque(plan), Opaque(records))

    def close(self, run_id: str) -> None:
        """Let every process forget the run, and leave the cluster."""
        self._workers.close(run_id)

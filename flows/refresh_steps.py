"""A refresh or backfill as a Prefect flow: the library's pipeline (`sbert.refresh.run`) with its steps done as tasks."""

import datetime as dt
import uuid
from collections.abc import Mapping, Sequence
from typing import Any

from prefect.runtime import flow_run

from flows.engines import Engine, EngineSettings
from flows.progress_display import ProgressDisplay
from flows.split_tasks import build_splits
from sbert.refresh.build import BuildContext
from sbert.refresh.build_result import BuildResult
from sbert.refresh.estimate import Estimate
from sbert.refresh.fingerprints import PlannedSplit
from sbert.refresh.job import RefreshJob
from sbert.refresh.plan import Plan
from sbert.refresh.progress import ProgressMeter
from sbert.refresh.refresh_report import RefreshReport
from sbert.refresh.run import refresh
from sbert.refresh.stages import OnStage
from sbert.refresh.steps import RefreshSteps
from sbert.refresh.table_diff import TableDiff
from sbert.rows.counts import RowCounts
from tasks.announce_version import announce_version
from tasks.plan import plan_refresh
from tasks.publish import Opaque, diff_splits, publish_table
from tasks.refresh_artifacts import announce_plan, record_metrics, report_refresh
from tasks.run_link import run_url

__all__ = ["run_job"]


def run_job(job: RefreshJob, *, concurrency: int, dry_run: bool, engine: EngineSettings) -> RefreshReport:
    """Run a job, or with `dry_run` only plan it; return the report, in numbers.

    Raises:
        IncompleteError: when objects could not be read; everything else was published, and the error has the report.
        MassDeletionError: when too much would disappear; the error has the report of the plan.
    """
    run_id = str(flow_run.get_id() or uuid.uuid4())
    steps = PrefectSteps(Engine(EngineSettings.model_validate(engine), concurrency))
    with ProgressDisplay() as display:
        return refresh(
            job, steps=steps, dry_run=dry_run, run_id=run_id, run_url=run_url(run_id), on_progress=display.show
        )


class PrefectSteps(RefreshSteps):
    """Does each part of a refresh as a Prefect task: retried, logged and shown in the UI."""

    def __init__(self, workers: Engine) -> None:
        """Build splits on `workers`."""
        super().__init__(workers.concurrency)
        self._workers = workers
        self._has_published = False

    @property
    def engine(self) -> str:
        """Return the engine that builds splits, for the record of the run."""
        return self._workers.settings.kind.value

    def plan(self, job: RefreshJob, on_stage: OnStage) -> Plan:
        """Compare source and table."""
        return plan_refresh(job, on_stage)

    def announce(self, plan: Plan, estimate: Estimate) -> None:  # noqa: ARG002
        """Name the flow run after its plan, and leave the plan as an artifact."""
        announce_plan(plan)

    def build(
        self,
        splits: Sequence[PlannedSplit],
        context: BuildContext,
        excluded_ids: Mapping[str, frozenset[str]],
        meter: ProgressMeter,
    ) -> list[BuildResult]:
        """Hand the splits to the workers."""
        return build_splits(splits, context, excluded_ids, self._workers, meter)

    def diff(self, plan: Plan, results: Sequence[BuildResult], run_id: str) -> TableDiff:
        """Decide which shards join the table, and which leave it."""
        return diff_splits(Opaque(plan), Opaque(results), run_id).value

    def publish(self, plan: Plan, diff: TableDiff, counts: RowCounts, metadata: dict[str, Any]) -> int:
        """Check and commit."""
        version = publish_table(Opaque(plan), Opaque(diff), counts, metadata)
        self._has_published = version != plan.base.version
        return version

    def report(self, report: RefreshReport) -> None:
        """Leave the report as an artifact; tell followers of the table that there is a new version."""
        report_refresh(report)
        if self._has_published:
            announce_version(report)

    def record(self, report: RefreshReport, started: dt.datetime, run_id: str) -> None:
        """Keep the run's metrics beside the table."""
        record_metrics(report, started, run_id, self.engine, self.concurrency)

    def close(self, run_id: str) -> None:
        """Let every process forget the run, and leave the cluster."""
        self._workers.close(run_id)

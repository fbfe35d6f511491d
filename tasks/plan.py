"""Plan a refresh: compare source and table."""

from prefect import task

from sbert.refresh.job import RefreshJob
from sbert.refresh.plan import Plan, make_plan
from sbert.refresh.stages import OnStage
from tasks.retries import RETRIED

__all__ = ["plan_refresh"]


@task(name="plan refresh", **RETRIED)
def plan_refresh(job: RefreshJob, on_stage: OnStage) -> Plan:
    """Find the splits to build, to resume, to keep and to drop."""
    return make_plan(job, on_stage)

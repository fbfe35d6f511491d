"""Plan a refresh: compare source and table."""

from prefect import task

from sbert.refresh.job import RefreshJob
from sbert.refresh.plan import Plan, make_plan
from tasks.retries import RETRIED

__all__ = ["plan_refresh"]


@task(name="plan refresh", **RETRIED)
def plan_refresh(job: RefreshJob) -> Plan:
    """Find the splits to build, to resume, to keep and to drop."""
    return make_plan(job)

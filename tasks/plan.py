"""Plan a refresh: compare source and table."""

from prefect import task
from prefect.cache_policies import NO_CACHE

from sbert.job import RefreshJob
from sbert.plan import Plan, make_plan
from tasks.retries import JITTER, MAX_RETRIES, RETRY_DELAYS, failed_transiently

__all__ = ["plan_refresh"]


@task(
    name="plan refresh",
    cache_policy=NO_CACHE,
    retries=MAX_RETRIES,
    retry_delay_seconds=RETRY_DELAYS,
    retry_jitter_factor=JITTER,
    retry_condition_fn=failed_transiently,
)
def plan_refresh(job: RefreshJob) -> Plan:
    """Find the splits to build, to resume, to keep and to drop."""
    return make_plan(job)

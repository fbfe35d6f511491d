"""Settle and publish what was built."""

from typing import Any

from prefect import task
from prefect.cache_policies import NO_CACHE

from sbert.build import BuildResult
from sbert.counts import RowCounts
from sbert.job import RefreshSettings
from sbert.plan import Plan
from sbert.publish import publish
from sbert.settle import Changes, settle
from tasks.retries import JITTER, MAX_RETRIES, RETRY_DELAYS, failed_transiently

__all__ = ["publish_table", "settle_splits"]


@task(
    name="settle splits",
    cache_policy=NO_CACHE,
    retries=MAX_RETRIES,
    retry_delay_seconds=RETRY_DELAYS,
    retry_jitter_factor=JITTER,
    retry_condition_fn=failed_transiently,
)
def settle_splits(plan: Plan, results: list[BuildResult], run_id: str) -> Changes:
    """Decide what joins and what leaves the table."""
    return settle(plan, results, run_id)


@task(
    name="publish table",
    cache_policy=NO_CACHE,
    retries=MAX_RETRIES,
    retry_delay_seconds=RETRY_DELAYS,
    retry_jitter_factor=JITTER,
    retry_condition_fn=failed_transiently,
)
def publish_table(
    plan: Plan, changes: Changes, settings: RefreshSettings, counts: RowCounts, metadata: dict[str, Any]
) -> int:
    """Commit and give the table's version."""
    return publish(plan, changes, settings, counts, metadata)

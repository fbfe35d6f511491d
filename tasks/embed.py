"""Embed one split of the source."""

from prefect import task
from prefect.cache_policies import NO_CACHE

from sbert.build import BuildContext, BuildResult, builder_for
from sbert.plan import PlannedSplit
from tasks.retries import JITTER, MAX_RETRIES, RETRY_DELAYS, failed_transiently

__all__ = ["embed_split"]


@task(
    name="embed split",
    task_run_name="embed {planned.split.name}",
    tags={"sbert-embed"},
    cache_policy=NO_CACHE,
    retries=MAX_RETRIES,
    retry_delay_seconds=RETRY_DELAYS,
    retry_jitter_factor=JITTER,
    retry_condition_fn=failed_transiently,
)
def embed_split(
    planned: PlannedSplit, context: BuildContext, excluded_ids: frozenset[str] = frozenset()
) -> BuildResult:
    """Write the split's shards and completion record."""
    return builder_for(context).build(planned, excluded_ids)

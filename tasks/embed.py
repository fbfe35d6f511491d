"""Embed a group of splits of the source."""

from prefect import task
from prefect.cache_policies import NO_CACHE
from prefect.runtime import task_run

from sbert.build import BuildContext, BuildResult, builder_for
from sbert.groups import SplitGroup
from tasks.retries import JITTER, MAX_RETRIES, RETRY_DELAYS, failed_transiently

__all__ = ["embed_splits"]


@task(
    name="embed splits",
    task_run_name="embed {group.name}",
    tags={"sbert-embed"},
    cache_policy=NO_CACHE,
    retries=MAX_RETRIES,
    retry_delay_seconds=RETRY_DELAYS,
    retry_jitter_factor=JITTER,
    retry_condition_fn=failed_transiently,
)
def embed_splits(group: SplitGroup, context: BuildContext) -> list[BuildResult]:
    """Write shards and completion record of each split."""
    attempt = task_run.run_count or 1
    return builder_for(context).build_group(group, attempt=attempt, is_last_attempt=attempt > MAX_RETRIES)

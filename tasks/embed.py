"""Embed a group of splits of the source.

The task has no tags on purpose. Prefect requests a concurrency slot per tag from the server; with thousands of splits
these requests queue up.
"""

from prefect import task
from prefect.runtime import task_run

from sbert.refresh.build import BuildContext, builder_for
from sbert.refresh.build_result import BuildResult
from sbert.refresh.scheduling import SplitGroup
from tasks.retries import MAX_RETRIES, RETRIED

__all__ = ["Assignment", "embed_splits"]


class Assignment:
    """A group of splits for one worker, and the context that is needed to build them.

    It is a plain class on purpose. Prefect looks for futures inside the models that a task is given. Prefect's `quote`
    turns this search off, but it is lost when the value is sent to another process.
    """

    def __init__(self, group: SplitGroup, context: BuildContext) -> None:
        """Store a group of splits with the context that builds it."""
        self.group = group
        self.context = context


@task(
    name="embed splits",
    task_run_name="embed {assignment.group.name}",
    **RETRIED,
)
def embed_splits(assignment: Assignment) -> list[BuildResult]:
    """Write shards and completion record of each split."""
    attempt = task_run.run_count or 1
    builder = builder_for(assignment.context)
    return builder.build_group(assignment.group, attempt=attempt, is_last_attempt=attempt > MAX_RETRIES)

"""Retries of tasks. Only temporary storage errors are retried."""

from typing import Any

from prefect import Task
from prefect.cache_policies import NO_CACHE
from prefect.client.schemas.objects import State, TaskRun
from prefect.tasks import exponential_backoff

from sbert.storage.errors import is_transient

__all__ = ["JITTER", "MAX_RETRIES", "RETRIED", "RETRY_DELAYS", "failed_transiently"]

MAX_RETRIES = 4
RETRY_DELAYS = exponential_backoff(backoff_factor=2)
"""Waits of 2, 4, 8, 16 seconds before the retries, each lengthened at random by up to `JITTER` of itself."""
JITTER = 0.5


def failed_transiently(task: Task[..., Any], task_run: TaskRun, state: State[Any]) -> bool:  # noqa: ARG001
    """Tell Prefect whether to retry a failed task: only if the same call may succeed later."""
    error = getattr(state.data, "result", state.data)
    return isinstance(error, BaseException) and is_transient(error)


RETRIED: dict[str, Any] = {
    "cache_policy": NO_CACHE,
    "retries": MAX_RETRIES,
    "retry_delay_seconds": RETRY_DELAYS,
    "retry_jitter_factor": JITTER,
    "retry_condition_fn": failed_transiently,
}
"""Arguments of a task that may be retried: ``@task(name="…", **RETRIED)``."""

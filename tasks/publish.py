"""Settle and publish what was built.

Plans and results travel in a plain class: Prefect looks for futures in every model and dataclass of a task's parameters,
which takes longer than settling when there are many splits.
"""

from typing import Any, Generic, TypeVar

from prefect import task

from sbert.refresh.build import BuildResult
from sbert.refresh.job import RefreshSettings
from sbert.refresh.plan import Plan
from sbert.refresh.publish import publish
from sbert.refresh.table_diff import Changes, settle
from sbert.rows.counts import RowCounts
from tasks.retries import RETRIED

__all__ = ["Opaque", "publish_table", "settle_splits"]

T = TypeVar("T")


class Opaque(Generic[T]):
    """A value that Prefect does not look into."""

    def __init__(self, value: T) -> None:
        """Hold a value."""
        self.value = value


@task(name="settle splits", **RETRIED)
def settle_splits(plan: Opaque[Plan], results: Opaque[list[BuildResult]], run_id: str) -> Opaque[Changes]:
    """Decide what joins and what leaves the table."""
    return Opaque(settle(plan.value, results.value, run_id))


@task(name="publish table", **RETRIED)
def publish_table(
    plan: Opaque[Plan],
    changes: Opaque[Changes],
    settings: RefreshSettings,
    counts: RowCounts,
    metadata: dict[str, Any],
) -> int:
    """Commit and give the table's version."""
    return publish(plan.value, changes.value, settings, counts, metadata)

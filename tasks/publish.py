"""Compare the built splits with the table, and publish them.

Plans and results travel in a plain class. Prefect looks for futures in every model and dataclass among the parameters of a
task, and with many splits this search takes longer than the comparison itself.
"""

from collections.abc import Sequence
from typing import Any, Generic, TypeVar

from prefect import task

from sbert.refresh.build_result import BuildResult
from sbert.refresh.plan import Plan
from sbert.refresh.publish import publish
from sbert.refresh.table_diff import TableDiff, diff_table
from sbert.rows.counts import RowCounts
from tasks.retries import RETRIED

__all__ = ["Opaque", "diff_splits", "publish_table"]

T = TypeVar("T")


class Opaque(Generic[T]):
    """A value that Prefect does not look into."""

    def __init__(self, value: T) -> None:
        """Hold a value."""
        self.value = value


@task(name="compare with table", **RETRIED)
def diff_splits(plan: Opaque[Plan], results: Opaque[Sequence[BuildResult]], run_id: str) -> Opaque[TableDiff]:
    """Decide which shards join the table, and which leave it."""
    return Opaque(diff_table(plan.value, results.value, run_id))


@task(name="publish table", **RETRIED)
def publish_table(plan: Opaque[Plan], diff: Opaque[TableDiff], counts: RowCounts, metadata: dict[str, Any]) -> int:
    """Check and commit; return the table's version."""
    return publish(plan.value, diff.value, counts, metadata)

"""Refresh a table by the library alone, without Prefect, for tests that need hundreds of refreshes.

Run a refresh in its own process with ``python -m tests.support.refreshing '{"raw": …, "table": …, "model": …}'``.
"""

import json
import sys
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, cast

from sbert.errors import IncompleteError
from sbert.refresh.build_result import BuildResult
from sbert.refresh.estimate import Estimate
from sbert.refresh.job import RefreshJob
from sbert.refresh.plan import Plan
from sbert.refresh.progress import OnProgress, ignore_progress
from sbert.refresh.refresh_report import RefreshReport
from sbert.refresh.run import refresh
from sbert.refresh.steps import RefreshSteps
from sbert.refresh.table_diff import TableDiff

__all__ = ["Outcome", "refreshed"]

NO_WAIT = (0.0,) * 4
"""As many retries as usual, without the waits."""


@dataclass(frozen=True)
class Outcome:
    """The plan, changes and report of a refresh."""

    plan: Plan
    """The last plan."""
    diff: TableDiff
    """The shards that joined and left the table."""
    report: RefreshReport

    @property
    def version(self) -> int:
        """Version of the table that the refresh left."""
        assert self.report.version is not None
        return self.report.version


class RememberingSteps(RefreshSteps):
    """The library's own steps, which remember what passed between them, and retry without waiting."""

    plan_made: Plan
    diff_made: TableDiff

    def announce(self, plan: Plan, estimate: Estimate) -> None:
        """Remember the plan."""
        self.plan_made = plan

    def diff(self, plan: Plan, results: Sequence[BuildResult], run_id: str) -> TableDiff:
        """Remember the difference."""
        self.diff_made = super().diff(plan, results, run_id)
        return self.diff_made


def refreshed(
    raw: object,
    table: object,
    model: str | None = None,
    settings: object = None,
    *,
    concurrency: int = 1,
    on_progress: OnProgress = ignore_progress,
    **job: Any,
) -> Outcome:
    """Bring `table` up to date with `raw`; objects that cannot be read are in the report.

    Args:
        raw: the raw text.
        table: the table.
        model: the encoder.
        settings: `RefreshSettings`, or what they are made of.
        concurrency: splits that are built at the same time; with 1 they are built in order.
        on_progress: is shown the progress.
        job: other fields of `RefreshJob`.
    """
    asked = RefreshJob.model_validate(
        {"raw_uri": str(raw), "table_uri": str(table), "model": model, "settings": settings or {}, **job}
    )
    steps = RememberingSteps(concurrency, retry_seconds=NO_WAIT)
    try:
        report = refresh(asked, steps=steps, on_progress=on_progress)
    except IncompleteError as error:
        report = cast("RefreshReport", error.report)
    return Outcome(steps.plan_made, steps.diff_made, report)


def main(request: Mapping[str, Any]) -> None:
    """Refresh as asked, and print the report."""
    print(refreshed(**request).report.model_dump_json())


if __name__ == "__main__":
    main(json.loads(sys.argv[1]))

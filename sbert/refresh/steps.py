"""The parts of a refresh, each a method: a caller that wants one done in another way overrides it.

The defaults call the library in this process, and build on threads. The Prefect flow overrides them with tasks
(`flows.refresh_steps`).
"""

import datetime as dt
import logging
import time
from collections.abc import Callable, Mapping, Sequence
from concurrent.futures import FIRST_COMPLETED, Future, ThreadPoolExecutor, wait
from itertools import count
from typing import Any, TypeVar

from sbert.refresh.build import BuildContext, SplitBuilder, builder_for, close_builder
from sbert.refresh.build_result import BuildResult
from sbert.refresh.estimate import Estimate
from sbert.refresh.fingerprints import PlannedSplit
from sbert.refresh.job import RefreshJob
from sbert.refresh.plan import Plan, make_plan
from sbert.refresh.progress import ProgressMeter
from sbert.refresh.publish import publish
from sbert.refresh.refresh_report import RefreshReport
from sbert.refresh.run_metrics import record_run
from sbert.refresh.scheduling import SplitGroup
from sbert.refresh.stages import OnStage
from sbert.refresh.table_diff import TableDiff, diff_table
from sbert.rows.counts import RowCounts
from sbert.storage.errors import is_transient

__all__ = ["PROGRESS_SECONDS", "RefreshSteps"]

log = logging.getLogger(__name__)

Result = TypeVar("Result")

PROGRESS_SECONDS = 0.5
"""Time between two reports of progress."""
RETRY_SECONDS = (2.0, 4.0, 8.0, 16.0)
"""Waits before the retries of a step that failed because storage failed for the moment."""


class RefreshSteps:
    """Does the parts of a refresh in this process; subclasses do them elsewhere."""

    def __init__(self, concurrency: int = 2, *, retry_seconds: Sequence[float] = RETRY_SECONDS) -> None:
        """Run steps in this process, and retry them when storage fails.

        Args:
            concurrency: splits that are built at the same time.
            retry_seconds: waits before the retries of a step whose storage failed for the moment.
        """
        self.concurrency = concurrency
        self._retry_seconds = tuple(retry_seconds)

    @property
    def engine(self) -> str:
        """Return the engine that builds splits, for the record of the run."""
        return "local"

    def plan(self, job: RefreshJob, on_stage: OnStage) -> Plan:
        """Compare source and table."""
        return self._retried(lambda: make_plan(job, on_stage))

    def announce(self, plan: Plan, estimate: Estimate) -> None:
        """Tell people the plan of the run."""

    def build(
        self,
        splits: Sequence[PlannedSplit],
        context: BuildContext,
        excluded_ids: Mapping[str, frozenset[str]],
        meter: ProgressMeter,
    ) -> list[BuildResult]:
        """Build splits, and return their results in any order.

        Args:
            splits: the splits.
            context: what a worker needs.
            excluded_ids: ids to leave out, by fingerprint of the split.
            meter: is shown how far the work is.
        """
        with meter.loading_encoder():
            builder = builder_for(context)
        builder.state.work.reset()
        groups = [
            SplitGroup(
                splits=(planned,),
                excluded_ids={name: excluded_ids[name] for name in [planned.fingerprint] if name in excluded_ids},
            )
            for planned in splits
        ]
        results: list[BuildResult] = []
        with ThreadPoolExecutor(self.concurrency, thread_name_prefix="build") as pool:
            try:
                waiting: set[Future[list[BuildResult]]] = {
                    pool.submit(self._build_group, builder, group) for group in groups
                }
                while waiting:
                    done, waiting = wait(waiting, timeout=PROGRESS_SECONDS, return_when=FIRST_COMPLETED)
                    for future in done:
                        results += future.result()
                    meter.show(builder.state.work.done(), is_indexed=builder.is_indexed)
            except BaseException:
                builder.state.stop.set()
                pool.shutdown(cancel_futures=True)
                raise
        return results

    def _build_group(self, builder: SplitBuilder, group: SplitGroup) -> list[BuildResult]:
        """Build a group; storage that fails for the moment is retried."""
        last = len(self._retry_seconds) + 1
        for attempt in count(1):
            try:
                return builder.build_group(group, attempt=attempt, is_last_attempt=attempt == last)
            except Exception as error:
                if not is_transient(error) or attempt == last:
                    raise
                log.warning("%s: trying again: %s", group.name, error)
                builder.state.stop.wait(self._retry_seconds[attempt - 1])
        raise AssertionError("unreachable: the last attempt returns or raises")

    def diff(self, plan: Plan, results: Sequence[BuildResult], run_id: str) -> TableDiff:
        """Decide which splits join the table and which leave it."""
        return self._retried(lambda: diff_table(plan, results, run_id))

    def publish(self, plan: Plan, diff: TableDiff, counts: RowCounts, metadata: dict[str, Any]) -> int:
        """Check and commit; return the version of the table."""
        return self._retried(lambda: publish(plan, diff, counts, metadata))

    def report(self, report: RefreshReport) -> None:
        """Show people the report of the run."""

    def record(self, report: RefreshReport, started: dt.datetime, run_id: str) -> None:
        """Keep the run's metrics beside the table."""
        self._retried(lambda: record_run(report, started, run_id, engine=self.engine, concurrency=self.concurrency))

    def close(self, run_id: str) -> None:
        """Let every process forget the run."""
        close_builder(run_id)

    def _retried(self, step: Callable[[], Result]) -> Result:
        """Do a step; storage that fails for the moment is retried."""
        for seconds in self._retry_seconds:
            try:
                return step()
            except Exception as error:
                if not is_transient(error):
                    raise
                log.warning("trying again in %.0f s: %s", seconds, error)
                time.sleep(seconds)
        return step()

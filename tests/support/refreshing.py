"""A refresh without Prefect: the library's steps in the order of ``flows/refresh.py``, for tests that need hundreds of them.

Run one in a process of its own with ``python -m tests.support.refreshing '{"raw": …, "table": …, "model": …}'``.
"""

import json
import sys
import uuid
from collections.abc import Callable, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import asdict, dataclass
from functools import partial
from typing import Any, TypeVar

from sbert.errors import CommitConflictError
from sbert.refresh.build import BuildResult, SplitBuilder, build_context, builder_for, close_builder
from sbert.refresh.deletion_limit import check_losses
from sbert.refresh.job import RefreshJob, RefreshSettings
from sbert.refresh.plan import Plan, PlannedSplit, make_plan
from sbert.refresh.publish import duplicate_ids_across_splits, publish
from sbert.refresh.table_diff import Changes, settle
from sbert.rows.counts import RowCounts
from sbert.storage.files import is_transient

Result = TypeVar("Result")

MAX_ATTEMPTS = 5
MAX_RETRIES = 4


@dataclass(frozen=True)
class Outcome:
    """What a refresh did."""

    version: int
    num_texts_encoded: int
    num_rows_encoded: int
    num_rows_carried: int
    num_splits_built: int
    num_splits_resumed: int
    num_splits_kept: int


def refresh(
    raw: str, table: str, model: str | None = None, settings: Mapping[str, Any] | None = None, concurrency: int = 2
) -> Outcome:
    """Bring `table` up to date with `raw`."""
    job = RefreshJob(raw_uri=raw, table_uri=table, model=model, settings=RefreshSettings.model_validate(settings or {}))
    run_id = uuid.uuid4().hex
    built: dict[str, RowCounts] = {}
    try:
        for _ in range(MAX_ATTEMPTS):
            plan = _retried(lambda: make_plan(job))
            check_losses(plan.table_uri, plan.losses, job.settings.guard)
            changes = _build(plan, job.settings, run_id, concurrency)
            built |= {record.fingerprint: record.counts for record in changes.add if record.run_id == run_id}
            counts = RowCounts.total(built.values()).check(run_id)
            try:
                version = _retried(lambda: publish(plan, changes, job.settings, counts, {"run_id": run_id}))  # noqa: B023
            except CommitConflictError:
                continue
            return Outcome(
                version=version,
                num_texts_encoded=counts.num_texts_encoded,
                num_rows_encoded=counts.num_rows_encoded,
                num_rows_carried=counts.num_rows_carried,
                num_splits_built=len(plan.build),
                num_splits_resumed=len(plan.resume),
                num_splits_kept=len(plan.keep),
            )
        raise AssertionError(f"lost the commit {MAX_ATTEMPTS} times")
    finally:
        close_builder(run_id)


def _build(plan: Plan, settings: RefreshSettings, run_id: str, concurrency: int) -> Changes:
    context = build_context(plan, settings, run_id)
    builder = builder_for(context)
    results = _build_splits(builder, plan.build, concurrency, {})
    changes = _retried(lambda: settle(plan, results, run_id))
    excluded = duplicate_ids_across_splits(plan, changes)
    if not excluded:
        return changes
    again = [result.planned for result in results if result.planned.fingerprint in excluded]
    others = [result for result in results if result.planned.fingerprint not in excluded]
    return settle(plan, [*others, *_build_splits(builder, again, concurrency, excluded)], run_id)


def _build_splits(
    builder: SplitBuilder, planned: Sequence[PlannedSplit], concurrency: int, excluded: Mapping[str, frozenset[str]]
) -> list[BuildResult]:
    with ThreadPoolExecutor(concurrency) as pool:
        waiting = [
            pool.submit(_retried, partial(builder.build, split, excluded.get(split.fingerprint, frozenset())))
            for split in planned
        ]
        try:
            return [future.result() for future in waiting]
        except BaseException:
            builder.stop.set()
            pool.shutdown(cancel_futures=True)
            raise


def _retried(step: Callable[[], Result]) -> Result:
    """Do a step as a Prefect task does it (``tasks/retries.py``), without the waits."""
    for _ in range(MAX_RETRIES):
        try:
            return step()
        except Exception as error:
            if not is_transient(error):
                raise
    return step()


if __name__ == "__main__":
    print(json.dumps(asdict(refresh(**json.loads(sys.argv[1])))))

"""What the nightly refresh and the backfill share: one job, from plan to report.

Reads as: plan, build the missing splits, settle, publish, report. When another run commits first, it plans anew. A run
that is killed anywhere is resumed by running again.
"""

import datetime as dt
import logging
import time
import uuid
from contextlib import nullcontext
from typing import Any

from prefect.runtime import flow_run

from flows.building import build_splits
from flows.engines import Engine, EngineSettings
from sbert.errors import CommitConflictError, IncompleteError, MassDeletionError
from sbert.refresh.build import build_context
from sbert.refresh.deletion_limit import check_losses
from sbert.refresh.estimate import estimate_plan
from sbert.refresh.job import RefreshJob, RefreshSettings
from sbert.refresh.plan import Plan, is_stale
from sbert.refresh.publish import duplicate_ids_across_splits
from sbert.refresh.refresh_report import RefreshReport
from sbert.refresh.table_diff import Changes
from sbert.rows.counts import RowCounts
from sbert.table.delta import Table
from sbert.table.lease import hold_lease
from sbert.table.quantization_recall import reduction_of_run
from tasks.plan import plan_refresh
from tasks.publish import Opaque, publish_table, settle_splits
from tasks.report import announce_plan, record_metrics, report_refresh, run_url

__all__ = ["run_job"]

log = logging.getLogger(__name__)

NAMED_OBJECTS = 3
"""Unreadable objects that the error names; the report has all."""
MAX_ATTEMPTS = 5
"""Times that a run plans anew because another run committed first."""


def run_job(job: RefreshJob, *, concurrency: int, dry_run: bool, engine: EngineSettings) -> RefreshReport:
    """Do a job, or with `dry_run` only plan it; give what was done, in numbers.

    Raises:
        IncompleteError: when objects could not be read; everything else was published, and the error has the report.
        MassDeletionError: when too much would disappear; the error has the plan.
    """
    began, started = time.monotonic(), dt.datetime.now(dt.UTC)
    run_id = str(flow_run.get_id() or uuid.uuid4())
    operation = "refresh" if job.selection is None else "backfill"
    workers = Engine(EngineSettings.model_validate(engine), concurrency)
    plan = plan_refresh(job)
    plan_seconds = time.monotonic() - began
    announce_plan(plan, operation)
    estimate = estimate_plan(plan, plan_seconds)
    if dry_run:
        report = RefreshReport.of_plan(plan)
    else:
        check_plan(plan, job)
        with nullcontext() if plan.is_empty else hold_lease(plan.table_uri, run_id, operation):
            facts = {"operation": operation, "run_id": run_id, "stages": {"plan": round(plan_seconds, 3)}}
            report = carry_out(plan, job, facts, workers)
    seconds = round(time.monotonic() - began, 3)
    report = report.model_copy(update={"seconds": seconds, "run_url": run_url(run_id), "estimate": estimate})
    report_refresh(report)
    if not dry_run:
        record_metrics(report, started, run_id, workers.settings.kind.value, concurrency)
    if report.broken_objects:
        raise IncompleteError(
            f"{len(report.broken_objects)} of {report.num_objects} objects could not be read, rows that the table had of "
            f"them stay; everything else is in version {report.version}: {named_objects(report.broken_objects)}",
            report,
        )
    return report


def named_objects(broken: dict[str, str]) -> str:
    """Give the first objects with what is wrong with each, and how many more there are."""
    first = "; ".join(f"{uri}: {why}" for uri, why in list(broken.items())[:NAMED_OBJECTS])
    others = len(broken) - NAMED_OBJECTS
    return first if others <= 0 else f"{first}; and {others} more"


def check_plan(plan: Plan, job: RefreshJob) -> None:
    """Stop before anything is built when too much would disappear."""
    try:
        check_losses(plan.table_uri, plan.losses, job.settings.guard)
    except MassDeletionError as error:
        raise MassDeletionError(str(error), RefreshReport.of_plan(plan)) from error


def carry_out(plan: Plan, job: RefreshJob, facts: dict[str, Any], workers: Engine) -> RefreshReport:
    """Build and publish; when another run commits first, plan anew: what was built is taken up."""
    run_id = facts["run_id"]
    read_in_this_run: dict[str, RowCounts] = {}
    num_bytes_read = 0
    try:
        for attempt in range(1, MAX_ATTEMPTS + 1):
            if attempt > 1 or is_stale(plan):
                plan = plan_refresh(job)
                announce_plan(plan, facts["operation"])
                check_plan(plan, job)
            began = time.monotonic()
            try:
                changes = build(plan, job.settings, run_id, workers)
                read_in_this_run |= {item.fingerprint: item.counts for item in changes.add if item.run_id == run_id}
                counts = RowCounts.total(read_in_this_run.values()).check(f"run {run_id}")
                num_bytes_read += sum(planned.split.num_bytes for planned in plan.build)
                built = time.monotonic()
                stages = {**facts["stages"], "build": round(built - began, 3)}
                metadata = {
                    **facts, "encoder": plan.encoder.model, "stages": stages, "num_bytes_read": num_bytes_read
                }  # fmt: skip
                version = publish_table(Opaque(plan), Opaque(changes), job.settings, counts, metadata)
                stages["publish"] = round(time.monotonic() - built, 3)
            except MassDeletionError as error:
                raise MassDeletionError(str(error), RefreshReport.of_plan(plan)) from error
            except CommitConflictError:
                if attempt == MAX_ATTEMPTS:
                    raise
                log.warning("another run committed first; planning anew (attempt %d of %d)", attempt, MAX_ATTEMPTS)
                continue
            table = Table.open(plan.table_uri, version)
            report = RefreshReport.of_run(
                plan,
                changes,
                counts,
                run_id=run_id,
                version=version,
                num_rows=table.num_rows,
                reduction=reduction_of_run(table, run_id),
            )
            return report.model_copy(update={"stage_seconds": stages, "num_bytes_read": num_bytes_read})
    finally:
        workers.close(run_id)
    raise AssertionError("unreachable: the last attempt returns or raises")


def build(plan: Plan, settings: RefreshSettings, run_id: str, workers: Engine) -> Changes:
    """Build the missing splits, then once more those slices that have an id of a later slice."""
    context = build_context(plan, settings, run_id)
    results = build_splits(plan.build, context, workers)
    changes = settle_splits(Opaque(plan), Opaque(results), run_id).value
    excluded = duplicate_ids_across_splits(plan, changes)
    if not excluded:
        return changes
    again = [result.planned for result in results if result.planned.fingerprint in excluded]
    rebuilt = build_splits(again, context, workers, excluded)
    others = [result for result in results if result.planned.fingerprint not in excluded]
    return settle_splits(Opaque(plan), Opaque([*others, *rebuilt]), run_id).value

"""Refresh a table: plan, build the missing splits, diff, publish, report.

>>> from sbert import RefreshJob, refresh_table
>>> report = refresh_table(RefreshJob(raw_uri="raw", table_uri="table"))  # doctest: +SKIP

A job with a selection is a backfill. When another run commits first, the run plans again; splits that it built are taken
up. A run that is killed anywhere is resumed by running again.
"""

import datetime as dt
import logging
import time
import uuid
from contextlib import nullcontext
from typing import Any

from sbert.counted import counted
from sbert.errors import CommitConflictError, IncompleteError, MassDeletionError
from sbert.refresh.all_rejected import explain_all_rejected
from sbert.refresh.build import build_context
from sbert.refresh.build_result import BuildResult
from sbert.refresh.deletion_limit import check_losses
from sbert.refresh.estimate import Estimate, estimate_plan
from sbert.refresh.fingerprints import PlannedSplit
from sbert.refresh.job import RefreshJob
from sbert.refresh.plan import Plan, is_stale, with_row_numbers
from sbert.refresh.progress import OnProgress, Progress, ProgressMeter, ignore_progress
from sbert.refresh.publish import duplicate_ids_across_splits
from sbert.refresh.refresh_report import RefreshReport
from sbert.refresh.row_sampling import sample_num_rows
from sbert.refresh.stage_seconds import StageSeconds
from sbert.refresh.stages import Stage
from sbert.refresh.steps import RefreshSteps
from sbert.refresh.table_diff import TableDiff
from sbert.refresh.tally import BuildTally
from sbert.storage.files import join
from sbert.table.commit import moved_is_conflict
from sbert.table.delta import Table
from sbert.table.lease import hold_lease
from sbert.table.quantization_recall import reduction_of_run
from sbert.table.split_records import REJECTED_FOLDER

__all__ = ["MAX_ATTEMPTS", "refresh"]

log = logging.getLogger(__name__)

MAX_ATTEMPTS = 5
"""Times that a run plans because another run committed first."""
NAMED_OBJECTS = 3
"""Unreadable objects that the error names; the report has all."""


def refresh(
    job: RefreshJob,
    *,
    steps: RefreshSteps | None = None,
    concurrency: int = 2,
    dry_run: bool = False,
    run_id: str | None = None,
    run_url: str | None = None,
    on_progress: OnProgress = ignore_progress,
) -> RefreshReport:
    """Bring a table up to date with its raw text, or with `dry_run` only plan to.

    Args:
        job: what is read, what is written, and how.
        steps: how the parts are done; by default in this process, on `concurrency` threads.
        concurrency: splits that are built at the same time, where no steps are given.
        dry_run: whether to stop after planning; nothing is written then.
        run_id: name of the run in the table's history; by default a new one.
        run_url: where people can look at the run; goes into the report.
        on_progress: called when a stage begins, and about twice a second while splits are built.

    Returns:
        What was done, in numbers.

    Raises:
        IncompleteError: when objects could not be read; everything else was published, and the error has the report.
            Of a new table nothing is published when no row could be read, or every row was rejected. With `dry_run`, when
            planning shows it.
        MassDeletionError: when too much would disappear; the error has the report of the plan.
        SettingsError, SourceError, EncoderMismatchError, …: as `make_plan` and `publish`; the table is as it was.
    """
    began, started = time.monotonic(), dt.datetime.now(dt.UTC)
    run = _Run(job, steps or RefreshSteps(concurrency), run_id or str(uuid.uuid4()), on_progress)
    try:
        report = run.plan_only() if dry_run else run.carry_out()
    finally:
        run.steps.close(run.run_id)
    seconds = round(time.monotonic() - began, 3)
    report = report.model_copy(update={"seconds": seconds, "run_url": run_url, "estimate": run.estimate})
    run.steps.report(report)
    if not dry_run:
        run.steps.record(report, started, run.run_id)
    if report.broken_objects:
        raise IncompleteError(_name_unreadable(report), report)
    return report


def _name_unreadable(report: RefreshReport) -> str:
    """Return the message about a run that could not read all objects, or a plan of which this is known already."""
    number, some = _number_unreadable(report), _name_some(report.broken_objects)
    if report.dry_run:
        return f"{number} cannot be read, as planning shows. A run would read the others: {some}"
    return (
        f"{number} could not be read. Rows that the table has of them already stay, and everything else is in version "
        f"{report.version}: {some}"
    )


def _number_unreadable(report: RefreshReport) -> str:
    return f"{len(report.broken_objects)} of {report.num_objects} objects"


def _name_some(broken: dict[str, str]) -> str:
    """Return the first objects with the fault of each, and the number of the others."""
    first = "; ".join(f"{uri}: {why}" for uri, why in list(broken.items())[:NAMED_OBJECTS])
    others = len(broken) - NAMED_OBJECTS
    return first if others <= 0 else f"{first}; and {others} more"


class _Run:
    """A refresh under way: its measurements and built splits, over all its attempts to commit."""

    def __init__(self, job: RefreshJob, steps: RefreshSteps, run_id: str, on_progress: OnProgress) -> None:
        self.steps = steps
        self.run_id = run_id
        self.estimate: Estimate | None = None
        self._job = job
        self._on_progress = on_progress
        self._seconds = StageSeconds()
        self._num_bytes_read = 0
        self._tally = BuildTally()

    def plan_only(self) -> RefreshReport:
        """Plan, and report the plan."""
        return RefreshReport.of_plan(self._plan()).model_copy(update={"stage_seconds": self._seconds})

    def carry_out(self) -> RefreshReport:
        """Plan, build and publish; when another run commits first, plan again."""
        plan = self._plan()
        _check_losses(plan)
        with nullcontext() if plan.is_empty else hold_lease(plan.table_uri, self.run_id, self._job.operation):
            for attempt in range(1, MAX_ATTEMPTS + 1):
                if attempt > 1 or is_stale(plan):
                    plan = self._plan()
                    _check_losses(plan)
                try:
                    with moved_is_conflict(plan.table_uri, plan.base.version):
                        return self._publish(plan, self._build(plan, attempt))
                except CommitConflictError:
                    if attempt == MAX_ATTEMPTS:
                        raise
                    log.warning(
                        "another run committed first; planning again (attempt %d of %d)", attempt + 1, MAX_ATTEMPTS
                    )
        raise AssertionError("unreachable: the last attempt returns or raises")

    def _plan(self) -> Plan:
        began = time.monotonic()
        plan = self.steps.plan(self._job, self._show_stage)
        seconds = time.monotonic() - began
        self._took(plan=seconds)
        if self.estimate is None:
            self.estimate = estimate_plan(plan, seconds)
        log.info(
            "planned: %s to build (%s), %d to resume, %d to keep, %d to drop",
            counted(plan.outlook.num_built, "split"),
            ", ".join(f"{number} {reason}" for reason, number in plan.splits_by_reason.items()) or "nothing new",
            len(plan.resume),
            plan.outlook.num_kept,
            plan.outlook.num_dropped,
        )
        for change in plan.changes:
            log.warning("this run changes the table: %s", change.describe())
        self.steps.announce(plan, self.estimate)
        return plan

    def _build(self, plan: Plan, attempt: int) -> TableDiff:
        """Build the missing splits, then once more the slices that have an id of a later slice of their object."""
        began = time.monotonic()
        context = build_context(plan, self.run_id, attempt)

        def build(
            stage: Stage, splits: list[PlannedSplit], excluded_ids: dict[str, frozenset[str]]
        ) -> list[BuildResult]:
            if not splits:
                return []
            estimated_rows = self.estimate.num_rows if self.estimate is not None and stage is Stage.ENCODING else None
            num_rows = sample_num_rows(splits) if estimated_rows is None else estimated_rows
            meter = ProgressMeter(stage, splits, num_rows, self._on_progress)
            return self.steps.build(splits, context, excluded_ids, meter)

        results = [*plan.resume, *build(Stage.ENCODING, plan.build, {})]
        self._note(plan, results)
        diff = self.steps.diff(plan, results, self.run_id)
        excluded_ids = duplicate_ids_across_splits(plan, diff)
        if excluded_ids:
            others = [result for result in results if result.planned.fingerprint not in excluded_ids]
            again = [result.planned for result in results if result.planned.fingerprint in excluded_ids]
            rebuilt = build(Stage.REBUILDING, with_row_numbers(again), excluded_ids)
            self._note(plan, rebuilt)
            diff = self.steps.diff(plan, [*others, *rebuilt], self.run_id)
        self._num_bytes_read += plan.num_bytes_to_read
        self._took(build=time.monotonic() - began)
        return diff

    def _note(self, plan: Plan, results: list[BuildResult]) -> None:
        """Count the splits that this run built; splits that an earlier run built are not counted."""
        for result in results:
            if result.record is not None and result.record.run_id == self.run_id:
                self._tally.add(result.record, plan.reasons[result.planned.fingerprint])

    def _publish(self, plan: Plan, diff: TableDiff) -> RefreshReport:
        began = time.monotonic()
        self._show_stage(Stage.COMMITTING)
        counts = self._tally.counts.check(f"run {self.run_id}")
        _check_any_read(plan, diff)
        self._check_any_accepted(plan, diff)
        try:
            version = self.steps.publish(plan, diff, counts, self._commit_metadata(plan))
        except MassDeletionError as error:
            raise MassDeletionError(str(error), RefreshReport.of_plan(plan)) from error
        self._took(publish=time.monotonic() - began)
        table = Table.open(plan.table_uri, version)
        log.info(
            "version %d: %s, of this run %d encoded, %d carried over, %d rejected",
            version,
            counted(table.num_rows, "row"),
            counts.num_rows_encoded,
            counts.num_rows_carried,
            counts.num_rows_rejected,
        )
        all_rejected = explain_all_rejected(plan.table_uri, self._tally.records, plan.job.settings, "")
        if all_rejected:
            log.warning("%s", all_rejected)
        elif counts.num_rows_rejected:
            log.warning(
                "%s rejected: look into %s for the object, the row and the reason",
                counted(counts.num_rows_rejected, "row"),
                join(plan.table_uri, REJECTED_FOLDER),
            )
        report = RefreshReport.of_run(
            plan,
            diff,
            self._tally,
            table=table,
            reduction=reduction_of_run(table, self.run_id),
        )
        return report.model_copy(
            update={
                "stage_seconds": self._seconds,
                "num_bytes_read": self._num_bytes_read,
                "all_rejected": all_rejected,
            }
        )

    def _check_any_accepted(self, plan: Plan, diff: TableDiff) -> None:
        """Refuse to begin a table with nothing because every row was rejected.

        Raises:
            IncompleteError: with the cause and the remedy; the error has a report with the counts.
        """
        if plan.base.version is not None:
            return
        said = explain_all_rejected(plan.table_uri, diff.add, plan.job.settings, ", and nothing was published")
        if said:
            report = RefreshReport.of_run(plan, diff, self._tally).model_copy(
                update={"stage_seconds": self._seconds, "num_bytes_read": self._num_bytes_read, "all_rejected": said}
            )
            broken = (
                f". {_number_unreadable(report)} could not be read: {_name_some(diff.broken)}" if diff.broken else ""
            )
            raise IncompleteError(f"{said}{broken}", report)

    def _commit_metadata(self, plan: Plan) -> dict[str, Any]:
        """Return the metadata of the commit, beside the counts of the run."""
        return {
            "operation": self._job.operation,
            "run_id": self.run_id,
            "encoder": plan.encoder.model,
            "stages": {"plan": self._seconds.plan, "build": self._seconds.build},
            "num_bytes_read": self._num_bytes_read,
        }

    def _took(self, *, plan: float = 0.0, build: float = 0.0, publish: float = 0.0) -> None:
        """Add to the time of the stages."""
        self._seconds = StageSeconds(
            plan=round(self._seconds.plan + plan, 3),
            build=round(self._seconds.build + build, 3),
            publish=round(self._seconds.publish + publish, 3),
        )

    def _show_stage(self, stage: Stage) -> None:
        self._on_progress(Progress(stage=stage))


def _check_any_read(plan: Plan, diff: TableDiff) -> None:
    """Refuse to begin a table with nothing because its objects are unreadable.

    Raises:
        IncompleteError: naming the objects; the error has the report of the plan with the unreadable objects.
    """
    if plan.base.version is not None or not diff.broken or any(record.counts.num_rows_read for record in diff.add):
        return
    report = RefreshReport.of_plan(plan).model_copy(update={"broken_objects": diff.broken})
    raise IncompleteError(
        f"{len(diff.broken)} of {report.num_objects} objects could not be read, the others have no rows, and nothing was "
        f"published: {_name_some(diff.broken)}",
        report,
    )


def _check_losses(plan: Plan) -> None:
    """Stop before anything is built when too much would disappear."""
    try:
        check_losses(plan.table_uri, plan.losses, plan.job.settings.deletion_limit)
    except MassDeletionError as error:
        raise MassDeletionError(str(error), RefreshReport.of_plan(plan)) from error

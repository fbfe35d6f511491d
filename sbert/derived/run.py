"""Bring a derived table up to date: plan, build the missing splits, commit.

>>> from sbert.derived.run import derive
>>> report = derive(job, "table", "out")  # doctest: +SKIP

``wanted - have`` is built, ``have - wanted`` is dropped, in one commit (`sbert.derived.plan`). Nothing records how far a job
got. The flow passes the same steps as Prefect tasks.
"""

import datetime as dt
import logging
import time
import uuid
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor

from pydantic import BaseModel, ConfigDict, Field

from sbert.counted import counted
from sbert.derived.build import DerivationContext, close_deriver, derivation_context, derived_schema, deriver_for
from sbert.derived.derived_table import DerivedTable, commit_derived
from sbert.derived.job import DerivedJob
from sbert.derived.plan import DerivedPlan, PlannedDerivation, plan_derived
from sbert.derived.records import DerivedRecord
from sbert.errors import CommitConflictError
from sbert.table.delta import Table
from sbert.table.followers import Follower, note_follower
from sbert.table.lease import hold_lease

__all__ = ["MAX_ATTEMPTS", "DerivedReport", "DerivedSteps", "commit_plan", "derive", "note_output"]

log = logging.getLogger(__name__)

MAX_ATTEMPTS = 5
"""Times that a run plans because another run committed first."""


class DerivedReport(BaseModel):
    """The results of a run; scripts rely on the keys."""

    model_config = ConfigDict(frozen=True)

    job: str
    table_uri: str
    out_uri: str
    version: int = Field(description="The derived table's version now.")
    table_version: int = Field(description="Version of the embeddings table that the output was computed from.")
    encoder: str
    num_shards_built: int
    num_shards_resumed: int
    num_shards_kept: int
    num_shards_dropped: int
    num_rows: int = Field(description="Rows of the derived table.")
    num_rows_built: int = Field(description="Rows whose output was computed in this run.")
    seconds: float = 0.0

    def summary(self) -> str:
        """Return the outcome in one line."""
        return f"Version {self.version}: {counted(self.num_rows, 'row')}, {self.num_rows_built:,} computed"


class DerivedSteps:
    """Does the parts of a run in this process, and builds splits on its threads; subclasses do them elsewhere."""

    def __init__(self, concurrency: int = 1) -> None:
        """Build `concurrency` splits at the same time."""
        self.concurrency = concurrency

    def plan(self, job: DerivedJob, table_uri: str, out_uri: str, run_id: str) -> DerivedPlan:
        """Compare the embeddings table with the derived table."""
        return plan_derived(job, table_uri, out_uri, run_id)

    def build(self, splits: Sequence[PlannedDerivation], context: DerivationContext) -> list[DerivedRecord]:
        """Build splits, and return their records in any order."""
        deriver = deriver_for(context)
        with ThreadPoolExecutor(self.concurrency, thread_name_prefix="derive") as pool:
            waiting = [pool.submit(deriver.build, planned) for planned in splits]
            try:
                return [future.result() for future in waiting]
            except BaseException:
                deriver.stop.set()
                pool.shutdown(cancel_futures=True)
                raise

    def commit(self, job: DerivedJob, plan: DerivedPlan, records: Sequence[DerivedRecord]) -> int:
        """Publish; return the version of the derived table."""
        return commit_plan(job, plan, records)

    def close(self, run_id: str) -> None:
        """Let every process forget the run."""
        close_deriver(run_id)


def derive(
    job: DerivedJob,
    table_uri: str,
    out_uri: str,
    *,
    steps: DerivedSteps | None = None,
    concurrency: int = 1,
    run_id: str | None = None,
) -> DerivedReport:
    """Bring the derived table at `out_uri` up to date with the newest version of the embeddings table.

    Args:
        job: what is said about each row.
        table_uri: the embeddings table.
        out_uri: the derived table; made if it is not there.
        steps: how splits are built; by default on `concurrency` threads of this process.
        concurrency: splits that are built at the same time, where no steps are given.
        run_id: name of the run; by default a new one.

    Raises:
        NotATableError, SettingsError, TableError: as `plan_derived` and `Deriver.build`; the derived table is as it was.
        CommitConflictError: other runs committed first, again and again.
    """
    run = run_id or str(uuid.uuid4())
    own_steps = steps or DerivedSteps(concurrency)
    try:
        return _derive(job, table_uri, out_uri, own_steps, run)
    finally:
        own_steps.close(run)


def _derive(job: DerivedJob, table_uri: str, out_uri: str, steps: DerivedSteps, run: str) -> DerivedReport:
    began = time.monotonic()
    built: list[DerivedRecord] = []
    for attempt in range(1, MAX_ATTEMPTS + 1):
        plan = steps.plan(job, table_uri, out_uri, run)
        log.info("planned: %d splits to build, %d to resume, %d shards to keep, %d to drop",
                 len(plan.build), len(plan.resume), len(plan.keep), len(plan.drop))  # fmt: skip
        if plan.is_empty:
            return _reported(plan, built, plan.base_version or 0, began)
        with hold_lease(plan.out_uri, run, job.name):
            context = derivation_context(job, plan, run, attempt)
            records = steps.build(plan.build, context) if plan.build else []
            built += records
            try:
                version = steps.commit(job, plan, [*plan.resume, *records])
            except CommitConflictError:
                if attempt == MAX_ATTEMPTS:
                    raise
                log.warning("another run committed first; planning again (attempt %d of %d)", attempt + 1, MAX_ATTEMPTS)
                continue
        return _reported(plan, built, version, began)
    raise AssertionError("unreachable: the last attempt returns or raises")


def commit_plan(job: DerivedJob, plan: DerivedPlan, records: Sequence[DerivedRecord]) -> int:
    """Publish built and resumed splits, and remove shards that no longer belong to the table; return the version.

    Raises:
        CommitConflictError: another run committed since the plan was made.
    """
    before = None if plan.base_version is None else DerivedTable.open(plan.out_uri, plan.base_version)
    table = Table.open(plan.info.table_uri, plan.info.table_version)
    return commit_derived(
        plan.out_uri,
        before,
        schema=derived_schema(job, table),
        add=[shard for record in records for shard in record.shards],
        drop=plan.drop,
        info=plan.info,
        counts={"num_shards_built": len(plan.build), "num_rows_built": sum(record.num_rows for record in records)},
    )


def _reported(plan: DerivedPlan, built: Sequence[DerivedRecord], version: int, began: float) -> DerivedReport:
    """Note the version of the derived table beside the embeddings table, and return the report."""
    report = _report(plan, built, version, time.monotonic() - began)
    note_output(report)
    return report


def note_output(report: DerivedReport, *, has_own_rows: bool = False) -> None:
    """Note the version of an output beside the embeddings table, for `sbert inspect`.

    Args:
        report: the results of the run.
        has_own_rows: whether the output has rows of its own, not one for each row of the embeddings table.
    """
    note_follower(
        report.table_uri,
        Follower(
            name=report.out_uri,
            kind=report.job,
            version=report.table_version,
            num_rows=report.num_rows,
            has_own_rows=has_own_rows,
            followed_at=dt.datetime.now(dt.UTC),
        ),
    )


def _report(plan: DerivedPlan, built: Sequence[DerivedRecord], version: int, seconds: float) -> DerivedReport:
    taken_over = sum(record.num_rows for record in plan.resume)
    return DerivedReport(
        job=plan.info.job,
        table_uri=plan.info.table_uri,
        out_uri=plan.out_uri,
        version=version,
        table_version=plan.info.table_version,
        encoder=plan.info.encoder,
        num_shards_built=sum(len(record.shards) for record in built),
        num_shards_resumed=sum(len(record.shards) for record in plan.resume if record.run_id != plan.info.run_id),
        num_shards_kept=len(plan.keep),
        num_shards_dropped=len(plan.drop),
        num_rows=sum(shard.num_rows for shard in plan.keep)
        + taken_over
        + sum(planned.num_rows for planned in plan.build),
        num_rows_built=sum(record.num_rows for record in built),
        seconds=round(seconds, 3),
    )

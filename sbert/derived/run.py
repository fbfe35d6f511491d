"""Bring a derived table up to date: plan, build the missing splits, commit.

>>> from sbert.derived.run import derive
>>> report = derive(job, "table", "out")  # doctest: +SKIP

``wanted`` are the splits of the embeddings table's version, each hashed with the job; ``have`` are the shards of the
derived table. ``wanted - have`` is built, ``have - wanted`` is dropped, in one commit. Compaction of the embeddings table
moves rows between shards, not between splits, so it is not a change. Nothing records how far a job got.
"""

import logging
import threading
import time
import uuid
from collections import defaultdict
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor

import pyarrow as pa
from pydantic import BaseModel, ConfigDict, Field

from sbert.derived.derived_table import DerivedInfo, DerivedTable, commit_derived, find_derived
from sbert.derived.job import KEY_COLUMNS, DerivedJob, SplitFunction, SplitInput, derived_fingerprint
from sbert.derived.records import DerivedRecord, finished_splits, write_derived_record
from sbert.errors import CommitConflictError, SettingsError, TableError
from sbert.storage.files import normalize_uri
from sbert.table.delta import Table, TableShard
from sbert.table.lease import hold_lease
from sbert.table.shard_layout import locate_splits
from sbert.table.shards import ShardSettings, ShardWriter

__all__ = ["DerivedPlan", "DerivedReport", "DerivedSteps", "PlannedDerivation", "build_split", "derive", "plan_derived"]

log = logging.getLogger(__name__)

MAX_ATTEMPTS = 5
"""Times that a run plans because another run committed first."""


class PlannedDerivation(BaseModel):
    """One split to build."""

    model_config = ConfigDict(frozen=True)

    fingerprint: str = Field(description="Fingerprint of the split in the derived table.")
    split: str = Field(description="Fingerprint of the split in the embeddings table.")
    num_rows: int
    shards: tuple[TableShard, ...] = Field(description="The shards of the embeddings table that hold its rows.")


class DerivedPlan(BaseModel):
    """The work of a run, as it was planned."""

    model_config = ConfigDict(frozen=True)

    info: DerivedInfo
    out_uri: str
    base_version: int | None = Field(description="Version of the derived table; None when it is to be made.")
    build: tuple[PlannedDerivation, ...]
    resume: tuple[DerivedRecord, ...] = Field(description="Splits that an interrupted run finished.")
    keep: tuple[TableShard, ...]
    drop: tuple[TableShard, ...]

    @property
    def is_empty(self) -> bool:
        """Return whether the derived table is up to date but for the version that it names."""
        return self.base_version is not None and not (self.build or self.resume or self.drop)


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


def plan_derived(job: DerivedJob, table_uri: str, out_uri: str, run_id: str) -> DerivedPlan:
    """Compare the embeddings table with the derived table.

    Raises:
        NotATableError: one of them is something else.
        SettingsError: the table lacks something that the job needs, or both tables are one folder.
        TableError: the derived table belongs to another job or another embeddings table.
    """
    if normalize_uri(table_uri) == normalize_uri(out_uri):
        raise SettingsError(f"{out_uri}: the output needs a folder of its own: name another one than the table's")
    table = Table.open(table_uri)
    job.columns(table)  # refuses tables that lack something
    before = find_derived(out_uri)
    job_fingerprint = job.fingerprint(table)
    info = DerivedInfo(
        job=job.name,
        job_fingerprint=job_fingerprint,
        settings=job.model_dump(mode="json"),
        table_uri=table.uri,
        table_id=table.table_id,
        table_version=table.version,
        encoder=table.encoder.model,
        encoder_fingerprint=table.encoder.fingerprint,
        run_id=run_id,
    )
    if before is not None and before.info.job != job.name:
        raise TableError(
            f"{before.uri}: this table belongs to the job {before.info.job}, not to {job.name}: name another"
        )
    wanted = _wanted(table, job_fingerprint)
    shards = before.shards() if before is not None else []
    have = {shard.fingerprint for shard in shards}
    missing = [planned for planned in wanted if planned.fingerprint not in have]
    finished = finished_splits(normalize_uri(out_uri), [planned.fingerprint for planned in missing])
    names = {planned.fingerprint for planned in wanted}
    return DerivedPlan(
        info=info,
        out_uri=normalize_uri(out_uri),
        base_version=None if before is None else before.version,
        build=tuple(planned for planned in missing if planned.fingerprint not in finished),
        resume=tuple(finished.values()),
        keep=tuple(shard for shard in shards if shard.fingerprint in names),
        drop=tuple(shard for shard in shards if shard.fingerprint not in names),
    )


def _wanted(table: Table, job_fingerprint: str) -> list[PlannedDerivation]:
    holders: dict[str, list[TableShard]] = defaultdict(list)
    rows: dict[str, int] = defaultdict(int)
    for shard in locate_splits(table.uri, table.shards()):
        for split in shard.splits:
            holders[split.fingerprint].append(shard)
            rows[split.fingerprint] += split.num_rows
    return [
        PlannedDerivation(
            fingerprint=derived_fingerprint(split, rows[split], job_fingerprint),
            split=split,
            num_rows=rows[split],
            shards=tuple(holders[split]),
        )
        for split in sorted(holders)
    ]


def build_split(
    job: DerivedJob, function: SplitFunction, table: Table, plan_uri: str, planned: PlannedDerivation, run_id: str
) -> DerivedRecord:
    """Write the shards of one split, then its completion record.

    Raises:
        TableError: the output has another number of rows than the split.
    """
    schema = derived_schema(job, table)
    split = SplitInput(table=table, shards=planned.shards, fingerprint=planned.split, num_rows=planned.num_rows)
    num_rows = 0
    with ShardWriter(plan_uri, planned.fingerprint, schema, ShardSettings()) as writer:
        for rows in function(split):
            writer.write(rows)
            num_rows += len(rows)
        if num_rows != planned.num_rows:
            raise TableError(
                f"{plan_uri}: {job.name} made {num_rows} rows for a split of {planned.num_rows}: nothing was published"
            )
        shards = writer.close()
    record = DerivedRecord(fingerprint=planned.fingerprint, num_rows=num_rows, shards=tuple(shards), run_id=run_id)
    write_derived_record(plan_uri, record)
    return record


def derived_schema(job: DerivedJob, table: Table) -> pa.Schema:
    """Return the columns of a job's derived table."""
    keys = [table.arrow_schema.field(name) for name in KEY_COLUMNS]
    return pa.schema([*keys, *job.columns(table)])


class DerivedSteps:
    """Builds splits on threads of this process; subclasses build elsewhere."""

    def __init__(self, concurrency: int = 1) -> None:
        """Build `concurrency` splits at the same time."""
        self.concurrency = concurrency

    def build(self, job: DerivedJob, plan: DerivedPlan, run_id: str) -> list[DerivedRecord]:
        """Build the splits of a plan, and return their records in any order."""
        table = Table.open(plan.info.table_uri, plan.info.table_version)
        function = job.open(table, plan.out_uri)
        stopped = threading.Event()

        def build(planned: PlannedDerivation) -> DerivedRecord:
            if stopped.is_set():
                raise InterruptedError("another split failed")
            return build_split(job, function, table, plan.out_uri, planned, run_id)

        with ThreadPoolExecutor(self.concurrency, thread_name_prefix="derive") as pool:
            waiting = [pool.submit(build, planned) for planned in plan.build]
            try:
                return [future.result() for future in waiting]
            except BaseException:
                stopped.set()
                pool.shutdown(cancel_futures=True)
                raise


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
        NotATableError, SettingsError, TableError: as `plan_derived` and `build_split`; the derived table is as it was.
        CommitConflictError: other runs committed first, again and again.
    """
    began = time.monotonic()
    run = run_id or str(uuid.uuid4())
    own_steps = steps or DerivedSteps(concurrency)
    built: list[DerivedRecord] = []
    for attempt in range(1, MAX_ATTEMPTS + 1):
        plan = plan_derived(job, table_uri, out_uri, run)
        log.info("planned: %d splits to build, %d to resume, %d shards to keep, %d to drop",
                 len(plan.build), len(plan.resume), len(plan.keep), len(plan.drop))  # fmt: skip
        if plan.is_empty:
            return _report(plan, [], plan.base_version or 0, time.monotonic() - began)
        with hold_lease(plan.out_uri, run, job.name):
            records = own_steps.build(job, plan, run) if plan.build else []
            built += records
            try:
                version = _commit(job, plan, [*plan.resume, *records])
            except CommitConflictError:
                if attempt == MAX_ATTEMPTS:
                    raise
                log.warning("another run committed first; planning again (attempt %d of %d)", attempt + 1, MAX_ATTEMPTS)
                continue
        return _report(plan, built, version, time.monotonic() - began)
    raise AssertionError("unreachable: the last attempt returns or raises")


def _commit(job: DerivedJob, plan: DerivedPlan, records: Sequence[DerivedRecord]) -> int:
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
        num_shards_resumed=sum(len(record.shards) for record in plan.resume),
        num_shards_kept=len(plan.keep),
        num_shards_dropped=len(plan.drop),
        num_rows=sum(shard.num_rows for shard in plan.keep)
        + taken_over
        + sum(planned.num_rows for planned in plan.build),
        num_rows_built=sum(record.num_rows for record in built),
        seconds=round(seconds, 3),
    )

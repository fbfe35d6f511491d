"""Build splits of a derived table: the context of a worker process, and the completion of one split.

A process opens the job once for a run. The output of a split is written block by block, followed by the completion record
of the split. If the process is killed before it writes the record, only this split is lost.
"""

import sys
import threading

import pyarrow as pa
from pydantic import BaseModel, ConfigDict, Field, SerializeAsAny

from sbert.derived.job import KEY_COLUMNS, DerivedJob, SplitFunction, SplitInput
from sbert.derived.plan import DerivedPlan, PlannedDerivation
from sbert.derived.records import DerivedRecord, finished_splits, write_derived_record
from sbert.errors import TableError
from sbert.table.delta import Table
from sbert.table.shards import ShardSettings, ShardWriter

__all__ = [
    "DerivationContext",
    "Deriver",
    "close_deriver",
    "derivation_context",
    "derived_schema",
    "deriver_for",
    "stop_deriver",
]


class DerivationContext(BaseModel):
    """Everything that a worker needs to build any split of one run."""

    model_config = ConfigDict(frozen=True)

    run_id: str
    attempt: int = Field(default=1, description="Which plan of the run: a run that lost a commit plans again.")
    job: SerializeAsAny[DerivedJob]
    table_uri: str
    table_version: int
    out_uri: str
    worker_threads: int | None = Field(
        default=None, description="Threads of torch in a worker process; empty when the planning process itself builds."
    )


def derivation_context(job: DerivedJob, plan: DerivedPlan, run_id: str, attempt: int = 1) -> DerivationContext:
    """Return the context that workers need for the splits of a plan."""
    return DerivationContext(
        run_id=run_id,
        attempt=attempt,
        job=job,
        table_uri=plan.info.table_uri,
        table_version=plan.info.table_version,
        out_uri=plan.out_uri,
    )


class Deriver:
    """Builds splits of one run in one process; threads may share it."""

    def __init__(self, context: DerivationContext) -> None:
        """Open the embeddings table and the job."""
        self.context = context
        self.stop = threading.Event()
        self._table = Table.open(context.table_uri, context.table_version)
        self._function: SplitFunction = context.job.open(self._table, context.out_uri)
        self._schema = derived_schema(context.job, self._table)

    def build_group(self, splits: tuple[PlannedDerivation, ...], *, attempt: int = 1) -> list[DerivedRecord]:
        """Build splits one after the other; splits that an earlier attempt of this run finished are taken over.

        Raises:
            TableError: the output of a split has another number of rows than the split.
            InterruptedError: the run was told to stop.
        """
        finished: dict[str, DerivedRecord] = {}
        if attempt > 1 or self.context.worker_threads is not None:
            records = finished_splits(self.context.out_uri, [planned.fingerprint for planned in splits])
            finished = {name: record for name, record in records.items() if record.run_id == self.context.run_id}
        return [finished.get(planned.fingerprint) or self.build(planned) for planned in splits]

    def build(self, planned: PlannedDerivation) -> DerivedRecord:
        """Write the shards of one split, then its completion record."""
        context = self.context
        split = SplitInput(
            table=self._table, shards=planned.shards, fingerprint=planned.split, num_rows=planned.num_rows
        )
        num_rows = 0
        self._check_running()
        with ShardWriter(context.out_uri, planned.fingerprint, self._schema, ShardSettings()) as writer:
            for rows in self._function(split):
                writer.write(rows)
                num_rows += len(rows)
                self._check_running()
            if num_rows != planned.num_rows:
                raise TableError(
                    f"{context.out_uri}: {context.job.name} made {num_rows} rows for a split of {planned.num_rows}, and "
                    "nothing was published: correct the job so that it returns one row for each row"
                )
            shards = writer.close()
        record = DerivedRecord(
            fingerprint=planned.fingerprint, num_rows=num_rows, shards=tuple(shards), run_id=context.run_id
        )
        write_derived_record(context.out_uri, record)
        return record

    def _check_running(self) -> None:
        if self.stop.is_set():
            raise InterruptedError("stopped on request; run again to go on")


def derived_schema(job: DerivedJob, table: Table) -> pa.Schema:
    """Return the columns of a job's derived table."""
    keys = [table.arrow_schema.field(name) for name in KEY_COLUMNS]
    return pa.schema([*keys, *job.columns(table)])


_derivers: dict[str, Deriver] = {}
_derivers_lock = threading.Lock()


def deriver_for(context: DerivationContext) -> Deriver:
    """Return the deriver of a run in this process. The first call makes it, and the first after a new plan again.

    A worker process serves one run at a time, and limits torch to the threads that the worker was given.
    """
    with _derivers_lock:
        current = _derivers.get(context.run_id)
        if current is not None and current.context.attempt >= context.attempt:
            return current
        if context.worker_threads is not None:
            _derivers.clear()
            if (torch := sys.modules.get("torch")) is not None:
                torch.set_num_threads(context.worker_threads)
        _derivers[context.run_id] = deriver = Deriver(context)
        return deriver


def stop_deriver(run_id: str) -> None:
    """Tell this process's deriver of a run, if there is one, to stop between two blocks."""
    with _derivers_lock:
        deriver = _derivers.get(run_id)
    if deriver is not None:
        deriver.stop.set()


def close_deriver(run_id: str) -> None:
    """Forget this process's deriver of a run, if there is one."""
    with _derivers_lock:
        _derivers.pop(run_id, None)

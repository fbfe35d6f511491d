"""A derived table whose rows are not the rows of the embeddings table: users, groups, cells of topic and time.

Such a table is made of *parts*. The job names the parts that a version of the embeddings table wants, each with a
fingerprint of everything that decides its rows. ``wanted - have`` is built, ``have - wanted`` is dropped, in one commit.
A part that is finished has a completion record, so a run that was killed goes on where it stopped.

>>> from sbert.derived.part_table import derive_parts
>>> report = derive_parts(job, "table", "out")  # doctest: +SKIP
"""

import hashlib
import logging
import time
import uuid
from abc import abstractmethod
from collections.abc import Callable, Iterable, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from itertools import chain

import pyarrow as pa

from sbert.derived.derived_table import (
    DerivedInfo,
    DerivedTable,
    PartsSummary,
    commit_derived,
    digest_of_parts,
)
from sbert.derived.job import TableJob
from sbert.derived.plan import open_output
from sbert.derived.records import DerivedRecord, finished_splits, write_derived_record
from sbert.derived.run import MAX_ATTEMPTS, DerivedReport, note_output
from sbert.errors import CommitConflictError, TableError
from sbert.storage.files import normalize_uri
from sbert.table.delta import Table
from sbert.table.lease import hold_lease
from sbert.table.shards import ShardSettings, ShardWriter
from sbert.table.table_shard import TableShard

__all__ = ["PartJob", "Parts", "derive_parts", "part_fingerprint"]

log = logging.getLogger(__name__)


@dataclass(frozen=True)
class Parts:
    """The parts of an output, and the function that builds a part."""

    names: Mapping[str, str]
    """The inputs that decide the rows of each part, as one text, by the part's name. The job's fingerprint is added."""
    build: Callable[[str], Iterable[pa.Table]]
    """Makes the rows of the part of this name, in blocks; several threads call it when the concurrency is above 1."""


class PartJob(TableJob):
    """A job whose output is made of parts; its `columns` are all columns of the output."""

    @abstractmethod
    def parts(self, table: Table, before: DerivedTable | None) -> Parts:
        """Return the wanted parts.

        Args:
            table: the version of the embeddings table that is worked on.
            before: the existing output, if any; its rows may help to make the new ones.
        """


def part_fingerprint(name: str, content: str, job_fingerprint: str) -> str:
    """Return the fingerprint that the shards of a part carry in their names."""
    return hashlib.sha256(f"part|{name}|{content}|{job_fingerprint}".encode()).hexdigest()[:32]


def derive_parts(
    job: PartJob,
    table_uri: str,
    out_uri: str,
    *,
    table_version: int | None = None,
    concurrency: int = 1,
    run_id: str | None = None,
) -> DerivedReport:
    """Bring the table of parts at `out_uri` up to date with a version of the embeddings table.

    Args:
        job: names and makes the parts.
        table_uri: the embeddings table.
        out_uri: the output; made if it is not there.
        table_version: version of the embeddings table; by default the newest.
        concurrency: parts that are built at the same time.
        run_id: name of the run; by default a new one.

    Raises:
        NotATableError, SettingsError, TableError: as `sbert.derived.plan.plan_derived`; the output is as it was.
        CommitConflictError: other runs committed first, again and again.
    """
    run = run_id or str(uuid.uuid4())
    began = time.monotonic()
    for attempt in range(1, MAX_ATTEMPTS + 1):
        work = _plan(job, table_uri, out_uri, run, table_version)
        if work.is_empty:
            break
        with hold_lease(work.out_uri, run, job.name):
            work.build(concurrency)
            try:
                work.commit()
            except CommitConflictError:
                if attempt == MAX_ATTEMPTS:
                    raise
                log.warning("another run committed first; planning again (attempt %d of %d)", attempt + 1, MAX_ATTEMPTS)
                continue
        break
    report = work.report(time.monotonic() - began)
    note_output(report, has_own_rows=True)
    return report


class _Work:
    """One attempt: build the parts that the output lacks, and commit them."""

    def __init__(
        self,
        *,
        info: DerivedInfo,
        out_uri: str,
        before: DerivedTable | None,
        schema: pa.Schema,
        wanted: dict[str, str],
        build: Callable[[str], Iterable[pa.Table]],
        job: type[PartJob],
    ) -> None:
        self.out_uri = out_uri
        self._job = job
        self._info, self._before, self._schema, self._make = info, before, schema, build
        shards: dict[str, list[TableShard]] = {}
        for shard in before.shards() if before is not None else []:
            shards.setdefault(shard.fingerprint, []).append(shard)
        self._keep = list(
            chain.from_iterable(shards_of_part for name, shards_of_part in shards.items() if name in wanted)
        )
        self._drop = list(
            chain.from_iterable(shards_of_part for name, shards_of_part in shards.items() if name not in wanted)
        )
        self._num_parts = len(wanted)
        missing = [name for name in wanted if name not in shards]
        self._resumed = list(finished_splits(out_uri, missing).values()) if missing else []
        finished = {record.fingerprint for record in self._resumed}
        self._missing = {name: wanted[name] for name in missing if name not in finished}
        self._built: list[DerivedRecord] = []
        self._version = 0 if before is None else before.version
        log.info("planned: %d parts to build, %d to resume, %d shards to keep, %d to drop",
                 len(self._missing), len(self._resumed), len(self._keep), len(self._drop))  # fmt: skip

    @property
    def is_empty(self) -> bool:
        """Return whether there is nothing to commit, not even the version of the embeddings table."""
        if self._before is None or self._missing or self._drop:
            return False
        return self._before.info.is_record_of(self._info.model_copy(update={"parts": self._summary()}), self._job)

    def build(self, concurrency: int) -> None:
        """Write the shards and the record of each missing part."""
        with ThreadPoolExecutor(concurrency, thread_name_prefix="part") as pool:
            waiting = [pool.submit(self._build, *item) for item in self._missing.items()]
            try:
                self._built = [future.result() for future in waiting]
            except BaseException:
                pool.shutdown(cancel_futures=True)
                raise

    def commit(self) -> None:
        """Publish everything at once."""
        records = [*self._resumed, *self._built]
        self._version = commit_derived(
            self.out_uri,
            self._before,
            schema=self._schema,
            add=[shard for record in records for shard in record.shards],
            drop=self._drop,
            info=self._info.model_copy(update={"parts": self._summary()}),
            counts={"num_parts_built": len(self._built), "num_rows_built": sum(r.num_rows for r in self._built)},
        )

    def report(self, seconds: float) -> DerivedReport:
        """Return the report."""
        info = self._info
        return DerivedReport(
            job=info.job,
            table_uri=info.table_uri,
            out_uri=self.out_uri,
            version=self._version,
            table_version=info.table_version,
            encoder=info.encoder,
            num_shards_built=sum(len(record.shards) for record in self._built),
            num_shards_resumed=sum(len(record.shards) for record in self._resumed),
            num_shards_kept=len(self._keep),
            num_shards_dropped=len(self._drop),
            num_rows=sum(count for _, count in self._rows()),
            num_rows_built=sum(record.num_rows for record in self._built),
            seconds=round(seconds, 3),
        )

    def _build(self, fingerprint: str, name: str) -> DerivedRecord:
        num_rows = 0
        with ShardWriter(self.out_uri, fingerprint, self._schema, ShardSettings()) as writer:
            for rows in self._make(name):
                if rows.schema.names != self._schema.names:
                    raise TableError(
                        f"{self._info.job}: the part {name} has the columns {', '.join(rows.schema.names)}, columns() names "
                        f"{', '.join(self._schema.names)}: make them equal"
                    )
                writer.write(rows.cast(self._schema))
                num_rows += len(rows)
            shards = writer.close()
        record = DerivedRecord(
            fingerprint=fingerprint, num_rows=num_rows, shards=tuple(shards), run_id=self._info.run_id
        )
        write_derived_record(self.out_uri, record)
        return record

    def _summary(self) -> PartsSummary:
        return PartsSummary(num_parts=self._num_parts, digest=digest_of_parts(self._rows()))

    def _rows(self) -> Sequence[tuple[str, int]]:
        records = [*self._resumed, *self._built]
        kept = [(shard.fingerprint, shard.num_rows) for shard in self._keep]
        return [*kept, *((record.fingerprint, record.num_rows) for record in records)]


def _plan(job: PartJob, table_uri: str, out_uri: str, run_id: str, table_version: int | None) -> _Work:
    table, before, info = open_output(job, table_uri, out_uri, run_id, table_version)
    parts = job.parts(table, before)
    wanted = {part_fingerprint(name, content, info.job_fingerprint): name for name, content in parts.names.items()}
    return _Work(
        info=info,
        out_uri=normalize_uri(out_uri),
        before=before,
        schema=job.columns(table),
        wanted=wanted,
        build=parts.build,
        job=type(job),
    )

"""Build splits: the context of a worker process, and the completion of one split.

A process loads the encoder once and remembers every vector it computed. Building a split is then a stream
(`sbert.refresh.stream`) followed by the completion record of the split. If the process is killed before it writes the
record, only this split is lost.
"""

import datetime as dt
import logging
import threading
from typing import TYPE_CHECKING

from pydantic import BaseModel, ConfigDict, Field

from sbert.counted import counted
from sbert.errors import StorageError
from sbert.refresh.build_result import BuildResult
from sbert.refresh.build_spec import BuildSpec
from sbert.refresh.fingerprints import PlannedSplit, cut_to_first_rows, recorded_spans, without_objects
from sbert.refresh.plan import Plan
from sbert.refresh.scheduling import SplitGroup
from sbert.refresh.stream import StreamResult, stream_split
from sbert.refresh.worker_state import WorkerState
from sbert.rows.counts import RowCounts
from sbert.runtime.memory import share_heaps
from sbert.storage.files import join
from sbert.table.quantization_recall import VectorSample, rows_to_sample, write_sample
from sbert.table.split_records import (
    SplitRecord,
    find_record,
    kept_types,
    misfits_name,
    rejects_name,
    write_record,
)

if TYPE_CHECKING:  # a run with nothing to encode does not import torch
    from sbert.encoder.sentence_encoder import SentenceEncoder

__all__ = [
    "BuildContext",
    "SplitBuilder",
    "build_context",
    "builder_for",
    "close_builder",
    "stop_builder",
]

log = logging.getLogger(__name__)

SKIPPED = "object skipped; rows that the table has of it already are kept"
MAX_LOGGED_SPLITS = 200
"""A run of more splits logs each of them at level debug only."""


class BuildContext(BaseModel):
    """The facts that a worker needs to build any split of one run."""

    model_config = ConfigDict(frozen=True)

    run_id: str
    attempt: int = Field(
        default=1, description="Number of the plan within the run: a run that lost a commit plans again."
    )
    spec: BuildSpec
    reusable_shards: tuple[str, ...] = Field(
        description="Shards whose vectors can be carried over: same encoder, in the table or of a finished split."
    )
    have: frozenset[str] = Field(description="Fingerprints of the splits whose rows the table has and keeps.")
    has_rows: frozenset[str] = Field(
        default=frozenset(), description="Objects to build that may break off, and of which the table has rows, by URI."
    )
    num_splits: int = Field(default=1, description="Splits that the run builds.")
    worker_threads: int | None = Field(
        default=None,
        description="Threads of the encoder in a worker process; empty when the planning process itself builds.",
    )


def build_context(plan: Plan, run_id: str, attempt: int = 1) -> BuildContext:
    """Return the context that workers need for the splits of `plan`."""
    reusable = [shard.name for record in [*plan.resumed_records, *plan.retype] for shard in record.shards]
    table = plan.open_base() if plan.build and not plan.job.force else None
    if table is not None and table.encoder.fingerprint == plan.encoder.fingerprint:
        reusable += [shard.name for shard in plan.base.shards if not shard.is_lost]
    return BuildContext(
        run_id=run_id,
        attempt=attempt,
        spec=plan.spec,
        reusable_shards=tuple(reusable),
        have=plan.base.splits - plan.leaving if plan.job.force else plan.base.splits,
        has_rows=plan.has_rows,
        num_splits=len(plan.build),
    )


class SplitBuilder:
    """Builds splits of one run in one process; threads may share it."""

    def __init__(self, context: BuildContext, encoder: "SentenceEncoder") -> None:
        """Build with one encoder. The table's shards are indexed when the first split is built."""
        self.context = context
        self.state = WorkerState(context.spec, encoder)
        self._index_lock = threading.Lock()
        self._is_indexed = False

    @property
    def is_indexed(self) -> bool:
        """Return whether the texts of the table have been read into the vector cache."""
        return self._is_indexed

    def build_group(self, group: SplitGroup, *, attempt: int, is_last_attempt: bool) -> list[BuildResult]:
        """Build the splits of a group, one after the other.

        Splits that an earlier attempt of this run finished, in this process or in one that died, are found by their
        records. An object that storage refuses does not hold up the others. It fails the attempt at the group's end
        when trying again can help. It counts as unreadable when trying again cannot help, or on the last attempt.

        Raises:
            StorageError: when the table's storage fails, or an object's does and it is not the last attempt.
            QualityError, InterruptedError: as `build`.
        """
        results: list[BuildResult] = []
        failed: StorageError | None = None
        may_be_finished = attempt > 1 or self.context.worker_threads is not None
        for planned in group.splits:
            excluded_ids = group.excluded_ids.get(planned.fingerprint, frozenset())
            record = self._finished_in_this_run(planned) if may_be_finished and not excluded_ids else None
            try:
                if record is not None:
                    result = BuildResult(planned=planned, built=planned, record=record)
                else:
                    result = self.build(planned, excluded_ids)
            except StorageError as error:
                if error.uri not in planned.object_uris:
                    raise
                if error.transient and not is_last_attempt:
                    failed = failed or error
                    continue
                result = BuildResult(planned=planned, broken=dict.fromkeys(planned.object_uris, str(error)))
            results.append(result)
            self.state.work.finish(result)
        if failed is not None:
            raise failed
        return results

    def _finished_in_this_run(self, planned: PlannedSplit) -> SplitRecord | None:
        record = find_record(self.context.spec.table_uri, planned.fingerprint)
        if record is None or record.run_id != self.context.run_id:
            return None
        return record if record.tombstones == self.state.tombstones.digest else None

    def build(self, planned: PlannedSplit, excluded_ids: frozenset[str] = frozenset()) -> BuildResult:
        """Build a split and write its completion record; objects that cannot be read to their end are left out.

        Of an object that breaks off after whole rows, and of which the table has no rows, the rows before the break are
        built.

        Args:
            planned: the split.
            excluded_ids: ids that a later split of the same object has; their rows are rejected as duplicates.

        Raises:
            StorageError: when storage fails; `transient` says whether building again can help.
            QualityError: when a vector must not be published.
            InterruptedError: when the run was told to stop; nothing of the split is kept.
        """
        self._index_table()
        spec = self.context.spec
        broken: dict[str, str] = {}
        cut_off: dict[str, str] = {}
        encoded_before = RowCounts()
        num_sampled = rows_to_sample(spec.encoder, planned.fingerprint, self.context.num_splits)
        sample = VectorSample(num_sampled, self.state.encoder.dim)
        current: PlannedSplit | None = planned
        while current is not None:
            if broken and current.fingerprint in self.context.have:
                return BuildResult(planned=planned, built=current, broken=broken, cut_off=cut_off)
            streamed = stream_split(spec, self.state, current, excluded_ids, sample)
            if streamed.broken:
                rows_before = {
                    uri: rows for uri, rows in streamed.rows_before_break.items() if uri not in self.context.has_rows
                }
                for uri, detail in streamed.broken.items():
                    what = (
                        f"only the first {counted(rows_before[uri], 'row')} can be read"
                        if uri in rows_before
                        else SKIPPED
                    )
                    log.warning("%s: %s: %s", uri, what, detail)
                cut_off |= {uri: streamed.broken[uri] for uri in rows_before}
                broken |= {uri: detail for uri, detail in streamed.broken.items() if uri not in rows_before}
                encoded_before = RowCounts.total([encoded_before, streamed.counts])
                self.state.work.abandon(current.fingerprint)
                left = without_objects(current, set(broken), spec.rows_fingerprint)
                current = left and cut_to_first_rows(left, rows_before, spec.rows_fingerprint)
                continue
            counts = RowCounts.total([streamed.counts, encoded_before])
            record = self._record(current, streamed, counts, has_sample=num_sampled > 0)
            write_sample(spec.table_uri, current.fingerprint, sample)
            write_record(spec.table_uri, record)
            self._log_built(record)
            return BuildResult(planned=planned, built=current, record=record, broken=broken, cut_off=cut_off)
        return BuildResult(planned=planned, broken=broken)

    def _record(
        self, planned: PlannedSplit, streamed: StreamResult, counts: RowCounts, *, has_sample: bool
    ) -> SplitRecord:
        spec = self.context.spec
        return SplitRecord(
            fingerprint=planned.fingerprint,
            encoder_fingerprint=spec.encoder.fingerprint,
            name=planned.split.name,
            spans=recorded_spans(planned.split),
            shards=streamed.shards,
            rejects=rejects_name(planned.fingerprint) if counts.num_rows_rejected else None,
            misfits=misfits_name(planned.fingerprint) if counts.misfits_by_column else None,
            counts=counts,
            kept_types=kept_types(spec.kept_schema),
            run_id=self.context.run_id,
            built_at=dt.datetime.now(dt.UTC).isoformat(timespec="seconds"),
            forced=spec.job.force,
            has_sample=has_sample,
            calibration=streamed.calibration,
            tombstones=self.state.tombstones.digest,
        )

    def _log_built(self, record: SplitRecord) -> None:
        for column, num_rows in record.counts.misfits_by_column.items():
            kind = record.kept_types.get(column, "its type")
            message = "%s: %s of column %r not fitting %s: null in the table, the original is in %s"
            log.warning(message, record.name, counted(num_rows, "value"), column, kind, record.misfits)
        level = logging.INFO if self.context.num_splits <= MAX_LOGGED_SPLITS else logging.DEBUG
        counts = record.counts
        log.log(
            level,
            "%s: %s read, %d encoded, %d carried over, %d rejected",
            record.name,
            counted(counts.num_rows_read, "row"),
            counts.num_rows_encoded,
            counts.num_rows_carried,
            counts.num_rows_rejected,
        )

    def close(self) -> None:
        """Remove temporary files."""
        self.state.close()

    def _index_table(self) -> None:
        with self._index_lock:
            if not self._is_indexed:
                table_uri = self.context.spec.table_uri
                self.state.vector_cache.add_shards([join(table_uri, name) for name in self.context.reusable_shards])
                self._is_indexed = True


_builders: dict[str, SplitBuilder] = {}
_builders_lock = threading.Lock()


def builder_for(context: BuildContext) -> SplitBuilder:
    """Return the builder of a run in this process. The first call makes it, and the first after a new plan again.

    A worker process serves one run at a time: it closes the builders of earlier runs, and limits the encoder to the
    threads that the worker was given.
    """
    share_heaps()
    with _builders_lock:
        if context.run_id in _builders and _builders[context.run_id].context.attempt < context.attempt:
            _builders.pop(context.run_id).close()  # it knows the table, and perhaps the encoder, of the earlier plan
        if context.run_id not in _builders:
            if context.worker_threads is not None:
                for run_id in list(_builders):
                    _builders.pop(run_id).close()
            _builders[context.run_id] = SplitBuilder(context, _load_encoder(context))
        return _builders[context.run_id]


def _load_encoder(context: BuildContext) -> "SentenceEncoder":
    """Load the run's encoder, and hold it to the threads that a worker process was given."""
    import torch

    from sbert.encoder.process_cache import load_encoder

    encoder = load_encoder(context.spec.encoder_spec)
    if context.worker_threads is not None:
        torch.set_num_threads(context.worker_threads)
    return encoder


def stop_builder(run_id: str) -> None:
    """Tell this process's builder of a run, if there is one, to stop between two batches."""
    with _builders_lock:
        builder = _builders.get(run_id)
    if builder is not None:
        builder.state.stop.set()


def close_builder(run_id: str) -> None:
    """Forget this process's builder of a run, if there is one, and remove its temporary files."""
    with _builders_lock:
        builder = _builders.pop(run_id, None)
    if builder is not None:
        builder.close()

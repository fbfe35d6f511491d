"""Build splits: what a worker process holds for a run, and the completion of one split.

The one idea: a process loads the encoder once and remembers every vector it made; building a split is then a stream
(`sbert.refresh.stream`) followed by the split's completion record. A kill before the record costs the split, nothing else.
"""

import datetime as dt
import logging
import threading

import polars as pl
import torch
from pydantic import BaseModel, ConfigDict, Field

from sbert.encoder.process_cache import EncoderSpec, load_encoder
from sbert.encoder.sentence_encoder import SentenceEncoder
from sbert.errors import BrokenObjectError, StorageError
from sbert.refresh.job import RefreshSettings
from sbert.refresh.plan import Plan, PlannedSplit, without_objects
from sbert.refresh.scheduling import SplitGroup
from sbert.refresh.stream import SplitStream
from sbert.rows.counts import RowCounts
from sbert.runtime.memory import FreedMemory, share_heaps
from sbert.storage.files import join
from sbert.table.delta import EncoderInfo, Table
from sbert.table.quantization_recall import FirstLook, VectorSample, rows_to_sample, write_sample
from sbert.table.shards import ShardRecord
from sbert.table.split_records import RecordedSpan, SplitRecord, find_record, kept_types, rejects_name, write_record
from sbert.table.vector_cache import KnownVectors
from sbert.vectors.precision import Calibration

__all__ = [
    "BuildContext",
    "BuildResult",
    "SplitBuilder",
    "build_context",
    "builder_for",
    "close_builder",
    "stop_builder",
]

log = logging.getLogger(__name__)


class BuildContext(BaseModel):
    """What a worker needs to build any split of one run."""

    model_config = ConfigDict(frozen=True, arbitrary_types_allowed=True)

    run_id: str
    table_uri: str
    settings: RefreshSettings
    encoder_spec: EncoderSpec
    encoder: EncoderInfo
    kept_schema: dict[str, pl.DataType]
    rows_fingerprint: str
    known_shards: tuple[str, ...] = Field(
        description="Shards whose vectors can be carried over: same encoder, in the table or of a finished split."
    )
    have: frozenset[str] = Field(description="Fingerprints of the splits that the table has.")
    worker_threads: int | None = Field(
        default=None,
        description="Threads of the encoder in a worker process; empty when the planning process itself builds.",
    )
    force: bool = Field(default=False, description="Whether vectors are computed anew.")
    num_splits: int = Field(default=1, description="Splits that the run builds.")


def build_context(plan: Plan, settings: RefreshSettings, run_id: str) -> BuildContext:
    """Gather what workers need for the splits of `plan`."""
    known = [shard.name for record in [*plan.resume, *plan.retype] for shard in record.shards]
    if plan.base_version is not None and plan.build and not plan.force:
        table = Table.open(plan.table_uri, plan.base_version)
        if table.encoder.fingerprint == plan.encoder.fingerprint:
            known += [shard.name for shard in table.shards()]
    return BuildContext(
        run_id=run_id,
        table_uri=plan.table_uri,
        settings=settings,
        encoder_spec=plan.encoder_spec,
        encoder=plan.encoder,
        kept_schema=plan.kept_schema,
        rows_fingerprint=plan.rows_fingerprint,
        have=plan.have - plan.gone if plan.force else plan.have,
        force=plan.force,
        num_splits=len(plan.build),
        known_shards=tuple(known),
    )


class BuildResult(BaseModel):
    """What became of a planned split: built whole, or without the objects that cannot be read."""

    model_config = ConfigDict(frozen=True)

    planned: PlannedSplit = Field(description="The split as it was planned.")
    built: PlannedSplit | None = Field(default=None, description="The split whose rows are there now, if any.")
    record: SplitRecord | None = Field(default=None, description="Its record; empty when the table has it already.")
    broken: dict[str, str] = Field(default_factory=dict, description="Reason for each unreadable object, by URI.")


class SplitBuilder:
    """Builds splits of one run in one process; threads may share it."""

    def __init__(self, context: BuildContext, encoder: SentenceEncoder) -> None:
        """Prepare; the table's shards are indexed when the first split is built."""
        self.context = context
        self.encoder = encoder
        self.known = KnownVectors(
            context.encoder.dim, context.encoder.precision, run_file_bytes=context.settings.run_file_bytes
        )
        self.first_look = FirstLook(context.encoder)
        self.encode_lock = threading.Lock()
        self.stop = threading.Event()
        self.freed_memory = FreedMemory()
        self._index_lock = threading.Lock()
        self._is_indexed = False
        self._num_rows_done = 0
        self._num_splits_done = 0

    @property
    def num_rows_done(self) -> int:
        """Rows that have passed the encoder so far, for showing progress."""
        return self._num_rows_done

    @property
    def num_splits_done(self) -> int:
        """Splits that are finished or given up so far, for showing progress."""
        return self._num_splits_done

    def count_rows(self, num_rows: int) -> None:
        """Add to the progress that is shown."""
        self._num_rows_done += num_rows

    def build_group(self, group: SplitGroup, *, attempt: int, is_last_attempt: bool) -> list[BuildResult]:
        """Build the splits of a group, one after the other.

        Splits that an earlier attempt of this run finished, in this process or in one that died, are found by their
        records. An object that storage refuses does not hold up the others: it fails the attempt at the group's end
        when trying again can help, and counts as unreadable when it cannot, or on the last attempt.

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
            if record is not None:
                results.append(BuildResult(planned=planned, built=planned, record=record))
                self._num_splits_done += 1
                continue
            objects = {span.object.uri for span in planned.split.spans}
            try:
                results.append(self.build(planned, excluded_ids))
            except StorageError as error:
                if error.uri not in objects:
                    raise
                if error.transient and not is_last_attempt:
                    failed = failed or error
                    continue
                results.append(BuildResult(planned=planned, broken=dict.fromkeys(objects, str(error))))
            self._num_splits_done += 1
        if failed is not None:
            raise failed
        return results

    def _finished_in_this_run(self, planned: PlannedSplit) -> SplitRecord | None:
        record = find_record(self.context.table_uri, planned.fingerprint)
        return record if record is not None and record.run_id == self.context.run_id else None

    def build(self, planned: PlannedSplit, excluded_ids: frozenset[str] = frozenset()) -> BuildResult:
        """Build a split and declare it finished; objects that cannot be read to their end are left out.

        Args:
            planned: the split.
            excluded_ids: ids that a later split of the same object has; their rows are rejected as duplicates.

        Raises:
            StorageError: when storage fails; `transient` says whether building again can help.
            QualityError: when a vector must not be published.
            InterruptedError: when `stop` was set; nothing of the split is kept.
        """
        self._index_table()
        broken: dict[str, str] = {}
        encoded_before = RowCounts()
        num_sampled = rows_to_sample(self.context.encoder, planned.fingerprint, self.context.num_splits)
        sample = VectorSample(num_sampled, self.encoder.dim)
        current: PlannedSplit | None = planned
        while current is not None:
            if broken and current.fingerprint in self.context.have:
                return BuildResult(planned=planned, built=current, broken=broken)
            stream = SplitStream(self, current, excluded_ids, sample)
            try:
                shards, counts = stream.run()
            except BrokenObjectError:
                for uri, detail in stream.broken.items():
                    log.warning("%s: left out, rows that the table had of it stay: %s", uri, detail)
                broken |= stream.broken
                encoded_before = RowCounts.total([encoded_before, stream.encoded])
                current = without_objects(current, set(broken), self.context.rows_fingerprint)
                continue
            counts = RowCounts.total([counts, encoded_before])
            record = self._record(current, shards, counts, stream.calibration, has_sample=num_sampled > 0)
            write_sample(self.context.table_uri, current.fingerprint, sample)
            write_record(self.context.table_uri, record)
            return BuildResult(planned=planned, built=current, record=record, broken=broken)
        return BuildResult(planned=planned, broken=broken)

    def _record(
        self,
        planned: PlannedSplit,
        shards: list[ShardRecord],
        counts: RowCounts,
        calibration: Calibration | None,
        *,
        has_sample: bool,
    ) -> SplitRecord:
        return SplitRecord(
            fingerprint=planned.fingerprint,
            encoder_fingerprint=self.context.encoder.fingerprint,
            name=planned.split.name,
            spans=[
                RecordedSpan(
                    uri=span.object.uri,
                    version=span.object.version,
                    start=span.start,
                    stop=span.stop,
                    max_rows=span.max_rows,
                )
                for span in planned.split.spans
            ],
            shards=shards,
            rejects=rejects_name(planned.fingerprint) if counts.num_rows_rejected else None,
            counts=counts,
            kept_types=kept_types(self.context.kept_schema),
            run_id=self.context.run_id,
            built_at=dt.datetime.now(dt.UTC).isoformat(timespec="seconds"),
            forced=self.context.force,
            has_sample=has_sample,
            calibration=calibration,
        )

    def close(self) -> None:
        """Remove temporary files."""
        self.known.close()

    def _index_table(self) -> None:
        with self._index_lock:
            if not self._is_indexed:
                self.known.add_shards([join(self.context.table_uri, name) for name in self.context.known_shards])
                self._is_indexed = True


_builders: dict[str, SplitBuilder] = {}
_builders_lock = threading.Lock()


def builder_for(context: BuildContext) -> SplitBuilder:
    """Give this process's builder of a run, made at the first call.

    A worker process serves one run at a time: builders of earlier runs are closed there, and the encoder is held to the
    threads that the worker was given.
    """
    share_heaps()
    with _builders_lock:
        if context.run_id not in _builders:
            if context.worker_threads is not None:
                for run_id in list(_builders):
                    _builders.pop(run_id).close()
            _builders[context.run_id] = SplitBuilder(context, load_encoder(context.encoder_spec))
            if context.worker_threads is not None:
                torch.set_num_threads(context.worker_threads)
        return _builders[context.run_id]


def stop_builder(run_id: str) -> None:
    """Tell this process's builder of a run, if there is one, to stop between two batches."""
    with _builders_lock:
        builder = _builders.get(run_id)
    if builder is not None:
        builder.stop.set()


def close_builder(run_id: str) -> None:
    """Forget this process's builder of a run, if there is one, and remove its temporary files."""
    with _builders_lock:
        builder = _builders.pop(run_id, None)
    if builder is not None:
        builder.close()

"""Publish what was built: settle what could not be read, check what was made, commit once.

The one idea: everything before the commit only adds files that no reader sees; the commit itself is one atomic step
against the version that the plan was made for, and fails cleanly when another run was faster.
"""

import datetime as dt
import logging
from collections import defaultdict
from collections.abc import Iterable
from typing import Any

import numpy as np
import polars as pl
import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as pq
from pydantic import BaseModel, ConfigDict, Field

from sbert.build import BuildResult
from sbert.counts import RowCounts
from sbert.duplicates import KeyLedger, row_keys
from sbert.errors import TableError, TruncationError
from sbert.job import RefreshSettings, TruncationPolicy
from sbert.plan import Plan, identity_fingerprint
from sbert.quality import check_not_collapsed
from sbert.records import RecordedSpan, SplitRecord, read_record, write_record
from sbert.shards import ShardSettings, ShardWriter, embedding_matrix, table_schema
from sbert.storage import join, open_input
from sbert.table import Table, TableShard, commit

__all__ = ["Changes", "duplicate_ids_across_splits", "publish", "settle"]

log = logging.getLogger(__name__)

PROBE_SHARDS = 8
PROBE_ROWS = 64


class Changes(BaseModel):
    """What the commit will do, once every split has been built or given up."""

    model_config = ConfigDict(frozen=True)

    add: list[SplitRecord] = Field(description="Finished splits whose shards join the table.")
    drop: list[TableShard] = Field(description="Shards that leave it.")
    broken: dict[str, str] = Field(description="Reason for each object that could not be read, by URI.")

    @property
    def is_empty(self) -> bool:
        """Whether there is nothing to commit."""
        return not (self.add or self.drop)


def settle(plan: Plan, results: Iterable[BuildResult], run_id: str) -> Changes:
    """Decide what joins and what leaves the table, so that an unreadable object keeps its earlier rows.

    Rows of an unreadable object that shared a shard with others are copied into a shard of their own.

    Raises:
        TableError: when earlier rows would have to be kept beside rows of another encoder or schema.
    """
    results = list(results)
    broken = {uri: reason for result in results for uri, reason in result.broken.items()}
    add = [*plan.resume, *(result.record for result in results if result.record is not None)]
    if not broken:
        return Changes(add=add, drop=plan.drop, broken={})
    add = [record for record in add if not any(span.uri in broken for span in record.spans)]
    kept_anyway = {result.built.fingerprint for result in results if result.built is not None and result.record is None}
    drop = [shard for shard in plan.drop if shard.fingerprint not in kept_anyway]
    if plan.base_version is None or not drop:
        return Changes(add=add, drop=drop, broken=broken)
    table = Table.open(plan.table_uri, plan.base_version)
    for fingerprint in sorted({shard.fingerprint for shard in drop}):
        old = read_record(plan.table_uri, fingerprint)
        if old is None:
            raise TableError(
                f"{plan.table_uri}: the record of split {fingerprint} is gone, cannot tell whose rows it has"
            )
        spans = [span for span in old.spans if span.uri in broken]
        if not spans:
            continue
        if table.encoder.fingerprint != plan.encoder.fingerprint or table.kept_schema != plan.kept_schema:
            raise TableError(
                f"{spans[0].uri}: cannot be read ({broken[spans[0].uri]}), and its earlier rows cannot stay beside rows "
                "of another encoder or other columns: nothing was published; repair or remove the object and run again "
                "(what was built is kept)"
            )
        if len(spans) == len(old.spans):
            drop = [shard for shard in drop if shard.fingerprint != fingerprint]
        else:
            add.append(_copy_rows(plan, old, spans, run_id))
    return Changes(add=add, drop=drop, broken=broken)


def _copy_rows(plan: Plan, old: SplitRecord, spans: list[RecordedSpan], run_id: str) -> SplitRecord:
    """Copy the rows of some objects of a split from its shards into shards of their own."""
    identity = [[span.uri, span.version, span.start, span.stop] for span in spans]
    fingerprint = identity_fingerprint(identity, plan.rows_fingerprint)
    uris = pa.array([span.uri for span in spans], pa.string())
    schema = table_schema(plan.kept_schema)
    num_rows = 0
    with ShardWriter(plan.table_uri, fingerprint, schema, ShardSettings()) as writer:
        for shard in old.shards:
            uri = join(plan.table_uri, shard.name)
            with open_input(uri, in_order=False) as file, pq.ParquetFile(file) as parquet:
                for batch in parquet.iter_batches():
                    rows = pa.Table.from_batches([batch])
                    rows = rows.filter(pc.is_in(rows["source"], uris))
                    writer.write(rows)
                    num_rows += rows.num_rows
        shards = writer.close()
    record = SplitRecord(
        fingerprint=fingerprint,
        encoder_fingerprint=plan.encoder.fingerprint,
        name=f"earlier rows of {len(spans)} unreadable object{'s' if len(spans) > 1 else ''}",
        spans=spans,
        shards=shards,
        rejects=None,
        counts=RowCounts(),
        run_id=run_id,
        built_at=dt.datetime.now(dt.UTC).isoformat(timespec="seconds"),
    )
    write_record(plan.table_uri, record)
    return record


def duplicate_ids_across_splits(plan: Plan, changes: Changes) -> dict[str, frozenset[str]]:
    """Find ids that several slices of one large object have; give those to exclude, by fingerprint of the split.

    The latest slice keeps the id. Only the ``id`` columns of objects that were read in slices are looked at.
    """
    slices: dict[str, list[SplitRecord]] = defaultdict(list)
    for record in changes.add:
        if len(record.spans) == 1 and record.spans[0].start is not None:
            slices[record.spans[0].uri].append(record)
    excluded: dict[str, frozenset[str]] = {}
    for records in slices.values():
        if len(records) > 1:
            excluded |= _duplicates_among(
                plan.table_uri, sorted(records, key=lambda record: record.spans[0].start or 0)
            )
    return excluded


def _duplicates_among(table_uri: str, records: list[SplitRecord]) -> dict[str, frozenset[str]]:
    excluded: dict[str, set[str]] = defaultdict(set)
    with KeyLedger(keep="last") as ledger:
        position = 0
        for record in records:
            for ids in _ids_of(table_uri, record):
                ledger.add(row_keys(ids, "id"), np.arange(position, position + ids.height, dtype=np.int64))
                position += ids.height
        superseded = ledger.superseded()
    if len(superseded):
        position = 0
        for record in records:
            for ids in _ids_of(table_uri, record):
                low, high = np.searchsorted(superseded, [position, position + ids.height])
                excluded[record.fingerprint].update(ids["id"].gather(superseded[low:high] - position).to_list())
                position += ids.height
    return {fingerprint: frozenset(ids) for fingerprint, ids in excluded.items() if ids}


def _ids_of(table_uri: str, record: SplitRecord) -> Iterable[pl.DataFrame]:
    for shard in record.shards:
        uri = join(table_uri, shard.name)
        with open_input(uri, in_order=False) as file, pq.ParquetFile(file) as parquet:
            for batch in parquet.iter_batches(batch_size=65_536, columns=["id"]):
                frame = pl.from_arrow(batch)
                assert isinstance(frame, pl.DataFrame)
                yield frame


def check_before_commit(plan: Plan, changes: Changes, settings: RefreshSettings) -> None:
    """Check what was made in this run as a whole.

    Raises:
        TruncationError: under policy ``fail``, when too large a share of the rows was truncated.
        QualityError: when random pairs of new vectors are all alike.
    """
    encoding = settings.encoding
    num_rows = sum(record.counts.num_rows_written for record in changes.add)
    num_truncated = sum(record.counts.num_rows_truncated for record in changes.add)
    if encoding.truncation is TruncationPolicy.FAIL and num_truncated > encoding.max_truncated_share * num_rows:
        raise TruncationError(
            f"{num_truncated} of {num_rows} rows ({num_truncated / num_rows:.2%}) have more than "
            f"{plan.encoder.max_seq_length} tokens, accepted are {encoding.max_truncated_share:.2%}: nothing was "
            "published; choose truncation window, reject or truncate, or raise max_truncated_share"
        )
    check_not_collapsed(_sample_vectors(plan, changes), what=plan.raw_uri)


def _sample_vectors(plan: Plan, changes: Changes) -> np.ndarray:
    """Give up to `PROBE_ROWS` vectors of different texts from each of a few new shards."""
    shards = [shard for record in changes.add for shard in record.shards if shard.num_rows]
    step = max(1, len(shards) // PROBE_SHARDS)
    samples: dict[bytes, np.ndarray] = {}
    for shard in shards[::step][:PROBE_SHARDS]:
        uri = join(plan.table_uri, shard.name)
        with open_input(uri, in_order=False) as file, pq.ParquetFile(file) as parquet:
            batch = next(parquet.iter_batches(batch_size=PROBE_ROWS, columns=["text_hash", "embedding"]))
            vectors = embedding_matrix(batch.column("embedding"), plan.encoder.dim)
            samples.update(zip(batch.column("text_hash").to_pylist(), vectors, strict=True))
    return np.stack(list(samples.values())) if samples else np.zeros((0, plan.encoder.dim), dtype=np.float32)


def publish(
    plan: Plan, changes: Changes, settings: RefreshSettings, counts: RowCounts, metadata: dict[str, Any]
) -> int:
    """Commit, and give the table's version; without changes the version there is.

    Raises:
        CommitConflictError: when another run committed since the plan was made.
        QualityError, TruncationError: when the new vectors must not be published.
        StorageError: when storage refuses.
    """
    if changes.is_empty and plan.base_version is not None:
        return plan.base_version
    check_before_commit(plan, changes, settings)
    table = Table.open(plan.table_uri, plan.base_version) if plan.base_version is not None else None
    return commit(
        plan.table_uri,
        table,
        add=[shard for record in changes.add for shard in record.shards],
        drop=changes.drop,
        encoder=plan.encoder,
        kept_schema=plan.kept_schema,
        metadata={**metadata, **counts.model_dump()},
    )

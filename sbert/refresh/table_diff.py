"""Settle what joins and what leaves the table, once every split has been built or given up.

The one idea: an object that could not be read, or that a backfill did not choose, keeps its earlier rows; where they
share a split or a shard with rows that go, they are copied, never computed again.
"""

import datetime as dt
from collections import defaultdict
from collections.abc import Iterable, Sequence

import pyarrow as pa
import pyarrow.compute as pc
from pydantic import BaseModel, ConfigDict, Field

from sbert.errors import TableError
from sbert.refresh.build import BuildResult
from sbert.refresh.fingerprints import identity_fingerprint
from sbert.refresh.plan import Plan
from sbert.rows.counts import RowCounts
from sbert.table.delta import Table, TableShard
from sbert.table.shard_layout import read_split, write_compacted
from sbert.table.shards import ShardRecord, ShardSettings, ShardWriter, table_schema
from sbert.table.split_records import RecordedSpan, SplitRecord, kept_types, read_records, write_record

__all__ = ["Changes", "settle"]


class Changes(BaseModel):
    """What the commit will do."""

    model_config = ConfigDict(frozen=True)

    add: list[SplitRecord] = Field(description="Finished splits whose shards join the table.")
    moved: list[ShardRecord] = Field(
        default_factory=list, description="Shards that join it with rows of compacted shards that stay."
    )
    drop: list[TableShard] = Field(description="Shards that leave it.")
    gone: frozenset[str] = Field(default=frozenset(), description="Splits that leave it, by fingerprint.")
    num_stayed: int = Field(
        default=0,
        description="Splits that the plan would have replaced, had their objects been readable.",
    )
    broken: dict[str, str] = Field(description="Reason for each object that could not be read, by URI.")

    @property
    def is_empty(self) -> bool:
        """Whether there is nothing to commit."""
        return not (self.add or self.drop)

    @property
    def num_rows_added(self) -> int:
        """Rows of the shards that join the table."""
        added = [shard for record in self.add for shard in record.shards]
        return sum(shard.num_rows for shard in [*added, *self.moved])


def settle(plan: Plan, results: Iterable[BuildResult], run_id: str) -> Changes:
    """Decide what joins and what leaves the table, so that objects which were not built keep their earlier rows.

    Raises:
        TableError: when earlier rows would have to be kept beside rows of another encoder or schema.
    """
    results = list(results)
    broken = {uri: reason for result in results for uri, reason in result.broken.items()}
    add = [*plan.resume, *(result.record for result in results if result.record is not None)]
    add = [record for record in add if not any(span.uri in broken for span in record.spans)]
    kept_anyway = {result.built.fingerprint for result in results if result.built is not None and result.record is None}
    num_stayed = len(kept_anyway)
    gone = set(plan.gone - kept_anyway)
    if plan.base_version is not None and (broken or plan.chosen is not None):
        copied, stay = _keep_rows(plan, gone, broken, run_id)
        add += copied
        gone -= stay
        num_stayed += len(stay)
    drop = [shard for shard in plan.shards if shard.fingerprints & gone]
    return Changes(
        add=add,
        moved=_move_rest(plan, drop, gone),
        drop=drop,
        gone=frozenset(gone),
        num_stayed=num_stayed,
        broken=broken,
    )


def _keep_rows(plan: Plan, gone: set[str], broken: dict[str, str], run_id: str) -> tuple[list[SplitRecord], set[str]]:
    """Find the splits of `gone` that stay whole, and copy those rows of the others that stay."""
    records = read_records(plan.table_uri, gone)
    if lost := gone - records.keys():
        raise TableError(f"{plan.table_uri}: the record of split {min(lost)} is gone, cannot tell whose rows it has")
    table = Table.open(plan.table_uri, plan.base_version)
    copied: list[SplitRecord] = []
    stay: set[str] = set()
    for fingerprint in sorted(gone):
        old = records[fingerprint]
        spans = [
            span
            for span in old.spans
            if span.uri in broken or (plan.chosen is not None and span.uri not in plan.chosen)
        ]
        if not spans:
            continue
        _check_can_stay(plan, table, spans[0].uri, broken)
        if len(spans) == len(old.spans):
            stay.add(fingerprint)
        else:
            copied.append(_copy_rows(plan, old, spans, run_id))
    return copied, stay


def _check_can_stay(plan: Plan, table: Table, uri: str, broken: dict[str, str]) -> None:
    if table.encoder.fingerprint != plan.encoder.fingerprint or table.kept_schema != plan.kept_schema:
        raise TableError(
            f"{uri}: cannot be read ({broken.get(uri, 'not chosen')}), and its earlier rows cannot stay beside rows "
            "of another encoder or other columns: nothing was published; repair or remove the object and run again "
            "(what was built is kept)"
        )


def _copy_rows(plan: Plan, old: SplitRecord, spans: list[RecordedSpan], run_id: str) -> SplitRecord:
    """Copy the rows of some objects of a split from its shards into shards of their own."""
    fingerprint = identity_fingerprint([span.identity() for span in spans], plan.rows_fingerprint)
    uris = pa.array(sorted({span.uri for span in spans}), pa.string())
    metadata = {"sbert": plan.encoder.model_dump_json()}
    schema = table_schema(plan.kept_schema, plan.encoder.precision)
    with ShardWriter(plan.table_uri, fingerprint, schema, ShardSettings(), metadata) as writer:
        for rows in read_split(plan.table_uri, plan.shards, old.fingerprint):
            writer.write(rows.filter(pc.is_in(rows["source"], uris)))
        shards = writer.close()
    record = SplitRecord(
        fingerprint=fingerprint,
        encoder_fingerprint=plan.encoder.fingerprint,
        name=f"earlier rows of {len(uris)} object{'s' if len(uris) > 1 else ''}",
        spans=spans,
        shards=shards,
        rejects=None,
        counts=RowCounts(),
        kept_types=kept_types(plan.kept_schema),
        run_id=run_id,
        built_at=dt.datetime.now(dt.UTC).isoformat(timespec="seconds"),
    )
    write_record(plan.table_uri, record)
    return record


def _move_rest(plan: Plan, drop: Sequence[TableShard], gone: set[str]) -> list[ShardRecord]:
    """Copy the splits that stay out of compacted shards that also hold splits which go."""
    moved: list[ShardRecord] = []
    for shard in drop:
        rest: dict[str, int] = defaultdict(int)
        for rows in shard.splits:
            if rows.fingerprint not in gone:
                rest[rows.fingerprint] += rows.num_rows
        if rest:
            metadata = {"sbert": plan.encoder.model_dump_json()}
            schema = table_schema(plan.kept_schema, plan.encoder.precision)
            moved.append(
                write_compacted(plan.table_uri, list(rest.items()), [shard], schema, metadata, ShardSettings())
            )
    return moved

"""Compute the difference that the commit makes: splits that join and leave, once every split is built or given up.

An object that could not be read, or that a backfill did not choose, keeps its earlier rows. Where they share a split or
a shard with rows that leave, they are copied, never computed again. A source table that replaced files, one of which
cannot be read, keeps the rows of its earlier version: nobody knows which old file the new one stands for.
"""

import datetime as dt
import logging
from collections import defaultdict
from collections.abc import Iterable, Sequence

import pyarrow as pa
import pyarrow.compute as pc
from pydantic import BaseModel, ConfigDict, Field

from sbert.counted import counted
from sbert.errors import TableError
from sbert.refresh.build_result import BuildResult
from sbert.refresh.earlier_rows import held_prefixes, staying_spans, tables_held_back
from sbert.refresh.fingerprints import recorded_fingerprint
from sbert.refresh.plan import Plan
from sbert.rows.counts import RowCounts
from sbert.table.delta import Table
from sbert.table.shard_layout import read_split, write_compacted
from sbert.table.shards import ShardRecord, ShardSettings, ShardWriter, table_schema
from sbert.table.split_records import RecordedSpan, SplitRecord, kept_types, read_records, write_record
from sbert.table.table_shard import TableShard

__all__ = ["TableDiff", "diff_table"]

log = logging.getLogger(__name__)


class TableDiff(BaseModel):
    """The shards and splits that join the table with a commit, and the shards and splits that leave it."""

    model_config = ConfigDict(frozen=True)

    built: list[SplitRecord] = Field(default=[], description="Splits that this run built.")
    resumed: list[SplitRecord] = Field(default=[], description="Splits that an earlier, interrupted run built.")
    copied: list[SplitRecord] = Field(
        default=[], description="Earlier rows that stay of splits that leave: copied into splits of their own."
    )
    moved: list[ShardRecord] = Field(
        default=[], description="Shards with the rows that stay of compacted shards that leave."
    )
    drop: list[TableShard] = Field(default=[], description="Shards that leave the table.")
    leaving: frozenset[str] = Field(default=frozenset(), description="Splits that leave the table, by fingerprint.")
    num_splits_stayed: int = Field(
        default=0, description="Splits that the plan would have replaced, had their objects been readable."
    )
    broken: dict[str, str] = Field(default={}, description="Reason for each object that could not be read, by URI.")

    @property
    def add(self) -> list[SplitRecord]:
        """Finished splits whose shards join the table."""
        return [*self.resumed, *self.built, *self.copied]

    @property
    def is_empty(self) -> bool:
        """Return whether there is nothing to commit."""
        return not (self.add or self.drop)

    @property
    def num_rows_added(self) -> int:
        """Rows of the shards that join the table."""
        added = [shard for record in self.add for shard in record.shards]
        return sum(shard.num_rows for shard in [*added, *self.moved])


def diff_table(plan: Plan, results: Iterable[BuildResult], run_id: str) -> TableDiff:
    """Decide which splits join and leave the table, so that objects which were not built keep their earlier rows.

    Args:
        plan: the plan.
        results: of all its splits, those to resume included.
        run_id: of this run.

    Raises:
        TableError: when earlier rows would have to stay beside rows of another encoder or schema.
    """
    results = list(results)
    broken = {uri: reason for result in results for uri, reason in result.broken.items()}
    in_table = {result.built.fingerprint for result in results if result.built is not None and result.record is None}
    leaving = set(plan.leaving - in_table)
    held = held_prefixes(_tables_held_back(plan, results, broken, leaving), broken)
    finished = [
        result.record
        for result in results
        if result.record is not None
        and not any(span.uri in broken or span.uri.startswith(held) for span in result.record.spans)
    ]
    num_splits_stayed = len(in_table)
    copied: list[SplitRecord] = []
    if plan.base.version is not None and (broken or not plan.scope.is_everything):
        copied, staying = _keep_rows(plan, leaving, broken, held, run_id)
        leaving -= staying
        num_splits_stayed += len(staying)
    drop = [shard for shard in plan.base.shards if shard.is_lost or shard.fingerprints & leaving]
    return TableDiff(
        built=[record for record in finished if record.run_id == run_id],
        resumed=[record for record in finished if record.run_id != run_id],
        copied=copied,
        moved=_move_rest(plan, drop, leaving),
        drop=drop,
        leaving=frozenset(leaving),
        num_splits_stayed=num_splits_stayed,
        broken=broken | {uri: reason for result in results for uri, reason in result.cut_off.items()},
    )


def _tables_held_back(
    plan: Plan, results: Sequence[BuildResult], broken: dict[str, str], leaving: set[str]
) -> tuple[str, ...]:
    """Return the folders of source tables that have an unreadable file, and have replaced files of the table's rows."""
    if not broken:
        return ()
    splits = [planned.split for planned in (*plan.keep, *(result.planned for result in results))]
    objects = [span.object for split in splits for span in split.spans]
    if not any(item.table is not None and item.uri in broken for item in objects):
        return ()
    held = tables_held_back(objects, broken, read_records(plan.table_uri, leaving).values())
    for folder in held:
        log.warning("%s: a file of this table cannot be read: its rows stay as they were before", folder.rstrip("/"))
    return held


def _keep_rows(
    plan: Plan, leaving: set[str], broken: dict[str, str], held: tuple[str, ...], run_id: str
) -> tuple[list[SplitRecord], set[str]]:
    """Find the splits of `leaving` that stay whole, and copy the rows that stay of the others."""
    records = read_records(plan.table_uri, leaving)
    if lost := leaving - records.keys():
        raise TableError(
            f"{plan.table_uri}: the completion record of split {min(lost)} is gone, so the objects of its rows are unknown: "
            "repair or remove the unreadable objects, and run `sbert refresh`"
        )
    table = Table.open(plan.table_uri, plan.base.version)
    copied: list[SplitRecord] = []
    staying: set[str] = set()
    for fingerprint, spans in staying_spans(records, plan.scope, broken, held).items():
        old = records[fingerprint]
        _check_can_stay(plan, table, spans[0].uri, broken)
        if len(spans) == len(old.spans):
            staying.add(fingerprint)
        else:
            copied.append(_copy_rows(plan, old, spans, run_id))
    return copied, staying


def _check_can_stay(plan: Plan, table: Table, uri: str, broken: dict[str, str]) -> None:
    if table.encoder.fingerprint != plan.encoder.fingerprint or table.kept_schema != plan.spec.kept_schema:
        raise TableError(
            f"{uri}: cannot be read ({broken.get(uri, 'not chosen')}), and its earlier rows cannot stay beside rows "
            "of another encoder or other columns: nothing was published; repair or remove the object and run again "
            "(what was built is kept)"
        )


def _copy_rows(plan: Plan, old: SplitRecord, spans: list[RecordedSpan], run_id: str) -> SplitRecord:
    """Copy the rows of some objects of a split from its shards into shards of their own.

    Rows that other settings made get a name that no plan asks for, so that a run which can read their object builds it.
    """
    spec = plan.spec
    is_of_this_run = old.fingerprint == recorded_fingerprint(old.spans, spec.rows_fingerprint)
    fingerprint = recorded_fingerprint(spans, spec.rows_fingerprint if is_of_this_run else old.fingerprint)
    uris = pa.array(sorted({span.uri for span in spans}), pa.string())
    metadata = {"sbert": spec.encoder.model_dump_json()}
    schema = table_schema(spec.kept_schema, spec.encoder.precision)
    with ShardWriter(spec.table_uri, fingerprint, schema, ShardSettings(), metadata) as writer:
        for rows in read_split(spec.table_uri, plan.base.shards, old.fingerprint):
            writer.write(rows.filter(pc.is_in(rows["source"], uris)))
        shards = writer.close()
    record = SplitRecord(
        fingerprint=fingerprint,
        encoder_fingerprint=spec.encoder.fingerprint,
        name=f"earlier rows ({counted(len(uris), 'object')})",
        spans=spans,
        shards=shards,
        rejects=None,
        counts=RowCounts(),
        kept_types=kept_types(spec.kept_schema),
        run_id=run_id,
        built_at=dt.datetime.now(dt.UTC).isoformat(timespec="seconds"),
    )
    write_record(spec.table_uri, record)
    return record


def _move_rest(plan: Plan, drop: Sequence[TableShard], leaving: set[str]) -> list[ShardRecord]:
    """Copy the splits that stay out of compacted shards that also hold splits which leave."""
    moved: list[ShardRecord] = []
    for shard in drop:
        rest: dict[str, int] = defaultdict(int)
        for rows in shard.splits:
            if rows.fingerprint not in leaving:
                rest[rows.fingerprint] += rows.num_rows
        if rest:
            metadata = {"sbert": plan.encoder.model_dump_json()}
            schema = table_schema(plan.spec.kept_schema, plan.encoder.precision)
            moved.append(
                write_compacted(plan.table_uri, list(rest.items()), [shard], schema, metadata, ShardSettings())
            )
    return moved

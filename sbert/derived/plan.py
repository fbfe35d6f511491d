"""Plan a derived table: which splits of the embeddings table have no output yet, and which outputs no longer belong to it.

``wanted`` are the splits of the embeddings table's version, each hashed with the job; ``have`` are the shards of the
derived table. Compaction of the embeddings table moves rows between shards, not between splits, so it changes neither.
"""

from collections import defaultdict

from pydantic import BaseModel, ConfigDict, Field

from sbert.derived.derived_table import DerivedInfo, DerivedTable, find_output
from sbert.derived.job import DerivedJob, TableJob, derived_fingerprint
from sbert.derived.records import DerivedRecord, finished_splits
from sbert.errors import SettingsError
from sbert.storage.files import normalize_uri
from sbert.table.delta import Table
from sbert.table.shard_layout import locate_splits
from sbert.table.table_shard import TableShard

__all__ = ["DerivedPlan", "PlannedDerivation", "open_output", "plan_derived"]


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
    is_current: bool = Field(description="Whether the derived table names the embeddings table's version already.")
    build: tuple[PlannedDerivation, ...]
    resume: tuple[DerivedRecord, ...] = Field(description="Splits that an interrupted run finished.")
    keep: tuple[TableShard, ...]
    drop: tuple[TableShard, ...]

    @property
    def is_empty(self) -> bool:
        """Return whether there is nothing to commit, not even the version of the embeddings table."""
        return self.base_version is not None and self.is_current and not (self.build or self.resume or self.drop)


def plan_derived(job: DerivedJob, table_uri: str, out_uri: str, run_id: str) -> DerivedPlan:
    """Compare the embeddings table with the derived table.

    Raises:
        NotATableError: one of them is something else.
        SettingsError: the table lacks something that the job needs, or both tables are one folder.
        TableError: the derived table belongs to another job.
    """
    table, before, info = open_output(job, table_uri, out_uri, run_id)
    wanted = _wanted(table, info.job_fingerprint)
    shards = before.shards() if before is not None else []
    have = {shard.fingerprint for shard in shards}
    missing = [planned for planned in wanted if planned.fingerprint not in have]
    finished = finished_splits(normalize_uri(out_uri), [planned.fingerprint for planned in missing]) if missing else {}
    names = {planned.fingerprint for planned in wanted}
    return DerivedPlan(
        info=info,
        out_uri=normalize_uri(out_uri),
        base_version=None if before is None else before.version,
        is_current=before is not None and before.info.is_record_of(info, type(job)),
        build=tuple(planned for planned in missing if planned.fingerprint not in finished),
        resume=tuple(finished.values()),
        keep=tuple(shard for shard in shards if shard.fingerprint in names),
        drop=tuple(shard for shard in shards if shard.fingerprint not in names),
    )


def open_output(
    job: TableJob, table_uri: str, out_uri: str, run_id: str, version: int | None = None
) -> tuple[Table, DerivedTable | None, DerivedInfo]:
    """Open the embeddings table and the output, if it is there, and return the record of both for the next commit.

    Args:
        job: what the output is made by.
        table_uri: the embeddings table.
        out_uri: the output.
        run_id: the run that is going to commit.
        version: version of the embeddings table; by default the newest.

    Raises:
        NotATableError, SettingsError, TableError: as `plan_derived`.
    """
    if normalize_uri(table_uri) == normalize_uri(out_uri):
        raise SettingsError(f"{out_uri}: the output needs a folder of its own: name another one than the table's")
    table = Table.open(table_uri, version)
    job.check(table)
    before = find_output(out_uri, job.name)
    info = DerivedInfo(
        job=job.name,
        job_fingerprint=job.fingerprint(table),
        settings=job.model_dump(mode="json"),
        code_version=job.code_version,
        table_uri=table.uri,
        table_id=table.table_id,
        table_version=table.version,
        encoder=table.encoder.model,
        encoder_fingerprint=table.encoder.fingerprint,
        run_id=run_id,
    )
    return table, before, info


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

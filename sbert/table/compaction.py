"""Small-shard compaction: fewer, larger files with the same rows; nothing is encoded.

The one idea: a compacted shard names the splits whose rows it holds (`sbert.table.shard_layout`), so the next refresh finds
every split it wants and has nothing to do; when one of them leaves later, the others are moved on.
"""

import uuid
from collections.abc import Sequence

from pydantic import BaseModel, ConfigDict, Field

from sbert.errors import CommitConflictError, SettingsError
from sbert.storage.files import delete
from sbert.table.commit import commit
from sbert.table.delta import Table, TableShard
from sbert.table.lease import hold_lease
from sbert.table.shard_layout import locate_splits, write_compacted
from sbert.table.shards import ShardRecord, ShardSettings, table_schema

__all__ = ["Compaction", "compact_table", "group_shards"]

MAX_ATTEMPTS = 5
"""Times that a compaction begins anew because another run committed first."""


class Compaction(BaseModel):
    """What a compaction did."""

    model_config = ConfigDict(frozen=True)

    table_uri: str
    version: int = Field(description="The table's version now.")
    num_shards_before: int
    num_shards: int
    num_shards_merged: int
    num_rows_moved: int
    num_rows: int


def group_shards(shards: Sequence[TableShard], shard_rows: int) -> list[list[TableShard]]:
    """Give the groups of shards worth merging: those below half of `shard_rows`, neighbours by source.

    A group holds at most `shard_rows` rows and at least two shards, so that a second compaction finds nothing.
    """
    small = sorted(
        (shard for shard in shards if 2 * shard.num_rows < shard_rows),
        key=lambda shard: (shard.bounds.get("source", ("", ""))[0], shard.name),
    )
    groups: list[list[TableShard]] = []
    num_rows = 0
    for shard in small:
        if not groups or num_rows + shard.num_rows > shard_rows:
            groups.append([])
            num_rows = 0
        groups[-1].append(shard)
        num_rows += shard.num_rows
    return [group for group in groups if len(group) > 1]


def compact_table(table_uri: str, settings: ShardSettings | None = None) -> Compaction:
    """Merge small shards by one commit; readers of earlier versions keep theirs until vacuum.

    Raises:
        CommitConflictError: when other runs committed first, time and again.
    """
    settings = settings or ShardSettings()
    if settings.shard_rows < 2:
        raise SettingsError(f"shard_rows is {settings.shard_rows}: shards of one row cannot be merged")
    run_id = str(uuid.uuid4())
    if not group_shards(Table.open(table_uri).shards(), settings.shard_rows):
        return _compact_once(table_uri, settings, run_id)
    with hold_lease(table_uri, run_id, "compact"):
        for attempt in range(1, MAX_ATTEMPTS + 1):
            try:
                return _compact_once(table_uri, settings, run_id)
            except CommitConflictError:
                if attempt == MAX_ATTEMPTS:
                    raise
    raise AssertionError("unreachable: the last attempt returns or raises")


def _compact_once(table_uri: str, settings: ShardSettings, run_id: str) -> Compaction:
    table = Table.open(table_uri)
    shards = table.shards()
    groups = [locate_splits(table.uri, group) for group in group_shards(shards, settings.shard_rows)]
    merged = [shard for group in groups for shard in group]
    version = table.version
    written: list[ShardRecord] = []
    try:
        written += (_merge(table, group, settings) for group in groups)
        if written:
            version = commit(
                table.uri,
                table,
                add=written,
                drop=merged,
                encoder=table.encoder,
                kept_schema=table.kept_schema,
                metadata={"operation": "compact", "run_id": run_id, "encoder": table.encoder.model},
                data_change=False,
            )
    except CommitConflictError:
        delete(table.shard_uri(record.name) for record in written)
        raise
    return Compaction(
        table_uri=table.uri,
        version=version,
        num_shards_before=len(shards),
        num_shards=len(shards) - len(merged) + len(written),
        num_shards_merged=len(merged),
        num_rows_moved=sum(shard.num_rows for shard in merged),
        num_rows=sum(shard.num_rows for shard in shards),
    )


def _merge(table: Table, group: Sequence[TableShard], settings: ShardSettings) -> ShardRecord:
    rows_of: dict[str, int] = {}
    for shard in group:
        for rows in shard.splits:
            rows_of[rows.fingerprint] = rows_of.get(rows.fingerprint, 0) + rows.num_rows
    metadata = {"sbert": table.encoder.model_dump_json()}
    schema = table_schema(table.kept_schema, table.encoder.precision)
    return write_compacted(table.uri, list(rows_of.items()), group, schema, metadata, settings)

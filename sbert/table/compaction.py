"""Merge small shards into fewer, larger ones with the same rows; nothing is encoded.

A compacted shard names the splits whose rows it holds (`sbert.table.shard_layout`). So the next refresh finds every
split that it wants and has nothing to do. When one of the splits leaves later, the rows of the others are copied to a
new shard.
"""

import uuid
from collections.abc import Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor

from pydantic import BaseModel, ConfigDict, Field

from sbert.errors import CommitConflictError, SettingsError
from sbert.storage.files import delete
from sbert.table.commit import commit, mend_statistics, moved_is_conflict
from sbert.table.delta import Table
from sbert.table.lease import hold_lease
from sbert.table.shard_file import open_shard
from sbert.table.shard_layout import locate_splits, mark_lost_shards, write_compacted
from sbert.table.shards import ShardRecord, ShardSettings, table_schema
from sbert.table.table_shard import TableShard

__all__ = ["Compaction", "compact_table", "group_shards"]

MAX_ATTEMPTS = 5
"""Attempts of a compaction; another run that commits first costs one."""
MAX_THREADS = 16


class Compaction(BaseModel):
    """The outcome of a compaction."""

    model_config = ConfigDict(frozen=True)

    table_uri: str
    version: int = Field(description="The table's version now.")
    num_shards_before: int
    num_shards: int
    num_shards_merged: int
    num_rows_moved: int
    num_rows: int


def group_shards(
    shards: Sequence[TableShard], shard_rows: int, first_source: Mapping[str, str]
) -> list[list[TableShard]]:
    """Return the groups of shards worth merging: shards below half of `shard_rows`, neighbours by source.

    A group holds at most `shard_rows` rows and at least two shards, so that a second compaction finds nothing.

    Args:
        shards: the shards of the table.
        shard_rows: the most rows of one shard.
        first_source: the least ``source`` of each small shard, by the shard's name.
    """
    small = sorted(
        _small(shards, shard_rows),
        key=lambda shard: (first_source.get(shard.name, ""), shard.name),
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


def _small(shards: Sequence[TableShard], shard_rows: int) -> list[TableShard]:
    return [shard for shard in shards if 2 * shard.num_rows < shard_rows and not shard.is_lost]


def _first_sources(table: Table, shards: Sequence[TableShard]) -> dict[str, str]:
    """Return the least ``source`` of each shard that has rows, by the shard's name, from the Parquet footers."""

    def first(shard: TableShard) -> str:
        with open_shard(table.shard_uri(shard.name)) as parquet:
            column = parquet.schema_arrow.get_field_index("source")
            groups = (parquet.metadata.row_group(number) for number in range(parquet.num_row_groups))
            statistics = [group.column(column).statistics for group in groups if group.num_rows]
        return min(
            (source.min for source in statistics if source is not None and source.has_min_max),
            default="",
        )

    with ThreadPoolExecutor(MAX_THREADS) as pool:
        return dict(zip([shard.name for shard in shards], pool.map(first, shards), strict=True))


def compact_table(table_uri: str, settings: ShardSettings | None = None) -> Compaction:
    """Merge small shards by one commit; readers of earlier versions keep their files until vacuum.

    Shards that are gone or torn are left as they are; `sbert refresh` builds their rows again.

    Raises:
        CommitConflictError: other runs committed first at every attempt.
    """
    settings = settings or ShardSettings()
    if settings.shard_rows < 2:
        raise SettingsError(f"shard_rows is {settings.shard_rows}, so no shards can be merged: set it to 2 or more")
    run_id = str(uuid.uuid4())
    shards = Table.open(table_uri).shards()
    if len(_small(shards, settings.shard_rows)) < 2 and not any(shard.has_bounds for shard in shards):
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
    version = table.version
    written: list[ShardRecord] = []
    try:
        with moved_is_conflict(table.uri, table.version):
            shards = mark_lost_shards(table.uri, table.shards())
            first_source = _first_sources(table, _small(shards, settings.shard_rows))
            groups = group_shards(shards, settings.shard_rows, first_source)
            groups = [locate_splits(table.uri, group) for group in groups]
            merged = [shard for group in groups for shard in group]
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
                settings=table.recorded_settings,
                data_change=False,
            )
        else:
            version = mend_statistics(table, run_id)
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

"""Commit: the one step that makes a new version of a table.

A commit is tried once, against the version that the change was planned for. If another writer committed first, the
commit fails and nothing of the change is published.
"""

import json
import logging
import time
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from typing import Any

import polars as pl
import pyarrow as pa
from deltalake import CommitProperties, Schema
from deltalake.exceptions import CommitFailedError, DeltaError
from deltalake.transaction import AddAction, RemoveAction, create_table_with_add_actions

from sbert.errors import CommitConflictError, MissingError, TableError
from sbert.storage.errors import translate_errors
from sbert.storage.files import delta_retry_options, delta_storage_options, normalize_uri
from sbert.table.commit_record import METADATA_KEY, RECORDED_SETTINGS
from sbert.table.delta import SETTINGS_KEY, Table
from sbert.table.encoder_info import EncoderInfo
from sbert.table.shards import ShardRecord, table_schema
from sbert.table.table_shard import TableShard

__all__ = ["add_action", "commit", "commit_errors", "mend_statistics", "moved_is_conflict", "remove_action"]


log = logging.getLogger(__name__)


def _field_schema(schema: pa.Schema, encoder: EncoderInfo, settings: dict[str, Any] | None) -> pa.Schema:
    at = schema.get_field_index("embedding")
    recorded = {} if settings is None else {SETTINGS_KEY: json.dumps(settings)}
    field = schema.field(at).with_metadata({METADATA_KEY: encoder.model_dump_json(), **recorded})
    return schema.set(at, field)


def commit(
    uri: str,
    table: Table | None,
    *,
    add: Iterable[ShardRecord],
    drop: Iterable[TableShard],
    encoder: EncoderInfo,
    kept_schema: dict[str, pl.DataType],
    metadata: dict[str, Any],
    settings: dict[str, Any] | None = None,
    data_change: bool = True,
) -> int:
    """Publish shards and retire others in one atomic step; return the new version.

    Shards that stay and have column bounds in the log are added again without them (see `ShardRecord.stats_json`).

    Args:
        uri: the table's location.
        table: the version the change was planned against, None to make the table.
        add: shards that are already written.
        drop: shards of `table` to retire; their files stay until vacuum.
        encoder: the encoder of all rows after the commit.
        kept_schema: the source columns of all rows after the commit.
        metadata: run id and counts, kept in the commit.
        settings: the settings that decide all rows after the commit; None when they are not known.
        data_change: whether rows change; False tells streaming readers that rows were only moved.

    Raises:
        CommitConflictError: when the table is no longer at the version of `table`; nothing was published.
        EncoderMismatchError: when `encoder` is another one than the table's and shards of the old one would remain.
    """
    uri = normalize_uri(uri)
    adds = [add_action(record, data_change) for record in add]
    removes = list(drop)
    if table is not None:
        leaving = {shard.name for shard in removes} | {action.path for action in adds}
        adds += [add_action(shard.record(), False) for shard in table.shards_with_bounds() if shard.name not in leaving]
    schema = _field_schema(table_schema(kept_schema, encoder.precision), encoder, settings)
    metadata = {**metadata, RECORDED_SETTINGS: settings}
    # No retries inside delta-rs: it would put the same change on top of a version it was not planned for.
    properties = CommitProperties(custom_metadata={METADATA_KEY: json.dumps(metadata)}, max_commit_retries=0)
    with commit_errors(uri):
        if table is None:
            create_table_with_add_actions(
                uri,
                Schema.from_arrow(schema),
                adds,
                mode="error",
                name="sbert embeddings",
                storage_options=delta_storage_options(uri) | delta_retry_options(uri),
                commit_properties=properties,
            )
            return 0
        delta = table._delta
        everything = {shard.name for shard in table.shards()} == {shard.name for shard in removes}
        if table.encoder.fingerprint != encoder.fingerprint and not everything:
            table.check_encoder(encoder.fingerprint, encoder.dim)
        if everything and table.num_rows + len(adds) > 0 and _differs(table, schema, encoder, settings):
            delta.create_write_transaction([*adds], mode="overwrite", schema=schema, commit_properties=properties)
        else:
            delta.create_write_transaction(
                [*adds, *(remove_action(shard, data_change) for shard in removes)],
                mode="append",
                schema=schema,
                commit_properties=properties,
            )
        return table.version + 1


@contextmanager
def commit_errors(uri: str) -> Iterator[None]:
    """Turn errors of a commit to the table at `uri` into ours.

    Raises:
        CommitConflictError: another writer committed first.
        TableError: the commit failed otherwise.
    """
    try:
        with translate_errors(uri):
            yield
    except CommitFailedError as error:
        raise CommitConflictError(
            f"{uri}: another writer committed first, and nothing of this run was published: run again"
        ) from error
    except DeltaError as error:
        if "already exists" in str(error):
            raise CommitConflictError(f"{uri}: another writer made the table first: run again") from error
        raise TableError(f"{uri}: the commit failed: {error}") from error


@contextmanager
def moved_is_conflict(uri: str, version: int | None) -> Iterator[None]:
    """Turn a missing file into a conflict when the table is no longer at `version`: an erasure removes shards at once.

    Raises:
        CommitConflictError: another writer committed, and a file of `version` is gone.
        MissingError: a file is gone, and nobody committed.
    """
    try:
        yield
    except MissingError as error:
        if version is None or Table.open(uri).version == version:
            raise
        raise CommitConflictError(
            f"{uri}: another writer committed first and removed files of version {version}: {error}"
        ) from error


def mend_statistics(table: Table, run_id: str) -> int:
    """Remove column bounds, by which filters go wrong, from the log; return the version, the same if there were none.

    Earlier versions of this library wrote bounds of ``id`` and ``source`` only (see `ShardRecord.stats_json`).

    Raises:
        CommitConflictError: when another run committed meanwhile.
    """
    num_shards = len(table.shards_with_bounds())
    if not num_shards:
        return table.version
    log.info(
        "%s: the log's statistics of %d shards are replaced: with them, readers found too few rows under filters",
        table.uri,
        num_shards,
    )
    return commit(
        table.uri,
        table,
        add=[],
        drop=[],
        encoder=table.encoder,
        kept_schema=table.kept_schema,
        metadata={"operation": "mend statistics", "run_id": run_id, "encoder": table.encoder.model},
        settings=table.recorded_settings,
        data_change=False,
    )


def _differs(table: Table, schema: pa.Schema, encoder: EncoderInfo, settings: dict[str, Any] | None) -> bool:
    is_same_schema = table.encoder == encoder and table.arrow_schema == schema.remove_metadata()
    return not is_same_schema or table.recorded_settings != settings


def add_action(record: ShardRecord, data_change: bool) -> AddAction:
    """Return the log's entry for a shard that joins."""
    return AddAction(
        path=record.name,
        size=record.num_bytes,
        partition_values={},
        modification_time=int(time.time() * 1000),
        data_change=data_change,
        stats=record.stats_json(),
    )


def remove_action(shard: TableShard, data_change: bool) -> RemoveAction:
    """Return the log's entry for a shard that leaves."""
    return RemoveAction(
        path=shard.name,
        data_change=data_change,
        deletion_timestamp=int(time.time() * 1000),
        size=shard.num_bytes,
        partition_values={},
    )

"""Restore an earlier version of a table with a new commit.

Versions are sets of shards, so a rollback is one more commit. It adds the shards of the earlier version, removes the
present ones, and names the earlier encoder. Nothing is copied or lost: a rollback can be rolled back.
"""

import uuid

from pydantic import BaseModel, ConfigDict, Field

from sbert.errors import NotATableError, SettingsError, TableError
from sbert.storage.files import list_names
from sbert.table.commit import commit
from sbert.table.delta import Table
from sbert.table.lease import hold_lease

__all__ = ["Rollback", "roll_back"]


class Rollback(BaseModel):
    """The outcome of a rollback."""

    model_config = ConfigDict(frozen=True)

    table_uri: str
    version: int = Field(description="The new version.")
    restored: int = Field(description="The version whose rows it shows.")
    replaced: int = Field(description="The version that readers saw before.")
    encoder: str = Field(description="Model that made the vectors.")
    dim: int
    num_rows: int
    num_rows_before: int


def roll_back(table_uri: str, version: int | None = None) -> Rollback:
    """Restore the rows, the columns and the encoder of an earlier version, by default of the version before.

    Raises:
        SettingsError: there is no such version, or it is what readers see now.
        TableError: its shards were vacuumed.
        CommitConflictError: another run committed meanwhile; nothing was changed.
    """
    now = Table.open(table_uri)
    wanted = now.version - 1 if version is None else version
    if now.version == 0:
        raise SettingsError(
            f"{now.uri}: the table is at version 0, its first, so there is no earlier one to go back to"
        )
    if not 0 <= wanted < now.version:
        raise SettingsError(
            f"{now.uri}: cannot go back to version {wanted}: the table is at version {now.version}, and earlier versions "
            f"are 0 to {now.version - 1}"
        )
    run_id = str(uuid.uuid4())
    with hold_lease(now.uri, run_id, "rollback"):  # a vacuum that runs now leaves the shards alone
        return _restore(now, wanted, run_id)


def _restore(now: Table, wanted: int, run_id: str) -> Rollback:
    try:
        then = Table.open(now.uri, wanted)
    except NotATableError as error:
        raise TableError(f"{now.uri}: version {wanted} is no longer in the log: choose a later one") from error
    files = list_names(now.uri)
    shards = then.shards()
    missing = [shard.name for shard in shards if files.get(shard.name) != shard.num_bytes]
    if missing:
        raise TableError(
            f"{now.uri}: version {wanted} cannot be restored: {len(missing)} of its {len(shards)} shards are gone "
            f"(vacuumed; first: {missing[0]}): choose a later version, or run `sbert refresh`"
        )
    names_now, names_then = {shard.name for shard in now.shards()}, {shard.name for shard in shards}
    if names_now == names_then and now.encoder == then.encoder:
        raise SettingsError(f"{now.uri}: version {now.version} shows the rows of version {wanted} already")
    new_version = commit(
        now.uri,
        now,
        add=[shard.record() for shard in shards if shard.name not in names_now],
        drop=[shard for shard in now.shards() if shard.name not in names_then],
        encoder=then.encoder,
        kept_schema=then.kept_schema,
        metadata={
            "operation": "rollback",
            "restored": wanted,
            "encoder": then.encoder.model,
            "run_id": run_id,
        },
        settings=then.recorded_settings,
    )
    return Rollback(
        table_uri=now.uri,
        version=new_version,
        restored=wanted,
        replaced=now.version,
        encoder=then.encoder.model,
        dim=then.encoder.dim,
        num_rows=then.num_rows,
        num_rows_before=now.num_rows,
    )

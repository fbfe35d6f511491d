"""Restore an earlier version of a table with a new commit.

Versions are sets of shards, so a rollback is one more commit. It adds the shards of the earlier version, removes the
present ones, and names the earlier encoder. Nothing is copied or lost: a rollback can be rolled back.
"""

import uuid
from collections.abc import Sequence

from pydantic import BaseModel, ConfigDict, Field

from sbert.errors import NotATableError, SettingsError, TableError
from sbert.storage.files import list_names
from sbert.table.commit import commit
from sbert.table.delta import Table, TableShard
from sbert.table.lease import hold_lease

__all__ = ["Rollback", "check_shards_are_there", "earlier_version", "roll_back"]


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
    wanted = earlier_version(now.uri, now.version, version)
    run_id = str(uuid.uuid4())
    with hold_lease(now.uri, run_id, "rollback"):  # a vacuum that runs now leaves the shards alone
        return _restore(now, wanted, run_id)


def earlier_version(uri: str, now: int, asked: int | None) -> int:
    """Return the version to go back to, by default the one before.

    Raises:
        SettingsError: there is no such version, or it is what readers see now.
    """
    wanted = now - 1 if asked is None else asked
    if now == 0:
        raise SettingsError(f"{uri}: the table is at version 0, its first, so there is no earlier one to go back to")
    if not 0 <= wanted < now:
        raise SettingsError(
            f"{uri}: cannot go back to version {wanted}: the table is at version {now}, and earlier versions are 0 to "
            f"{now - 1}"
        )
    return wanted


def check_shards_are_there(uri: str, version: int, shards: Sequence[TableShard], *, otherwise: str) -> None:
    """Check that a vacuum left the shards of an earlier version.

    Raises:
        TableError: it did not; the message says what to do `otherwise`.
    """
    files = list_names(uri)
    missing = [shard.name for shard in shards if files.get(shard.name) != shard.num_bytes]
    if missing:
        raise TableError(
            f"{uri}: version {version} cannot be restored: {len(missing)} of its {len(shards)} shards are gone "
            f"(vacuumed; first: {missing[0]}): choose a later version, or {otherwise}"
        )


def _restore(now: Table, wanted: int, run_id: str) -> Rollback:
    try:
        then = Table.open(now.uri, wanted)
    except NotATableError as error:
        raise TableError(f"{now.uri}: version {wanted} is no longer in the log: choose a later one") from error
    shards = then.shards()
    check_shards_are_there(now.uri, wanted, shards, otherwise="run `sbert refresh`")
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

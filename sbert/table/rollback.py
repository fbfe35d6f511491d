"""Restore an earlier version of a table with a new commit.

Versions are sets of shards, so a rollback is one more commit. It adds the shards of the earlier version, removes the
present ones, and names the earlier encoder. Nothing is copied or lost: a rollback can be rolled back.
"""

import uuid
from collections.abc import Sequence
from typing import Protocol, Self, TypeVar

from pydantic import BaseModel, ConfigDict, Field

from sbert.errors import NotATableError, SettingsError, TableError
from sbert.storage.files import list_names
from sbert.table.commit import commit
from sbert.table.delta import Table
from sbert.table.lease import hold_lease
from sbert.table.table_shard import TableShard

__all__ = ["Rollback", "earlier_version", "open_earlier", "roll_back", "shards_without"]


class OpenedTable(Protocol):
    """A version of an embeddings table or of a derived table."""

    @property
    def uri(self) -> str: ...

    @classmethod
    def open(cls, uri: str, version: int | None = None) -> Self: ...

    def shards(self) -> list[TableShard]: ...


AnyTable = TypeVar("AnyTable", bound=OpenedTable)


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


def open_earlier(now: AnyTable, version: int, *, otherwise: str) -> AnyTable:
    """Open an earlier version of a table, whose rows can be restored.

    Raises:
        TableError: the log no longer has it, or a vacuum removed shards of it; the message says what to do `otherwise`.
    """
    try:
        earlier = type(now).open(now.uri, version)
    except NotATableError as error:
        raise TableError(f"{now.uri}: version {version} is no longer in the log: choose a later one") from error
    files, shards = list_names(now.uri), earlier.shards()
    missing = [shard.name for shard in shards if files.get(shard.name) != shard.num_bytes]
    if missing:
        raise TableError(
            f"{now.uri}: version {version} cannot be restored: {len(missing)} of its {len(shards)} shards are gone "
            f"(vacuumed; first: {missing[0]}): choose a later version, or {otherwise}"
        )
    return earlier


def shards_without(shards: Sequence[TableShard], others: Sequence[TableShard]) -> list[TableShard]:
    """Return the shards that are not among `others`."""
    names = {shard.name for shard in others}
    return [shard for shard in shards if shard.name not in names]


def _restore(now: Table, wanted: int, run_id: str) -> Rollback:
    then = open_earlier(now, wanted, otherwise="run `sbert refresh`")
    add, drop = shards_without(then.shards(), now.shards()), shards_without(now.shards(), then.shards())
    if not add and not drop and now.encoder == then.encoder:
        raise SettingsError(f"{now.uri}: version {now.version} shows the rows of version {wanted} already")
    new_version = commit(
        now.uri,
        now,
        add=[shard.record() for shard in add],
        drop=drop,
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

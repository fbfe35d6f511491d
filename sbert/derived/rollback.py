"""Restore an earlier version of a derived table with a new commit; nothing is copied or lost."""

import uuid

from pydantic import BaseModel, ConfigDict, Field

from sbert.derived.derived_table import DerivedTable, commit_derived
from sbert.errors import SettingsError
from sbert.table.lease import hold_lease
from sbert.table.rollback import earlier_version, open_earlier, shards_without

__all__ = ["DerivedRollback", "roll_back_derived"]


class DerivedRollback(BaseModel):
    """The outcome of a rollback of a derived table."""

    model_config = ConfigDict(frozen=True)

    table_uri: str = Field(description="The derived table.")
    job: str
    version: int = Field(description="The new version.")
    restored: int = Field(description="The version whose rows it shows.")
    replaced: int = Field(description="The version that readers saw before.")
    table_version: int = Field(description="Version of the embeddings table that the rows were computed from.")
    encoder: str = Field(description="Encoder of that version.")
    num_rows: int
    num_rows_before: int


def roll_back_derived(out_uri: str, version: int | None = None) -> DerivedRollback:
    """Restore the rows and the columns of an earlier version, by default of the version before.

    The next run of the job brings the table up to date again: stop its deployment first, or roll back the embeddings
    table, which the job then follows.

    Raises:
        SettingsError: there is no such version, or it is what readers see now.
        TableError: its shards were vacuumed.
        CommitConflictError: another run committed meanwhile; nothing was changed.
    """
    now = DerivedTable.open(out_uri)
    wanted = earlier_version(now.uri, now.version, version)
    run_id = str(uuid.uuid4())
    with hold_lease(now.uri, run_id, "rollback"):  # a vacuum that runs now leaves the shards alone
        return _restore(now, wanted, run_id)


def _restore(now: DerivedTable, wanted: int, run_id: str) -> DerivedRollback:
    then = open_earlier(now, wanted, otherwise=f"run the job {now.info.job} again")
    add, drop = shards_without(then.shards(), now.shards()), shards_without(now.shards(), then.shards())
    is_same = now.info == then.info.model_copy(update={"run_id": now.info.run_id})
    if not add and not drop and is_same:
        raise SettingsError(f"{now.uri}: version {now.version} shows the rows of version {wanted} already")
    has_new_columns = now.schema != then.schema  # then every shard of the earlier version is added
    version = commit_derived(
        now.uri,
        now,
        schema=then.schema,
        add=[shard.record() for shard in (then.shards() if has_new_columns else add)],
        drop=drop,
        info=then.info.model_copy(update={"run_id": run_id}),
        counts={"operation": "rollback", "restored": wanted},
    )
    return DerivedRollback(
        table_uri=now.uri,
        job=then.info.job,
        version=version,
        restored=wanted,
        replaced=now.version,
        table_version=then.info.table_version,
        encoder=then.info.encoder,
        num_rows=then.num_rows,
        num_rows_before=now.num_rows,
    )

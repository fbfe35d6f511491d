"""A derived table: shards behind a Delta log, each named after a split of the embeddings table and the job.

The metadata of every commit names the version and the encoder of the embeddings table, so a reader knows what the output
is of.
"""

import hashlib
import json
from collections.abc import Iterable
from typing import Any, Self

import polars as pl
import pyarrow as pa
from deltalake import CommitProperties, DeltaTable, Schema
from deltalake.exceptions import DeltaError, TableNotFoundError
from deltalake.transaction import create_table_with_add_actions
from pydantic import BaseModel, ConfigDict, Field, ValidationError

from sbert.errors import EmbeddingsTableError, MissingError, NotATableError, TableError
from sbert.storage.errors import translate_errors
from sbert.storage.files import (
    delta_retry_options,
    delta_storage_options,
    join,
    list_names,
    normalize_uri,
)
from sbert.storage.retry import try_again
from sbert.table.commit import add_action, commit_errors, remove_action
from sbert.table.commit_record import METADATA_KEY, recorded_at
from sbert.table.delta import DERIVED_NAME, is_embeddings_table
from sbert.table.refused_versions import check_not_refused
from sbert.table.shards import ShardRecord, fingerprint_of_shard
from sbert.table.table_shard import TableShard

__all__ = [
    "DerivedInfo",
    "DerivedTable",
    "PartsSummary",
    "commit_derived",
    "completed_settings",
    "digest_of_parts",
    "find_derived",
    "find_output",
]


class PartsSummary(BaseModel):
    """The parts of a table that is made of parts (`sbert.derived.part_table`)."""

    model_config = ConfigDict(frozen=True)

    num_parts: int = Field(description="Number of parts, empty ones included.")
    digest: str = Field(description="Hash of the fingerprint and the number of rows of each part that has rows.")


class DerivedInfo(BaseModel):
    """The job and the version of the embeddings table that a version of the derived table was computed from."""

    model_config = ConfigDict(frozen=True, extra="ignore")

    job: str = Field(description="Name of the job.")
    job_fingerprint: str = Field(description="Hash of everything that decides the output beside a split's rows.")
    settings: dict[str, Any] = Field(description="Settings of the job.")
    code_version: int = Field(default=1, description="Version of the job's code.")
    table_uri: str = Field(description="The embeddings table.")
    table_id: str = Field(description="The id in its Delta log.")
    table_version: int = Field(description="Its version that the output is of.")
    encoder: str = Field(description="Name of the encoder of that version.")
    encoder_fingerprint: str = Field(description="Fingerprint of the encoder of that version.")
    parts: PartsSummary | None = Field(
        default=None, description="For a table whose rows are not those of the embeddings table: its parts."
    )
    run_id: str = Field(default="", description="The run that committed.")

    def is_record_of(self, now: "DerivedInfo", settings: type[BaseModel]) -> bool:
        """Return whether this record says what `now` would say, so that no commit is needed to say it.

        A setting that a later release added counts with its default: an upgrade alone changes nothing.

        Args:
            now: the record of a run that is about to commit; its run may be another.
            settings: the model of the job's settings.
        """
        completed = completed_settings(settings, self.settings)
        return self.model_copy(update={"settings": completed, "run_id": now.run_id}) == now


def completed_settings(kind: type[BaseModel], recorded: dict[str, Any]) -> dict[str, Any]:
    """Return recorded settings as this release records them; those that it does not understand as they are."""
    try:
        return kind.model_validate(recorded).model_dump(mode="json")
    except ValidationError:
        return recorded


class DerivedTable:
    """One version of a derived table, for reading."""

    def __init__(self, uri: str, delta: DeltaTable, info: DerivedInfo) -> None:
        """Use `DerivedTable.open`."""
        self.uri = uri
        self.info = info
        self._delta = delta

    @classmethod
    def open(cls, uri: str, version: int | None = None) -> Self:
        """Open the newest version, or version `version`.

        Raises:
            NotATableError: there is no derived table at `uri`, or no such version.
            EmbeddingsTableError: there is an embeddings table.
            TableError: rows of the version were erased.
            StorageError: storage refuses.
        """
        uri = normalize_uri(uri)
        options = delta_storage_options(uri) | delta_retry_options(uri)
        try:
            delta = try_again(uri, lambda: DeltaTable(uri, version=version, storage_options=options))
        except (TableNotFoundError, MissingError) as error:
            list_names(uri)  # storage that refuses, or has no such bucket, is another matter
            raise NotATableError(f"{uri}: there is no table here (no _delta_log): run the job that makes it") from error
        except DeltaError as error:
            raise NotATableError(f"{uri}: the table cannot be opened: {error}") from error
        if version is not None:
            check_not_refused(uri, version)
        for earlier in range(delta.version(), -1, -1):  # other writers, such as an optimizer, may have committed last
            recorded = recorded_at(uri, earlier)
            if "job_fingerprint" in recorded:
                return cls(uri, delta, DerivedInfo.model_validate(recorded))
        if is_embeddings_table(delta):
            raise EmbeddingsTableError(
                f"{uri}: this is an embeddings table, not the output of a job such as `sbert classify`: name another folder"
            )
        raise NotATableError(f"{uri}: this Delta table was not made by a job of sbert: choose a new folder")

    @property
    def version(self) -> int:
        """The Delta version that this object shows."""
        return int(self._delta.version())

    @property
    def schema(self) -> pa.Schema:
        """The columns and their Arrow types, without metadata."""
        return pa.schema(self._delta.schema().to_arrow()).remove_metadata()

    def shards(self) -> list[TableShard]:
        """Return the shards of this version, ordered by name, from the log alone."""
        actions = pl.DataFrame(self._delta.get_add_actions(flatten=True))
        return sorted(
            (
                TableShard(
                    name=action["path"],
                    fingerprint=fingerprint_of_shard(action["path"]),
                    num_rows=action["num_records"] or 0,
                    num_bytes=action["size_bytes"],
                )
                for action in actions.select("path", "size_bytes", "num_records").to_dicts()
            ),
            key=lambda shard: shard.name,
        )

    @property
    def num_rows(self) -> int:
        """Rows of this version, from the log alone."""
        return sum(shard.num_rows for shard in self.shards())

    def shard_uri(self, name: str) -> str:
        """Return the location of a shard."""
        return join(self.uri, name)

    def scan(self) -> pl.LazyFrame:
        """Return this version as a lazy Polars frame."""
        shards = [self.shard_uri(shard.name) for shard in self.shards() if shard.num_rows]
        if not shards:
            empty = pl.from_arrow(pa.schema(self._delta.schema().to_arrow()).empty_table())
            assert isinstance(empty, pl.DataFrame)
            return empty.lazy()
        return pl.scan_parquet(shards, glob=False, storage_options=delta_storage_options(self.uri) or None)

    def history(self) -> list[dict[str, Any]]:
        """Return the commits, newest first: version, timestamp (ms), and the record of this library."""
        with translate_errors(self.uri):
            return [dict(entry) for entry in self._delta.history()]


def digest_of_parts(rows: Iterable[tuple[str, int]]) -> str:
    """Hash the fingerprint and the number of rows of parts; a part may be named several times, once for each shard."""
    counts: dict[str, int] = {}
    for fingerprint, num_rows in rows:
        counts[fingerprint] = counts.get(fingerprint, 0) + num_rows
    lines = [f"{name}:{count}" for name, count in sorted(counts.items()) if count]
    return hashlib.sha256("|".join(lines).encode()).hexdigest()


def find_derived(uri: str) -> DerivedTable | None:
    """Open the derived table at `uri`, or return None where one can be made.

    Raises:
        NotATableError: the folder holds other things than a derived table, or than the beginnings of one.
    """
    try:
        return DerivedTable.open(uri)
    except EmbeddingsTableError:
        raise
    except NotATableError:
        names = list_names(normalize_uri(uri))
        strangers = sorted(
            name for name in names if name.startswith("_delta_log") or not name.startswith(("part-", "_", "."))
        )
        if strangers:
            raise NotATableError(
                f"{uri}: this folder is not a derived table and is not empty ({len(strangers)} entries, first: "
                f"{strangers[0]}): name an empty or new folder"
            ) from None
        return None


def find_output(uri: str, job: str) -> DerivedTable | None:
    """Open the output of a job, or return None where it can be made; a job asks before it writes anything there.

    Raises:
        NotATableError: as `find_derived`.
        TableError: the derived table belongs to another job.
    """
    table = find_derived(uri)
    if table is not None and table.info.job != job:
        raise TableError(f"{table.uri}: this table belongs to the job {table.info.job}, not to {job}: name another")
    return table


def commit_derived(
    uri: str,
    before: DerivedTable | None,
    *,
    schema: pa.Schema,
    add: Iterable[ShardRecord],
    drop: Iterable[TableShard],
    info: DerivedInfo,
    counts: dict[str, Any],
) -> int:
    """Publish shards and retire others in one atomic step; return the new version.

    Raises:
        CommitConflictError: the table is no longer at the version of `before`; nothing was published.
    """
    uri = normalize_uri(uri)
    metadata = json.dumps({**counts, **info.model_dump(mode="json")})
    properties = CommitProperties(custom_metadata={METADATA_KEY: metadata}, max_commit_retries=0)
    adds = [add_action(record, data_change=True) for record in add]
    with commit_errors(uri):
        if before is None:
            create_table_with_add_actions(
                uri,
                Schema.from_arrow(schema),
                adds,
                mode="error",
                name=f"{DERIVED_NAME}{info.job}",
                storage_options=delta_storage_options(uri) | delta_retry_options(uri),
                commit_properties=properties,
            )
            return 0
        if before.schema != schema.remove_metadata():  # other columns: every shard is new
            before._delta.create_write_transaction(
                [*adds], mode="overwrite", schema=schema, commit_properties=properties
            )
        else:
            removes = [remove_action(shard, data_change=True) for shard in drop]
            before._delta.create_write_transaction(
                [*adds, *removes], mode="append", schema=schema, commit_properties=properties
            )
    return before.version + 1

"""The two kinds of tables whose shards an erasure rewrites: embeddings tables and derived tables."""

import datetime as dt
import json
from abc import ABC, abstractmethod
from collections.abc import Iterator, Sequence
from typing import Any, ClassVar

from sbert.derived.derived_table import DerivedTable, commit_derived
from sbert.errors import MissingError
from sbert.rows.rejects import RejectReason
from sbert.storage.files import delete, join, list_names, read_bytes
from sbert.table.commit import commit
from sbert.table.commit_record import commit_info, recorded_in
from sbert.table.delta import Table
from sbert.table.shards import ShardRecord
from sbert.table.split_records import SPLITS_FOLDER, find_record, write_record
from sbert.table.table_shard import TableShard
from sbert.table.tombstones import ERASE

__all__ = ["ErasableDerived", "ErasableEmbeddings", "ErasableTable"]


class ErasableTable(ABC):
    """One version of a table, for an erasure."""

    kind: ClassVar[str]
    """Names the place in the receipt."""

    def __init__(self, uri: str) -> None:
        """Use `open`."""
        self.uri = uri
        self.version = -1
        self.shards: dict[str, TableShard] = {}
        """Shards of the newest version, by name."""

    @abstractmethod
    def open(self) -> None:
        """Read the newest version.

        Raises:
            NotATableError: there is none.
        """

    @abstractmethod
    def commit(self, add: Sequence[ShardRecord], drop: Sequence[TableShard], erasure: str, num_rows: int) -> int:
        """Make the next version, even when no shard changes: a run that was planned before then cannot commit.

        Raises:
            CommitConflictError: another run committed first.
        """

    @abstractmethod
    def publish_records(self, renamed: dict[str, ShardRecord], rows_of_splits: dict[str, int]) -> None:
        """Bring the completion records of published splits up to date.

        Args:
            renamed: the new shard by the name of the old one.
            rows_of_splits: erased rows by the fingerprint of their split.
        """

    def remove_unpublished(self, files: Sequence[str], published: Sequence[str]) -> int:
        """Remove completion records that name one of `files` and are not published; return their number.

        Records go before their shards, so that no run resumes a split without shards.
        """
        folder = join(self.uri, SPLITS_FOLDER)
        fingerprints = {name.split("-")[1] for name in files if name.count("-") > 1} - set(published)
        names = [name for name in list_names(folder) if name.split(".")[0] in fingerprints]
        unpublished = []
        for name in names:
            if name.endswith(".json") and not self._names_file(join(folder, name), files):
                continue
            unpublished.append(name)
        delete(join(folder, name) for name in unpublished)
        return sum(name.endswith(".json") for name in unpublished)

    @staticmethod
    def _names_file(uri: str, files: Sequence[str]) -> bool:
        """Return whether a record names one of the files, or cannot be read."""
        try:
            record = json.loads(read_bytes(uri))
            return any(shard["name"] in set(files) for shard in record["shards"])
        except MissingError:
            return False
        except (ValueError, KeyError, TypeError):
            return True

    def rows_erased_by(self, erasure: str, since: dt.datetime) -> int:
        """Return the rows that commits of an erasure, the oldest made after `since`, took out of the newest version."""
        return sum(int(recorded.get("num_rows_erased", 0)) for recorded in self._commits_of(erasure, since))

    def has_commit_of(self, erasure: str, since: dt.datetime) -> bool:
        """Return whether an erasure, begun at `since`, made a version up to the one that is open."""
        return any(True for _ in self._commits_of(erasure, since))

    def _commits_of(self, erasure: str, since: dt.datetime) -> Iterator[dict[str, Any]]:
        """Return the records of an erasure's commits, the newest first."""
        for version in range(self.version, -1, -1):
            info = commit_info(self.uri, version)
            if info is None or info.get("timestamp", 0) < since.timestamp() * 1000:
                return
            recorded = recorded_in(info)
            if recorded.get("operation") == ERASE and recorded.get("erasure") == erasure:
                yield recorded


class ErasableEmbeddings(ErasableTable):
    """A table of embeddings."""

    kind: ClassVar[str] = "shards"
    table: Table

    def open(self) -> None:
        """Read the newest version."""
        self.table = Table.open(self.uri)
        self.uri, self.version = self.table.uri, self.table.version
        self.shards = {shard.name: shard for shard in self.table.shards()}

    def commit(self, add: Sequence[ShardRecord], drop: Sequence[TableShard], erasure: str, num_rows: int) -> int:
        """Commit with the encoder, the columns and the settings that the table has."""
        return commit(
            self.uri,
            self.table,
            add=add,
            drop=drop,
            encoder=self.table.encoder,
            kept_schema=self.table.kept_schema,
            metadata=_metadata(erasure, num_rows) | {"encoder": self.table.encoder.model},
            settings=self.table.recorded_settings,
        )

    def publish_records(self, renamed: dict[str, ShardRecord], rows_of_splits: dict[str, int]) -> None:
        """Count the rows as rejected with the reason ``erased``, and name the new shards."""
        for fingerprint, num_rows in rows_of_splits.items():
            record = find_record(self.uri, fingerprint)
            if record is None:
                continue
            counts = record.counts
            num_carried = min(num_rows, counts.num_rows_carried)
            reasons = counts.rejects_by_reason
            is_counted = counts.num_rows_written >= num_rows  # records of copied rows count nothing
            updated = counts.model_copy(
                update={
                    "num_rows_carried": counts.num_rows_carried - num_carried,
                    "num_rows_encoded": counts.num_rows_encoded - (num_rows - num_carried),
                    "num_rows_rejected": counts.num_rows_rejected + num_rows,
                    "rejects_by_reason": reasons
                    | {RejectReason.ERASED.value: reasons.get(RejectReason.ERASED.value, 0) + num_rows},
                }
            )
            shards = [renamed.get(shard.name, shard) for shard in record.shards]
            write_record(
                self.uri, record.model_copy(update={"shards": shards, "counts": updated if is_counted else counts})
            )


class ErasableDerived(ErasableTable):
    """A derived table."""

    kind: ClassVar[str] = "derived table"
    derived: DerivedTable

    def open(self) -> None:
        """Read the newest version."""
        self.derived = DerivedTable.open(self.uri)
        self.uri, self.version = self.derived.uri, self.derived.version
        self.shards = {shard.name: shard for shard in self.derived.shards()}

    def commit(self, add: Sequence[ShardRecord], drop: Sequence[TableShard], erasure: str, num_rows: int) -> int:
        """Commit with the job and the columns that the derived table has."""
        return commit_derived(
            self.uri,
            self.derived,
            schema=self.derived.schema,
            add=add,
            drop=drop,
            info=self.derived.info,
            counts=_metadata(erasure, num_rows),
        )

    def publish_records(self, renamed: dict[str, ShardRecord], rows_of_splits: dict[str, int]) -> None:
        """Leave them: the next run of the job builds these splits again, since they have fewer rows."""


def _metadata(erasure: str, num_rows: int) -> dict[str, Any]:
    return {"operation": ERASE, "erasure": erasure, "run_id": erasure, "num_rows_erased": num_rows}

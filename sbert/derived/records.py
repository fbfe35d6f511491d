"""Completion records of a derived table: which splits are finished, written after their shards.

They lie in ``_splits/`` beside the shards. A run that was killed is resumed by running again: splits with a record are
taken over.
"""

from collections.abc import Iterable
from concurrent.futures import ThreadPoolExecutor

from pydantic import BaseModel, ConfigDict, Field, ValidationError

from sbert.errors import MissingError
from sbert.storage.files import join, list_names, read_bytes, write_bytes
from sbert.table.shards import ShardRecord

__all__ = ["DerivedRecord", "finished_splits", "write_derived_record"]

SPLITS_FOLDER = "_splits"
MAX_THREADS = 16


class DerivedRecord(BaseModel):
    """A finished split of a derived table."""

    model_config = ConfigDict(frozen=True)

    fingerprint: str = Field(
        description="Fingerprint of the split in the derived table; it is part of the shards' names."
    )
    num_rows: int
    shards: tuple[ShardRecord, ...]
    run_id: str


def write_derived_record(out_uri: str, record: DerivedRecord) -> None:
    """Write a record, after its shards."""
    write_bytes(join(out_uri, SPLITS_FOLDER, f"{record.fingerprint}.json"), record.model_dump_json().encode())


def finished_splits(out_uri: str, fingerprints: Iterable[str]) -> dict[str, DerivedRecord]:
    """Return, by fingerprint, the records of the given splits; a split with a missing shard has no entry."""
    recorded = list_names(join(out_uri, SPLITS_FOLDER))
    wanted = [name for name in fingerprints if f"{name}.json" in recorded]
    if not wanted:
        return {}
    files = list_names(out_uri)

    def read(fingerprint: str) -> DerivedRecord | None:
        try:
            record = DerivedRecord.model_validate_json(read_bytes(join(out_uri, SPLITS_FOLDER, f"{fingerprint}.json")))
        except (MissingError, ValidationError):
            return None
        return record if all(files.get(shard.name) == shard.num_bytes for shard in record.shards) else None

    with ThreadPoolExecutor(MAX_THREADS) as pool:
        records = pool.map(read, wanted)
        return {record.fingerprint: record for record in records if record is not None}

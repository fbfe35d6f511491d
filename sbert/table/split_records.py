"""Completion records: the contents of a finished split, written after its shards.

A split with a record is finished, a split without one is not. So a killed run is resumed by running again.
Records live in ``_splits/`` beside the shards (readers and vacuum ignore names that begin with ``_``), rejected rows in
``_rejected/``, both named after the split's fingerprint.
"""

import logging
from collections.abc import Iterable
from concurrent.futures import ThreadPoolExecutor

import polars as pl
from pydantic import BaseModel, ConfigDict, Field, ValidationError

from sbert.errors import MissingError
from sbert.rows.counts import RowCounts
from sbert.rows.rejects import empty_rejects
from sbert.storage.files import join, list_names, read_bytes, write_bytes
from sbert.table.shards import ShardRecord
from sbert.vectors.precision import QuantizationStatistics

__all__ = [
    "MISFITS_FOLDER",
    "REJECTED_FOLDER",
    "SPLITS_FOLDER",
    "RecordedSpan",
    "SplitRecord",
    "completed_splits",
    "find_record",
    "kept_types",
    "misfits_name",
    "read_record",
    "read_records",
    "read_rejects",
    "write_record",
]

log = logging.getLogger(__name__)

SPLITS_FOLDER = "_splits"
REJECTED_FOLDER = "_rejected"
MISFITS_FOLDER = "_misfits"
SUFFIX = ".json"
MAX_THREADS = 16


class RecordedSpan(BaseModel):
    """A whole source object, or a slice of one, as it was when its rows were read."""

    model_config = ConfigDict(frozen=True)

    uri: str
    version: str
    start: int | None = None
    stop: int | None = None
    max_rows: int | None = None

    def identity(self) -> list[str | int | None]:
        """Return everything that decides the rows, as `Span.identity` does."""
        parts = [self.uri, self.version, self.start, self.stop]
        return parts if self.max_rows is None else [*parts, self.max_rows]


class SplitRecord(BaseModel):
    """A finished split: its objects, its shards and its counts."""

    model_config = ConfigDict(frozen=True)

    fingerprint: str
    encoder_fingerprint: str
    name: str = Field(description="The split's readable name.")
    spans: list[RecordedSpan]
    shards: list[ShardRecord]
    rejects: str | None = Field(description="File of rejected rows, relative to the table; empty when there are none.")
    misfits: str | None = Field(
        default=None,
        description="File of kept values that do not fit their column, relative to the table; empty when there are none.",
    )
    counts: RowCounts
    kept_types: dict[str, str] = Field(default={}, description="Types of the source columns in its shards, by name.")
    run_id: str
    built_at: str = Field(description="UTC time in ISO 8601.")
    forced: bool = Field(default=False, description="Whether every vector was computed anew.")
    has_sample: bool = Field(
        default=False, description="Whether float32 vectors of some rows lie beside the record until the commit."
    )
    calibration: QuantizationStatistics | None = Field(
        default=None, description="Of its vectors, when they are quantized."
    )
    tombstones: str = Field(default="", description="Digest of the tombstones that the build knew; empty for none.")


def kept_types(kept_schema: dict[str, pl.DataType]) -> dict[str, str]:
    """Return the types of kept columns in the form that a record holds."""
    return {name: str(kind) for name, kind in kept_schema.items()}


def record_uri(table_uri: str, fingerprint: str) -> str:
    """Return the location of a split's completion record."""
    return join(table_uri, SPLITS_FOLDER, fingerprint + SUFFIX)


def completed_splits(table_uri: str, fingerprints: list[str]) -> dict[str, SplitRecord]:
    """Return the records of the finished splits whose shards are in place, by fingerprint.

    Two listings, whatever the number of splits, and one small read for each finished one.
    """
    names = list_names(join(table_uri, SPLITS_FOLDER))
    candidates = [fingerprint for fingerprint in fingerprints if fingerprint + SUFFIX in names]
    files = list_names(table_uri) if candidates else {}
    completed: dict[str, SplitRecord] = {}
    for fingerprint, record in read_records(table_uri, candidates).items():
        if all(files.get(shard.name) == shard.num_bytes for shard in record.shards):
            completed[fingerprint] = record
        else:
            log.warning("%s: the shards of this finished split are gone; it is built again", record.name)
    return completed


def write_record(table_uri: str, record: SplitRecord) -> None:
    """Declare a split finished; its shards must be in place."""
    write_bytes(record_uri(table_uri, record.fingerprint), record.model_dump_json(indent=1).encode())


def read_record(table_uri: str, fingerprint: str) -> SplitRecord | None:
    """Return a split's record, or None when it cannot be used (its shards are gone, or it is not readable as one)."""
    uri = record_uri(table_uri, fingerprint)
    try:
        return SplitRecord.model_validate_json(read_bytes(uri))
    except (MissingError, ValidationError) as error:
        log.warning("completion record %s cannot be used: %s", uri, error)
        return None


def find_record(table_uri: str, fingerprint: str) -> SplitRecord | None:
    """Return a split's record, or None when it has none (yet) that can be read."""
    try:
        return SplitRecord.model_validate_json(read_bytes(record_uri(table_uri, fingerprint)))
    except (MissingError, ValidationError):
        return None


def read_records(table_uri: str, fingerprints: Iterable[str]) -> dict[str, SplitRecord]:
    """Return the records of splits, by fingerprint; unusable records are left out."""
    wanted = sorted(fingerprints)
    with ThreadPoolExecutor(MAX_THREADS) as pool:
        records = pool.map(lambda fingerprint: read_record(table_uri, fingerprint), wanted)
        return {record.fingerprint: record for record in records if record is not None}


def rejects_name(fingerprint: str) -> str:
    """Return the file of a split's rejected rows, relative to the table."""
    return f"{REJECTED_FOLDER}/{fingerprint}.parquet"


def misfits_name(fingerprint: str) -> str:
    """Return the file of a split's kept values that do not fit their column, relative to the table."""
    return f"{MISFITS_FOLDER}/{fingerprint}.parquet"


def read_rejects(table_uri: str, records: list[SplitRecord]) -> pl.DataFrame:
    """Return the rejected rows of splits, with their reasons and original values."""
    files = [join(table_uri, record.rejects) for record in records if record.rejects is not None]
    return pl.concat([empty_rejects(), *(pl.read_parquet(read_bytes(uri)) for uri in files)])

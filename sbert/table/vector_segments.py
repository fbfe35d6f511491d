"""Records of the table's index: which segments there are, which splits they hold, and which of them serve a version.

A segment is two files in ``_index/``; its record ``_index/<name>.json`` is written after them. The name is a hash of the
splits and of everything that decides how they are indexed. So the index needs no state: the segments that serve a version
follow from its splits and from the records that are there.
"""

import hashlib
import logging
import re
from collections.abc import Iterable, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor

from pydantic import BaseModel, ConfigDict, Field, ValidationError

from sbert.errors import MissingError
from sbert.storage.conditional_put import create_bytes
from sbert.storage.files import delete, join, list_names, read_bytes, write_bytes
from sbert.vectors.precision import Precision

__all__ = [
    "INDEX_FOLDER",
    "MeasuredRecall",
    "SegmentFile",
    "SegmentRecord",
    "SegmentSplit",
    "ServingSegment",
    "VersionIndex",
    "choose_segments",
    "find_version_index",
    "read_segments",
    "remove_beside_segments",
    "remove_segment",
    "segment_name",
    "unneeded_index_files",
    "write_segment",
    "write_version_index",
]

log = logging.getLogger(__name__)

INDEX_FOLDER = "_index"
SUFFIX = ".json"
FORMER_NAME = re.compile(r"segment-[0-9a-f]{32}(?:-[0-9a-f]+\.(?:graph|vectors)|\.json)")
"""Files of segments of an earlier release, which nothing reads."""
VERSION_NAME = re.compile(r"version-(\d{20})\.json")
SEGMENT_NAME = re.compile(r"ivf-[0-9a-f]{32}\.json")
MAX_THREADS = 16


class MeasuredRecall(BaseModel):
    """Share of the true ten nearest rows that were found."""

    model_config = ConfigDict(frozen=True)

    value: float = Field(description="Mean over the queries (0 to 1).")
    low: float = Field(description="Lower end of its 95 % interval, by resampling the queries.")
    high: float = Field(description="Upper end of its 95 % interval.")
    num_queries: int = Field(description="Queries that it was measured with.")


class SegmentSplit(BaseModel):
    """A split whose rows a segment holds. A split that lost rows since is another one."""

    model_config = ConfigDict(frozen=True)

    fingerprint: str
    num_rows: int


class SegmentFile(BaseModel):
    """One file of a segment."""

    model_config = ConfigDict(frozen=True)

    name: str = Field(description="Name in the folder of the index.")
    num_bytes: int
    sha256: str = Field(description="Of its bytes, hexadecimal.")


class SegmentRecord(BaseModel):
    """A finished segment."""

    model_config = ConfigDict(frozen=True)

    name: str
    encoder_fingerprint: str = Field(description="The encoder whose vectors it holds.")
    settings_hash: str = Field(description="Hash of the settings that it was asked for with.")
    splits: tuple[SegmentSplit, ...] = Field(description="The splits, in the order of their rows in the segment.")
    dim: int
    precision: Precision
    normalized: bool
    num_lists: int = Field(description="Lists of rows.")
    codes: str = Field(description="What a list holds for each row: product or scalar codes.")
    probes: int = Field(description="Lists that a query looks into.")
    lists: SegmentFile
    vectors: SegmentFile
    recall: MeasuredRecall
    run_id: str
    built_at: str = Field(description="UTC time in ISO 8601.")
    seconds: float

    @property
    def num_rows(self) -> int:
        """Rows of all its splits."""
        return sum(split.num_rows for split in self.splits)

    @property
    def files(self) -> tuple[SegmentFile, SegmentFile]:
        """Both files."""
        return self.lists, self.vectors


class VersionIndex(BaseModel):
    """The index of one version as it was measured as a whole."""

    model_config = ConfigDict(frozen=True)

    version: int
    segments: tuple[str, ...]
    probes: int
    recall: MeasuredRecall | None = Field(description="With rows of the table as queries.")
    labelled_recall: MeasuredRecall | None = Field(default=None, description="With the queries of a file.")
    is_refused: bool = Field(default=False, description="Whether the recall is too low, so that search is exact.")


class ServingSegment(BaseModel):
    """A segment that serves a version, and the splits that it answers for."""

    model_config = ConfigDict(frozen=True)

    record: SegmentRecord
    splits: frozenset[str]

    @property
    def num_rows(self) -> int:
        """Rows that it answers for."""
        return sum(split.num_rows for split in self.record.splits if split.fingerprint in self.splits)


def segment_name(splits: Sequence[SegmentSplit], encoder_fingerprint: str, settings_hash: str) -> str:
    """Return the name of the segment that holds these splits."""
    parts = [encoder_fingerprint, settings_hash, *(f"{split.fingerprint}:{split.num_rows}" for split in splits)]
    return f"ivf-{hashlib.sha256('|'.join(parts).encode()).hexdigest()[:32]}"


def read_segments(table_uri: str) -> tuple[list[SegmentRecord], list[str]]:
    """Return the segments whose files are in place, and the names of broken segments.

    A segment is broken when its record cannot be read, or when one of its files is gone or has another size.
    """
    folder = join(table_uri, INDEX_FOLDER)
    files = list_names(folder)
    names = sorted(name for name in files if SEGMENT_NAME.fullmatch(name))

    def read(name: str) -> SegmentRecord | None:
        try:
            record = SegmentRecord.model_validate_json(read_bytes(join(folder, name)))
        except (MissingError, ValidationError):
            return None
        return record if all(files.get(file.name) == file.num_bytes for file in record.files) else None

    with ThreadPoolExecutor(MAX_THREADS) as pool:
        records = dict(zip(names, pool.map(read, names), strict=True))
    broken = [name.removesuffix(SUFFIX) for name, record in records.items() if record is None]
    return [record for record in records.values() if record is not None], broken


def write_segment(table_uri: str, record: SegmentRecord) -> SegmentRecord:
    """Declare a segment finished; return the record that counts, which is another run's when that run was faster."""
    uri = join(table_uri, INDEX_FOLDER, record.name + SUFFIX)
    if create_bytes(uri, record.model_dump_json(indent=1).encode()):
        return record
    delete(join(table_uri, INDEX_FOLDER, file.name) for file in record.files)
    return SegmentRecord.model_validate_json(read_bytes(uri))


def remove_segment(table_uri: str, name: str) -> None:
    """Remove a segment: its record first, so that no reader finds a segment without its files."""
    folder = join(table_uri, INDEX_FOLDER)
    delete([join(folder, name + SUFFIX)])
    delete(join(folder, file) for file in list_names(folder) if file.startswith(f"{name}-"))


def find_version_index(table_uri: str, version: int) -> VersionIndex | None:
    """Return the measurements of the index of a version; None when there are none."""
    try:
        return VersionIndex.model_validate_json(read_bytes(_version_uri(table_uri, version)))
    except (MissingError, ValidationError):
        return None


def remove_beside_segments(table_uri: str) -> None:
    """Remove the measurements of every version's index, and the segments of an earlier release."""
    folder = join(table_uri, INDEX_FOLDER)
    delete(
        join(folder, name) for name in list_names(folder) if VERSION_NAME.fullmatch(name) or FORMER_NAME.fullmatch(name)
    )


def write_version_index(table_uri: str, measured: VersionIndex) -> None:
    """Write the measurements of the index of a version."""
    write_bytes(_version_uri(table_uri, measured.version), measured.model_dump_json(indent=1).encode())


def choose_segments(
    records: Iterable[SegmentRecord], splits: Mapping[str, int], encoder_fingerprint: str
) -> list[ServingSegment]:
    """Return the segments that serve a version; each split is answered for by one of them at most.

    Args:
        records: the segments that there are.
        splits: the rows of each split of the version, by fingerprint.
        encoder_fingerprint: the version's encoder; segments of another one are passed over.
    """
    serving = []
    covered: set[str] = set()

    def live(record: SegmentRecord) -> frozenset[str]:
        return frozenset(
            split.fingerprint for split in record.splits if splits.get(split.fingerprint) == split.num_rows
        )

    usable = [record for record in records if record.encoder_fingerprint == encoder_fingerprint]

    def order(record: SegmentRecord) -> tuple[int, int, str]:
        """Most rows of the version first; of equals the segment that has fewer rows that are gone."""
        return -sum(splits[name] for name in live(record)), record.num_rows, record.name

    for record in sorted(usable, key=order):
        left = live(record) - covered
        if left:
            serving.append(ServingSegment(record=record, splits=left))
            covered |= left
    return serving


def unneeded_index_files(
    table_uri: str, files: Iterable[str], splits: Mapping[str, int], encoder_fingerprint: str, version: int
) -> set[str]:
    """Return the files of the index that do not serve a version, as paths below the table.

    Args:
        table_uri: the table.
        files: paths of all files below the table.
        splits: the rows of each split of the version, by fingerprint.
        encoder_fingerprint: the version's encoder.
        version: its number.
    """
    there = {name for name in files if name.startswith(f"{INDEX_FOLDER}/")}
    records, _ = read_segments(table_uri)
    needed = {f"version-{version:020}{SUFFIX}"}
    for serving in choose_segments(records, splits, encoder_fingerprint):
        needed |= {serving.record.name + SUFFIX, *(file.name for file in serving.record.files)}
    return there - {f"{INDEX_FOLDER}/{name}" for name in needed}


def _version_uri(table_uri: str, version: int) -> str:
    return join(table_uri, INDEX_FOLDER, f"version-{version:020}{SUFFIX}")

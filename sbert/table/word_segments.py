"""Records of the word index: which segments there are, and which splits each holds.

A segment is one file in ``_words/``; its record ``_words/<name>.json`` is written after it. The name is a hash of the splits
and of everything that decides their terms. So which segments serve a version follows from its splits alone, and a killed run
is resumed by running again.
"""

import hashlib
from collections.abc import Iterable, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor

from pydantic import BaseModel, ConfigDict, Field, ValidationError

from sbert.errors import MissingError
from sbert.storage.files import delete, join, list_names, read_bytes, write_bytes
from sbert.table.vector_segments import SegmentFile

__all__ = [
    "CHECK_COMMAND",
    "WORDS_FOLDER",
    "WordRecord",
    "WordSplit",
    "choose_word_segments",
    "read_word_segments",
    "remove_word_segments",
    "unneeded_word_files",
    "word_segment_file",
    "word_segment_name",
    "write_word_segment",
]

WORDS_FOLDER = "_words"
CHECK_COMMAND = "sbert index-words --check"
"""Command that builds damaged segments again."""
RECORD_END = ".json"
DATA_END = ".safetensors"
MAX_THREADS = 16


class WordSplit(BaseModel):
    """A split whose rows a segment holds. A split that lost rows since is another one."""

    model_config = ConfigDict(frozen=True)

    fingerprint: str
    num_rows: int


class WordRecord(BaseModel):
    """A finished segment."""

    model_config = ConfigDict(frozen=True)

    name: str
    words_fingerprint: str = Field(description="Hash of everything that decides the terms of a row.")
    column: str = Field(description="Kept column whose words it holds.")
    splits: tuple[WordSplit, ...] = Field(description="The splits, in the order of their rows in the segment.")
    num_terms: int = Field(description="Different terms.")
    num_postings: int = Field(description="Pairs of a term and a row.")
    data: SegmentFile = Field(description="Its file.")

    @property
    def num_rows(self) -> int:
        """Rows of all its splits."""
        return sum(split.num_rows for split in self.splits)


def word_segment_name(words_fingerprint: str, splits: Sequence[WordSplit]) -> str:
    """Return the name of the segment that holds these splits."""
    parts = [words_fingerprint, *(f"{split.fingerprint}:{split.num_rows}" for split in splits)]
    return f"words-{hashlib.sha256('|'.join(parts).encode()).hexdigest()[:32]}"


def read_word_segments(table_uri: str) -> list[WordRecord]:
    """Return the finished segments; one whose file is gone or torn does not count, so that it is built again."""
    folder = join(table_uri, WORDS_FOLDER)
    files = list_names(folder)

    def read(name: str) -> WordRecord | None:
        try:
            record = WordRecord.model_validate_json(read_bytes(join(folder, name)))
        except (MissingError, ValidationError):
            return None
        return record if files.get(record.data.name) == record.data.num_bytes else None

    with ThreadPoolExecutor(MAX_THREADS) as pool:
        records = pool.map(read, sorted(name for name in files if name.endswith(RECORD_END)))
        return [record for record in records if record is not None]


def word_segment_file(name: str, content: bytes) -> SegmentFile:
    """Return the record of the file of a segment."""
    return SegmentFile(name=name + DATA_END, num_bytes=len(content), sha256=hashlib.sha256(content).hexdigest())


def write_word_segment(table_uri: str, record: WordRecord, content: bytes) -> None:
    """Write a segment's file, then its record. Two runs that build one segment write the same bytes."""
    folder = join(table_uri, WORDS_FOLDER)
    write_bytes(join(folder, record.data.name), content)
    write_bytes(join(folder, record.name + RECORD_END), record.model_dump_json().encode())


def remove_word_segments(table_uri: str, names: Iterable[str]) -> None:
    """Remove segments: the records first, so that no reader finds a segment without its file."""
    folder, going = join(table_uri, WORDS_FOLDER), list(names)
    delete(join(folder, name + RECORD_END) for name in going)
    delete(join(folder, name + DATA_END) for name in going)


def choose_word_segments(
    records: Iterable[WordRecord], splits: Mapping[str, int], words_fingerprint: str
) -> list[tuple[WordRecord, frozenset[str]]]:
    """Return the segments that serve a version, and the splits that each answers for; no split is answered for twice.

    Args:
        records: the segments that there are.
        splits: the rows of each split of the version, by fingerprint.
        words_fingerprint: segments with other terms are passed over.
    """

    def live(record: WordRecord) -> frozenset[str]:
        return frozenset(
            split.fingerprint for split in record.splits if splits.get(split.fingerprint) == split.num_rows
        )

    serving: list[tuple[WordRecord, frozenset[str]]] = []
    covered: set[str] = set()
    usable = [record for record in records if record.words_fingerprint == words_fingerprint]
    for record in sorted(usable, key=lambda record: (-sum(splits[name] for name in live(record)), record.name)):
        answered = live(record) - covered
        if answered:
            serving.append((record, answered))
            covered |= answered
    return serving


def unneeded_word_files(table_uri: str, splits: Iterable[str], files: Iterable[str]) -> set[str]:
    """Return the files of the word index that hold none of the splits, as paths below the table."""
    there = {name for name in files if name.startswith(f"{WORDS_FOLDER}/")}
    if not there:
        return set()
    needed_splits = set(splits)
    needed = {
        f"{WORDS_FOLDER}/{name}"
        for record in read_word_segments(table_uri)
        if any(split.fingerprint in needed_splits for split in record.splits)
        for name in (record.data.name, record.name + RECORD_END)
    }
    return there - needed

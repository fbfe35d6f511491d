"""Check the files of both indexes, of vectors and of words: every byte against the checksums in the records."""

import hashlib

from sbert.errors import StorageError, TableError
from sbert.storage.files import join, list_names, open_input
from sbert.storage.local_write import LocalWrite
from sbert.table.vector_segments import INDEX_FOLDER, SegmentFile, SegmentRecord, read_segments
from sbert.table.word_segments import CHECK_COMMAND, WORDS_FOLDER, WordRecord, read_word_segments

__all__ = [
    "INDEX_CHECK",
    "check_segment_file",
    "index_findings",
    "segment_problem",
    "word_index_findings",
    "word_segment_problem",
]

READ_BYTES = 8 * 2**20
INDEX_CHECK = "sbert index --check"
"""Command that builds damaged segments of the index again."""


def check_segment_file(
    uri: str, file: SegmentFile, copy: LocalWrite | None = None, *, command: str = INDEX_CHECK
) -> None:
    """Read a file of a segment to its end and compare it with its record; write its bytes to `copy`.

    Args:
        uri: the file.
        file: its record.
        copy: a local file that gets the same bytes.
        command: command that builds a damaged segment again, for the error.

    Raises:
        TableError: the content is not what the record says.
        MissingError, StorageError: the file cannot be read.
    """
    digest, num_bytes = hashlib.sha256(), 0
    with open_input(uri) as source:
        while block := source.read(READ_BYTES):
            digest.update(block)
            num_bytes += len(block)
            if copy is not None:
                copy.file.write(block)
    if (num_bytes, digest.hexdigest()) != (file.num_bytes, file.sha256):
        raise TableError(
            f"{uri}: this file of the index is damaged ({num_bytes:,} bytes with SHA-256 {digest.hexdigest()[:12]}, its "
            f"record says {file.num_bytes:,} with {file.sha256[:12]}): run `{command}`, which builds the segment again"
        )


def segment_problem(table_uri: str, record: SegmentRecord) -> str | None:
    """Read every byte of a segment; return the fault, None when there is none."""
    try:
        for file in record.files:
            check_segment_file(join(table_uri, INDEX_FOLDER, file.name), file)
    except (StorageError, TableError) as error:
        return str(error)
    return None


def word_segment_problem(table_uri: str, record: WordRecord) -> str | None:
    """Read every byte of a segment of the word index; return the fault, None when there is none."""
    try:
        check_segment_file(join(table_uri, WORDS_FOLDER, record.data.name), record.data, command=CHECK_COMMAND)
    except (StorageError, TableError) as error:
        return str(error)
    return None


def word_index_findings(table_uri: str) -> list[str]:
    """Return the faults of a table's word index, one sentence each."""
    problems = (word_segment_problem(table_uri, record) for record in read_word_segments(table_uri))
    return [problem for problem in problems if problem is not None]


def index_findings(table_uri: str) -> list[str]:
    """Return the faults of a table's index, one sentence each."""
    if not list_names(join(table_uri, INDEX_FOLDER)):
        return []
    records, broken = read_segments(table_uri)
    findings = [
        f"{INDEX_FOLDER}/{name}: this segment of the index is broken, its rows are searched exactly: run `sbert index`"
        for name in broken
    ]
    return findings + [problem for record in records if (problem := segment_problem(table_uri, record)) is not None]

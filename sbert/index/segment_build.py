"""Build one segment: copy the vectors of its splits, group them into lists, measure the recall, write it, record it last.

A query looks into as few lists as the recall that is aimed at needs. If no number of lists reaches the least recall, the
lists get larger codes. If this is not enough either, the segment is refused: its splits stay without a segment, and search
compares their rows one by one.
"""

import datetime as dt
import hashlib
import logging
import tempfile
import time
import uuid
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import NamedTuple

import numpy as np

from sbert.counted import counted
from sbert.errors import QualityError
from sbert.index.index_settings import IndexSettings
from sbert.index.inverted_file import ROWS_PER_CENTROID, InvertedFile, RowCodes, codes_of, num_lists_of
from sbert.index.recall import NEIGHBOURS, measure_recall, sample_positions
from sbert.index.segment import Segment, map_vectors, num_proposed
from sbert.index.segment_cache import BUILDING, cache_folder, note_as_checked
from sbert.index.split_places import SegmentPlaces, SplitPlaces
from sbert.index.top_k import Int64, TopK, in_order
from sbert.index.version_rows import VersionRows
from sbert.runtime.cpus import available_cpus
from sbert.storage.files import join, open_output
from sbert.table.vector_segments import (
    INDEX_FOLDER,
    MeasuredRecall,
    SegmentFile,
    SegmentRecord,
    SegmentSplit,
    segment_name,
    write_segment,
)
from sbert.vectors.precision import Float32, StoredVectors, restore

__all__ = ["build_segment", "probes_to_try"]

log = logging.getLogger(__name__)

PROBES = (8, 16, 24, 32, 48, 64, 96, 128, 192, 256, 384, 512, 768, 1_024)
"""Numbers of lists a query that are tried, in this order."""
ROWS_PER_BLOCK = 65_536
COPY_BYTES = 8 * 2**20


class _Tuned(NamedTuple):
    probes: int
    recall: MeasuredRecall


def probes_to_try(max_probes: int) -> list[int]:
    """Return the numbers of lists a query that are tried, ascending, the last of which is the largest allowed."""
    return [*(probes for probes in PROBES if probes < max_probes), max_probes]


def build_segment(
    rows: VersionRows, places: SplitPlaces, splits: Sequence[SegmentSplit], settings: IndexSettings, run_id: str
) -> SegmentRecord:
    """Build and publish the segment that holds some splits of a version.

    Args:
        rows: rows of the version.
        places: where its splits are.
        splits: the splits.
        settings: how it is built, and the recall that it must reach.
        run_id: name of the run.

    Returns:
        The record of the segment; another run's if that run published the same segment first.

    Raises:
        QualityError: the recall stays below `min_recall`; nothing was published.
        StorageError, TableError: a shard cannot be read, or storage refuses.
    """
    began = time.monotonic()
    info = rows.table.encoder
    name = segment_name(splits, info.fingerprint, settings.segment_hash())
    cache_folder().mkdir(parents=True, exist_ok=True)
    with tempfile.TemporaryDirectory(prefix=BUILDING, dir=cache_folder()) as folder:
        vectors_path, lists_path = Path(folder) / "vectors", Path(folder) / "lists"
        stored = _copy_vectors(rows, places, splits, vectors_path)
        made = _good_lists(rows, splits, stored, settings, name)
        made.lists.save(lists_path)
        stem = f"{name}-{uuid.uuid4().hex[:8]}"
        record = SegmentRecord(
            name=name,
            encoder_fingerprint=info.fingerprint,
            settings_hash=settings.segment_hash(),
            splits=tuple(splits),
            dim=info.dim,
            precision=info.precision,
            normalized=info.normalized,
            num_lists=made.lists.num_lists,
            codes=made.codes,
            probes=made.tuned.probes,
            lists=_publish(rows.table.uri, lists_path, f"{stem}.lists"),
            vectors=_publish(rows.table.uri, vectors_path, f"{stem}.vectors"),
            recall=made.tuned.recall,
            run_id=run_id,
            built_at=dt.datetime.now(dt.UTC).isoformat(timespec="seconds"),
            seconds=round(time.monotonic() - began, 3),
        )
    written = write_segment(rows.table.uri, record)
    if written is record and "://" not in rows.table.uri:
        for file in record.files:
            note_as_checked(join(rows.table.uri, INDEX_FOLDER), record.lists.name, file)
    return written


@dataclass(frozen=True)
class _MadeLists:
    """An inverted file that reaches the recall."""

    lists: InvertedFile
    codes: RowCodes
    tuned: _Tuned


def _good_lists(
    rows: VersionRows, splits: Sequence[SegmentSplit], stored: StoredVectors, settings: IndexSettings, name: str
) -> _MadeLists:
    """Make inverted files with larger codes until one reaches the recall.

    Raises:
        QualityError: that with the largest codes does not.
    """
    best = 0.0
    for codes in codes_of(len(stored), rows.table.encoder.dim):
        lists = _make_lists(stored, codes, settings)
        tuned = _tune(lists, stored, settings)
        if tuned.recall.value >= settings.min_recall:
            return _MadeLists(lists, codes, tuned)
        best = max(best, tuned.recall.value)
        log.warning(
            "%s: recall@10 is %.3f with %s codes and %s, %s is needed",
            name, tuned.recall.value, codes, f"{counted(tuned.probes, 'list')} a query", settings.min_recall,
        )  # fmt: skip
    more = f"raise max_probes ({settings.max_probes}), or " if settings.max_probes < lists.num_lists else ""
    raise QualityError(
        f"{rows.table.uri}: the segment of {counted(len(splits), 'split')} ({counted(len(stored), 'row')}) has a recall@10 "
        f"of {best:.3f} at most, but min_recall is {settings.min_recall}, so it is left out and its rows are "
        f"searched exactly: {more}lower min_recall"
    )


def _make_lists(stored: StoredVectors, codes: RowCodes, settings: IndexSettings) -> InvertedFile:
    """Fit centroids and codes to a sample of the rows, and group all rows into lists."""
    num_lists = num_lists_of(len(stored), settings.list_factor)
    sample = sample_positions(len(stored), max(ROWS_PER_CENTROID * num_lists, ROWS_PER_BLOCK))
    lists = InvertedFile.fit(np.asarray(restore(stored[sample])), num_lists, codes)
    threads = max(1, available_cpus() // settings.concurrency)
    for first in range(0, len(stored), ROWS_PER_BLOCK):
        lists.add(np.asarray(restore(stored[first : first + ROWS_PER_BLOCK])), threads=threads)
    return lists


def _copy_vectors(rows: VersionRows, places: SplitPlaces, splits: Sequence[SegmentSplit], path: Path) -> StoredVectors:
    """Copy the vectors of splits into one file, in the order of the splits."""
    info = rows.table.encoder
    segment = SegmentPlaces.of(splits, places, frozenset(split.fingerprint for split in splits))
    num_rows = sum(split.num_rows for split in splits)
    stored = map_vectors(path, info.dim, info.precision, num_rows, write=True)
    ranges = sorted(part for split in splits for part in places.ranges[split.fingerprint])
    num_copied = 0
    for block in rows.vectors(ranges):
        stored[segment.positions_of(block.numbers_N)] = block.stored
        num_copied += len(block.numbers_N)
    assert num_copied == num_rows, f"{num_copied} rows were read for a segment of {num_rows}"
    stored.flush()  # type: ignore[attr-defined]
    return stored


def _tune(lists: InvertedFile, stored: StoredVectors, settings: IndexSettings) -> _Tuned:
    """Return the least number of lists a query that reaches the recall aimed at, else the largest that was tried."""
    own = sample_positions(len(stored), settings.recall_queries)
    queries_QD = np.asarray(restore(stored[own]))
    exact = _exact(stored, queries_QD)
    for probes in probes_to_try(min(settings.max_probes, lists.num_lists)):
        tuned = _Tuned(probes, measure_recall(own, exact, _proposed(lists, stored, queries_QD, probes)))
        if tuned.recall.value >= max(settings.aimed_recall, settings.min_recall):
            break
    return tuned


def _exact(stored: StoredVectors, queries_QD: Float32) -> tuple[Float32, Int64]:
    """Return scores and positions of the best rows."""
    best = TopK(queries_QD, NEIGHBOURS + 1)
    for first in range(0, len(stored), ROWS_PER_BLOCK):
        part = np.arange(first, min(first + ROWS_PER_BLOCK, len(stored)), dtype=np.int64)
        best.add(np.asarray(restore(stored[first : first + ROWS_PER_BLOCK])), part)
    return in_order(best.scores_QK, best.numbers_QK)


def _proposed(lists: InvertedFile, stored: StoredVectors, queries_QD: Float32, probes: int) -> tuple[Float32, Int64]:
    """Return exact scores and positions of the rows that an inverted file proposes."""
    segment = Segment(lists, stored)
    positions = segment.propose(queries_QD, num_proposed(NEIGHBOURS + 1), probes)
    best = TopK(queries_QD, NEIGHBOURS + 1)
    best.merge(segment.scores(queries_QD, positions), positions)
    return in_order(best.scores_QK, best.numbers_QK)


def _publish(table_uri: str, path: Path, name: str) -> SegmentFile:
    """Copy a file into the folder of the index."""
    output = open_output(join(table_uri, INDEX_FOLDER, name))
    digest = hashlib.sha256()
    try:
        with path.open("rb") as source:
            while block := source.read(COPY_BYTES):
                digest.update(block)
                output.write(block)
        num_bytes = output.tell()
        output.close()
    except BaseException:
        output.discard()
        raise
    return SegmentFile(name=name, num_bytes=num_bytes, sha256=digest.hexdigest())

"""Build one segment: copy the vectors of its splits, put them into a graph, measure its recall, write it, record it last.

A graph whose recall is too low gets more candidates a query. If this is not enough, a denser graph is built once. If that
is not enough either, the segment is refused: its splits stay without a segment, and search compares their rows one by one.

The rows that recall is measured with join the graph last, after it was measured: a row that is in the graph finds its
neighbours more easily than a query from outside. Only a small segment is measured with rows that are in it.
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
from typing import TYPE_CHECKING, NamedTuple

import numpy as np

from sbert.counted import counted
from sbert.errors import QualityError
from sbert.index.index_settings import IndexSettings
from sbert.index.recall import NEIGHBOURS, measure_recall, sample_positions
from sbert.index.segment import Segment, make_graph, map_vectors, num_candidates
from sbert.index.segment_cache import BUILDING, cache_folder, note_as_checked
from sbert.index.split_places import SegmentPlaces, SplitPlaces
from sbert.index.top_k import NO_ROW, Int64, TopK, in_order
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

if TYPE_CHECKING:
    from usearch.index import Index

__all__ = ["EXPANSIONS", "build_segment", "exact_and_proposed"]

log = logging.getLogger(__name__)

EXPANSIONS = (48, 64, 96, 128, 192, 256, 384, 512)
"""Numbers of candidates a query that are tried, in this order."""
ROWS_PER_BLOCK = 16_384
LARGE = 10
"""Least size of a segment, as a multiple of the rows that measure recall, to leave these rows out of the graph meanwhile."""
COPY_BYTES = 8 * 2**20


class _Tuned(NamedTuple):
    expansion: int
    recall: MeasuredRecall


def build_segment(
    rows: VersionRows, places: SplitPlaces, splits: Sequence[SegmentSplit], settings: IndexSettings, run_id: str
) -> SegmentRecord:
    """Build and publish the segment that holds some splits of a version.

    Args:
        rows: rows of the version.
        places: where its splits are.
        splits: the splits.
        settings: how the graph is built, and the recall that it must reach.
        run_id: name of the run.

    Returns:
        The record of the segment; another run's if that run published the same segment first.

    Raises:
        QualityError: the recall stays below `min_recall`; nothing was published.
        StorageError, TableError: a shard cannot be read, or storage refuses.
    """
    began = time.monotonic()
    info = rows.table.encoder
    name = segment_name(splits, info.fingerprint, settings.graph_hash())
    cache_folder().mkdir(parents=True, exist_ok=True)
    with tempfile.TemporaryDirectory(prefix=BUILDING, dir=cache_folder()) as folder:
        vectors_path, graph_path = Path(folder) / "vectors", Path(folder) / "graph"
        stored = _copy_vectors(rows, places, splits, vectors_path)
        made = _good_graph(rows, splits, stored, settings, name)
        _add_rows(made.graph, stored, made.apart)
        made.graph.save(str(graph_path))
        stem = f"{name}-{uuid.uuid4().hex[:8]}"
        record = SegmentRecord(
            name=name,
            encoder_fingerprint=info.fingerprint,
            settings_hash=settings.graph_hash(),
            splits=tuple(splits),
            dim=info.dim,
            precision=info.precision,
            normalized=info.normalized,
            connectivity=made.connectivity,
            expansion_add=made.expansion_add,
            expansion_search=made.tuned.expansion,
            graph=_publish(rows.table.uri, graph_path, f"{stem}.graph"),
            vectors=_publish(rows.table.uri, vectors_path, f"{stem}.vectors"),
            recall=made.tuned.recall,
            run_id=run_id,
            built_at=dt.datetime.now(dt.UTC).isoformat(timespec="seconds"),
            seconds=round(time.monotonic() - began, 3),
        )
    written = write_segment(rows.table.uri, record)
    if written is record and "://" not in rows.table.uri:
        for file in record.files:
            note_as_checked(join(rows.table.uri, INDEX_FOLDER), record.graph.name, file)
    return written


@dataclass(frozen=True)
class _MadeGraph:
    """A graph that reaches the recall; the rows that measured it are not in it yet."""

    graph: "Index"
    apart: Int64
    tuned: _Tuned
    connectivity: int
    expansion_add: int


def _good_graph(
    rows: VersionRows, splits: Sequence[SegmentSplit], stored: StoredVectors, settings: IndexSettings, name: str
) -> _MadeGraph:
    """Make denser graphs until one reaches the recall.

    Raises:
        QualityError: the densest does not.
    """
    info = rows.table.encoder
    for connectivity, expansion_add in _densities(settings):
        graph = make_graph(info.dim, normalized=info.normalized, connectivity=connectivity, expansion_add=expansion_add)
        apart = _rows_apart(len(stored), settings)
        _add_rows(graph, stored, np.setdiff1d(np.arange(len(stored)), apart, assume_unique=True))
        tuned = _tune(graph, stored, apart, settings)
        if tuned.recall.value >= settings.min_recall:
            return _MadeGraph(graph, apart, tuned, connectivity, expansion_add)
        log.warning(
            "%s: recall@10 is %.3f with %d neighbours a row, %s is needed: a denser graph is built",
            name, tuned.recall.value, connectivity, settings.min_recall,
        )  # fmt: skip
    raise QualityError(
        f"{rows.table.uri}: the segment of {counted(len(splits), 'split')} ({counted(len(stored), 'row')}) has a recall@10 "
        f"of {tuned.recall.value:.3f} at most, but min_recall is {settings.min_recall}, so it is left out and its rows are "
        "searched exactly: raise connectivity and expansion_add, or lower min_recall"
    )


def _densities(settings: IndexSettings) -> tuple[tuple[int, int], tuple[int, int]]:
    first = (settings.connectivity, settings.expansion_add)
    return first, (2 * first[0], 2 * first[1])


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


def _rows_apart(num_rows: int, settings: IndexSettings) -> Int64:
    """Return positions of the rows that stay out of the graph until its recall is measured."""
    is_large = num_rows >= LARGE * settings.recall_queries
    return sample_positions(num_rows, settings.recall_queries if is_large else 0)


def _add_rows(graph: "Index", stored: StoredVectors, positions: Int64) -> None:
    for first in range(0, len(positions), ROWS_PER_BLOCK):
        part = positions[first : first + ROWS_PER_BLOCK]
        graph.add(part, np.asarray(restore(stored[part])), threads=available_cpus())


def _tune(graph: "Index", stored: StoredVectors, apart: Int64, settings: IndexSettings) -> _Tuned:
    """Return the least number of candidates that reaches the recall aimed at, else the largest that was tried."""
    positions = apart if len(apart) else sample_positions(len(stored), settings.recall_queries)
    own = np.full(len(apart), NO_ROW) if len(apart) else positions
    queries_QD = np.asarray(restore(stored[positions]))
    exact = _exact(stored, apart, queries_QD)
    for expansion in EXPANSIONS:
        tuned = _Tuned(expansion, measure_recall(own, exact, exact_and_proposed(graph, stored, queries_QD, expansion)))
        if tuned.recall.value >= max(settings.aimed_recall, settings.min_recall):
            break
    return tuned


def _exact(stored: StoredVectors, apart: Int64, queries_QD: Float32) -> tuple[Float32, Int64]:
    """Return scores and positions of the best rows that are not apart."""
    best = TopK(queries_QD, NEIGHBOURS + 1)
    for first in range(0, len(stored), ROWS_PER_BLOCK):
        part = np.arange(first, min(first + ROWS_PER_BLOCK, len(stored)), dtype=np.int64)
        part = np.setdiff1d(part, apart, assume_unique=True)
        best.add(np.asarray(restore(stored[part])), part)
    return in_order(best.scores_QK, best.numbers_QK)


def exact_and_proposed(
    graph: "Index", stored: StoredVectors, queries_QD: Float32, expansion: int
) -> tuple[Float32, Int64]:
    """Return exact scores and positions of the rows that a graph proposes."""
    segment = Segment(graph, stored)
    positions = segment.propose(queries_QD, num_candidates(NEIGHBOURS + 1), expansion)
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

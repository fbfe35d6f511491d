"""Search the segments that serve a version. Each segment proposes rows, which are scored exactly. Rows without a segment are
all compared."""

import logging
import math
from collections.abc import Iterator, Sequence
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from sbert.errors import MissingError, TableError
from sbert.index.recall import NEIGHBOURS
from sbert.index.segment import Segment, num_proposed
from sbert.index.segment_cache import shrink_cache
from sbert.index.split_places import SegmentPlaces, SplitPlaces
from sbert.index.top_k import NO_ROW, Int64, TopK
from sbert.index.version_rows import RowRange, VectorBlock, VersionRows
from sbert.storage.files import join
from sbert.table.vector_segments import (
    INDEX_FOLDER,
    SegmentRecord,
    ServingSegment,
    choose_segments,
    find_version_index,
    read_segments,
)
from sbert.vectors.precision import Float32

__all__ = ["IndexView", "OpenSegment"]

log = logging.getLogger(__name__)

ROWS_PER_BLOCK = 16_384
MAX_ROWS_IN_MEMORY = 65_536
"""Rows without a segment whose vectors stay in memory."""


@dataclass(frozen=True)
class OpenSegment:
    """A segment that serves a version, open."""

    serving: ServingSegment
    segment: Segment
    places: SegmentPlaces


class IndexView:
    """The segments that serve one version, and the rows that none of them holds."""

    def __init__(
        self, rows: VersionRows, records: Sequence[SegmentRecord] | None = None, *, even_refused: bool = False
    ) -> None:
        """Open the segments. A broken segment is named in a warning and left out.

        Args:
            rows: rows of the version.
            records: the segments to use; by default those that are there.
            even_refused: whether to open them although the index of the version was refused for its recall.

        Raises:
            StorageError: storage refuses.
        """
        self._rows = rows
        self._few_rows: list[tuple[Int64, Float32]] | None = None
        self.places = SplitPlaces(rows)
        table = rows.table
        if records is None:
            records, broken = read_segments(table.uri)
            if broken:
                _warn(table.uri, broken[0], "a file of it is gone, torn or not readable")
        usable = list(records)
        measured = find_version_index(table.uri, table.version)
        if measured is not None and measured.is_refused and not even_refused:
            usable = []
        self.segments: list[OpenSegment] = []
        while True:  # without a broken segment, another one may serve its splits
            serving = choose_segments(usable, self.places.num_rows, table.encoder.fingerprint)
            try:
                self.segments = [self._open(table.uri, segment) for segment in serving]
            except _BrokenSegmentError as error:
                _warn(table.uri, error.name, str(error))
                usable = [record for record in usable if record.name != error.name]
                continue
            break
        least = max((segment.record.probes for segment in serving), default=0)
        self.probes = max(least, measured.probes if measured is not None else 0)
        """Lists that a query looks into in each segment."""
        self.splits_without_segment = self.places.without(serving)
        """Ranges of row numbers of the splits that no segment answers for."""
        shrink_cache((join(table.uri, INDEX_FOLDER), segment.record.lists.name) for segment in serving)

    @property
    def ranges_without_segment(self) -> list[RowRange]:
        """Ranges of all rows that no segment answers for, ascending."""
        return sorted(part for parts in self.splits_without_segment.values() for part in parts)

    def search(
        self,
        best: TopK,
        queries_QD: Float32,
        proposed: int,
        matching: Int64 | None = None,
        *,
        probes: int | None = None,
    ) -> None:
        """Compare the rows that the segments propose, and all rows without a segment, and keep the best.

        Args:
            best: gets the rows.
            queries_QD: the queries.
            proposed: rows that each segment proposes for a query; more where rows of a segment are gone. A query looks into
                more lists, too, where more rows are proposed than the recall was measured with.
            matching: numbers of the rows to search among, ascending; None for all.
            probes: lists that a query looks into in each segment; by default as many as the index needs for its recall.
        """
        for part in self.segments:
            share = part.serving.num_rows / part.serving.record.num_rows
            count = min(math.ceil(proposed / share), part.serving.record.num_rows)
            more = max(1.0, count / num_proposed(NEIGHBOURS + 1))  # the lists were chosen for this number of rows
            positions = part.segment.propose(queries_QD, count, math.ceil(more * (probes or self.probes)))
            numbers = part.places.numbers_at(positions)
            if matching is not None:
                numbers = np.where(_is_among(numbers, matching), numbers, NO_ROW)
            best.merge(part.segment.scores(queries_QD, np.where(numbers == NO_ROW, -1, positions)), numbers)
        for numbers, vectors_ND in self._blocks_without_segment():
            is_chosen = slice(None) if matching is None else _is_among(numbers, matching)
            best.add(vectors_ND[is_chosen], numbers[is_chosen])

    def _blocks_without_segment(self) -> Iterator[tuple[Int64, Float32]]:
        """Return numbers and vectors of the rows without a segment; few of them stay in memory for the next query."""
        if self._few_rows is None:
            ranges = self.ranges_without_segment
            blocks = ((block.numbers_N, block.vectors_ND) for block in self._rows.vectors(ranges))
            if sum(part.stop - part.first for part in ranges) > MAX_ROWS_IN_MEMORY:
                yield from blocks
                return
            self._few_rows = list(blocks)
        yield from self._few_rows

    def vectors(self) -> Iterator[VectorBlock]:
        """Return the vectors of all rows in blocks: from segments, which is quicker, else from shards."""
        for part in self.segments:
            for first in range(0, part.serving.record.num_rows, ROWS_PER_BLOCK):
                stored = part.segment.stored(slice(first, first + ROWS_PER_BLOCK))
                numbers = part.places.numbers_at(np.arange(first, first + len(stored), dtype=np.int64))
                is_there = numbers != NO_ROW
                yield (
                    VectorBlock(numbers, stored) if is_there.all() else VectorBlock(numbers[is_there], stored[is_there])
                )
        yield from self._rows.vectors(self.ranges_without_segment)

    def vectors_at(self, numbers: Int64) -> Iterator[VectorBlock]:
        """Return the vectors of rows with these numbers, ascending, from the segments, else from shards."""
        left = numbers
        for part in self.segments:
            positions = part.places.positions_of(left)
            is_there = positions >= 0
            for first in range(0, int(is_there.sum()), ROWS_PER_BLOCK):
                block = slice(first, first + ROWS_PER_BLOCK)
                yield VectorBlock(left[is_there][block], part.segment.stored(positions[is_there][block]))
            left = left[~is_there]
        yield from self._rows.vectors_at(left)

    def _open(self, table_uri: str, serving: ServingSegment) -> OpenSegment:
        record = serving.record
        try:
            segment = Segment.open(table_uri, record)
        except (MissingError, TableError, ValueError, RuntimeError) as error:
            raise _BrokenSegmentError(record.name, str(error)) from error
        return OpenSegment(serving, segment, SegmentPlaces.of(record.splits, self.places, serving.splits))


def _is_among(numbers: Int64, allowed: Int64) -> npt.NDArray[np.bool_]:
    """Return which numbers are in an ascending list."""
    if not len(allowed):
        return np.zeros(numbers.shape, np.bool_)
    places = np.minimum(np.searchsorted(allowed, numbers), len(allowed) - 1)
    return np.asarray(allowed[places] == numbers)


class _BrokenSegmentError(Exception):
    def __init__(self, name: str, message: str) -> None:
        super().__init__(message)
        self.name = name


def _warn(table_uri: str, name: str, message: str) -> None:
    log.warning(
        "%s: the segment %s is broken (%s); its rows are searched exactly until `sbert index` builds it again",
        table_uri,
        name,
        message,
    )

"""Places of the rows of each split in a version, and of the rows of a segment among them."""

from collections import defaultdict
from collections.abc import Iterable
from typing import Self

import numpy as np

from sbert.index.top_k import NO_ROW, Int64
from sbert.index.version_rows import RowRange, VersionRows
from sbert.table.shard_layout import locate_splits
from sbert.table.vector_segments import SegmentSplit, ServingSegment

__all__ = ["SegmentPlaces", "SplitPlaces"]


class SplitPlaces:
    """The rows of each split of a version, by number."""

    def __init__(self, rows: VersionRows) -> None:
        """Read the footers of compacted shards."""
        self.ranges: dict[str, list[RowRange]] = defaultdict(list)
        """Ranges of row numbers of each split, in the order of its rows."""
        self.shards = locate_splits(rows.table.uri, rows.shards)
        """The shards, with their splits filled in."""
        for shard, start in zip(self.shards, rows.starts.tolist(), strict=False):
            for split in (split for split in shard.splits if split.num_rows):
                first = start + split.first_row
                self.ranges[split.fingerprint].append(RowRange(first, first + split.num_rows))
        self.num_rows: dict[str, int] = {
            name: sum(part.stop - part.first for part in parts) for name, parts in self.ranges.items()
        }
        """Rows of each split."""

    def without(self, serving: Iterable[ServingSegment]) -> dict[str, list[RowRange]]:
        """Return the splits that none of the segments answers for."""
        covered = {name for segment in serving for name in segment.splits}
        return {name: parts for name, parts in self.ranges.items() if name not in covered}


class SegmentPlaces:
    """The number in a version of each row of a segment, and the other way round.

    A position counts the rows of a segment from 0.
    """

    def __init__(self, firsts: Int64, numbers: Int64, num_rows: int) -> None:
        """Use `of`.

        Args:
            firsts: position of the first row of each run of rows with consecutive numbers.
            numbers: number of that row; `NO_ROW` for rows that the segment does not answer for.
            num_rows: rows of the segment.
        """
        self._firsts, self._numbers, self._num_rows = firsts, numbers, num_rows

    @classmethod
    def of(cls, splits: Iterable[SegmentSplit], places: SplitPlaces, answered: frozenset[str]) -> Self:
        """Find the rows of a segment's splits; only those in `answered` have numbers."""
        firsts, numbers, position = [], [], 0
        for split in splits:
            if split.fingerprint not in answered:
                firsts.append(position)
                numbers.append(NO_ROW)
                position += split.num_rows
                continue
            for part in places.ranges[split.fingerprint]:
                firsts.append(position)
                numbers.append(part.first)
                position += part.stop - part.first
        return cls(np.array(firsts, np.int64), np.array(numbers, np.int64), position)

    def numbers_at(self, positions: Int64) -> Int64:
        """Return the numbers of rows at these positions, `NO_ROW` for a row without a number and for position -1."""
        run = np.maximum(np.searchsorted(self._firsts, positions, side="right") - 1, 0)
        numbers = self._numbers[run] + positions - self._firsts[run]
        return np.where((self._numbers[run] == NO_ROW) | (positions < 0), NO_ROW, numbers)

    def positions_of(self, numbers: Int64) -> Int64:
        """Return the positions of rows with these numbers; -1 for rows that the segment does not answer for."""
        order = np.argsort(self._numbers)
        begins = self._numbers[order]
        lengths = np.diff([*self._firsts, self._num_rows])[order]
        run = np.maximum(np.searchsorted(begins, numbers, side="right") - 1, 0)
        offset = numbers - begins[run]
        is_inside = (begins[run] != NO_ROW) & (offset >= 0) & (offset < lengths[run])
        return np.where(is_inside, self._firsts[order][run] + offset, -1)

"""Compare two streams of rows by key and content: forty bytes a row (key, content, place) go to a temporary file."""

import threading
from dataclasses import dataclass
from typing import Self

import numpy as np
import numpy.typing as npt

from sbert.table.record_file import Keys, RecordFile

__all__ = ["RowComparison", "RowDifferences"]

ROWS_PER_SLICE = 1_000_000
RECORD = np.dtype([("key", "u8", 2), ("content", "u8", 2), ("row", "i8")])
"""Rows of the table have places from 0 up, rows of the copy from -1 down."""

Places = npt.NDArray[np.int64]
"""Places of rows in the order in which they were added, ascending."""


@dataclass(frozen=True)
class RowDifferences:
    """Rows in which a copy differs from a table."""

    missing: Places
    """Rows of the table whose key the copy lacks."""
    stale: Places
    """Rows of the table that the copy has with other content, or more than once."""
    extra: Places
    """Rows of the copy whose key the table lacks."""
    repeated: Places
    """Rows of the copy whose key it has more than once."""
    num_alike: int
    """Number of the rows of the table that the copy has once, with the same content."""


class RowComparison:
    """Collects the rows of a table and of a copy of it; then tells where they differ.

    One thread may add rows of the table while another adds rows of the copy.
    """

    def __init__(self) -> None:
        """Open the temporary file."""
        self._records = RecordFile(RECORD, ROWS_PER_SLICE)
        self._lock = threading.Lock()
        self.num_table_rows = 0
        self.num_copy_rows = 0

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self._records.close()

    def add_table_rows(self, keys: Keys, content: Keys) -> None:
        """Add the next rows of the table."""
        self._add(keys, content, self.num_table_rows + np.arange(len(keys)))
        self.num_table_rows += len(keys)

    def add_table_rows_at(self, places: Places, keys: Keys, content: Keys) -> None:
        """Add rows of the table at given places; `num_table_rows` stays."""
        self._add(keys, content, places)

    def add_copy_rows(self, keys: Keys, content: Keys) -> None:
        """Add the next rows of the copy."""
        self._add(keys, content, -1 - self.num_copy_rows - np.arange(len(keys)))
        self.num_copy_rows += len(keys)

    def differences(self) -> RowDifferences:
        """Compare all rows that were added."""
        parts = [_compare(records) for records in self._records.sorted_slices()]
        missing, stale, extra, repeated = (
            np.sort(np.concatenate(places)) for places in zip(*(places for places, _ in parts), strict=True)
        )
        return RowDifferences(missing, stale, extra, repeated, num_alike=sum(num_alike for _, num_alike in parts))

    def _add(self, keys: Keys, content: Keys, rows: Places) -> None:
        with self._lock:
            self._records.add(key=keys, content=content, row=rows)


def _compare(records: npt.NDArray[np.void]) -> tuple[tuple[Places, Places, Places, Places], int]:
    """Return missing, stale, extra and repeated rows of a sorted slice, and the number of rows that are alike.

    Of one key, the rows of the copy come first.
    """
    if not len(records):
        none = np.empty(0, np.int64)
        return (none, none, none, none), 0
    starts = np.append(True, (records["key"][1:] != records["key"][:-1]).any(axis=1))
    group = np.cumsum(starts) - 1
    is_copy = records["row"] < 0
    copies = np.bincount(group, weights=is_copy)[group]
    in_table = (np.bincount(group, weights=~is_copy) > 0)[group]
    same_as_previous = np.append(False, (records["content"][1:] == records["content"][:-1]).all(axis=1))
    is_table = ~is_copy
    missing = is_table & (copies == 0)
    stale = is_table & ((copies > 1) | ((copies == 1) & ~same_as_previous))
    extra = is_copy & ~in_table
    repeated = is_copy & in_table & (copies > 1)
    num_alike = int(np.count_nonzero(is_table & ~missing & ~stale))
    row = records["row"]
    return (row[missing], row[stale], -1 - row[extra], -1 - row[repeated]), num_alike

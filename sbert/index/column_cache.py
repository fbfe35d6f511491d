"""Columns of row groups that searches have read, for the next search: a hit costs a read of its row group only once."""

import threading
from collections import OrderedDict
from typing import NamedTuple

import numpy as np
import polars as pl

from sbert.index.top_k import Int64
from sbert.index.version_rows import RowRange, VersionRows

__all__ = ["ColumnCache"]

MAX_BYTES = 256 * 2**20
MAX_NUMBERS = 10_000
"""More rows than this are read past the cache."""


class _Group(NamedTuple):
    rows: pl.DataFrame
    num_bytes: int


class ColumnCache:
    """The columns ``id``, ``source`` and the kept ones of row groups, up to `MAX_BYTES`; the last used stay."""

    def __init__(self, rows: VersionRows) -> None:
        """Begin empty."""
        self._rows = rows
        self._names = ["id", "source", *rows.table.kept_schema]
        self._groups: dict[int, list[RowRange]] = {}
        self._cached: OrderedDict[RowRange, _Group] = OrderedDict()
        self._num_bytes = 0
        self._lock = threading.Lock()

    def rows(self, numbers: Int64) -> pl.DataFrame:
        """Return the columns of the rows with these numbers, in their order.

        Raises:
            StorageError, TableError: a shard cannot be read.
        """
        if len(numbers) > MAX_NUMBERS:  # so many rows need nearly every row group, once
            return self._rows.columns(numbers, self._names)
        if not len(numbers):
            return self._rows.columns(numbers, self._names)
        parts, places = [], []
        with self._lock:
            for part in self._ranges_of(numbers):
                inside = np.flatnonzero((numbers >= part.first) & (numbers < part.stop))
                parts.append(self._group(part).rows[numbers[inside] - part.first])
                places.append(inside)
        return pl.concat(parts)[np.argsort(np.concatenate(places))]

    def _ranges_of(self, numbers: Int64) -> list[RowRange]:
        """Return the row groups that hold the rows."""
        ranges: set[RowRange] = set()
        for shard in np.unique(np.searchsorted(self._rows.starts, numbers, side="right") - 1).tolist():
            if shard not in self._groups:
                self._groups[shard] = self._rows.row_groups(shard)
            first = np.array([part.first for part in self._groups[shard]])
            inside = numbers[(numbers >= self._rows.starts[shard]) & (numbers < self._rows.starts[shard + 1])]
            ranges |= {self._groups[shard][at] for at in (np.searchsorted(first, inside, side="right") - 1).tolist()}
        return sorted(ranges)

    def _group(self, part: RowRange) -> _Group:
        if part in self._cached:
            self._cached.move_to_end(part)
            return self._cached[part]
        rows = self._rows.columns(np.arange(part.first, part.stop, dtype=np.int64), self._names)
        group = _Group(rows, int(rows.estimated_size()))
        self._cached[part] = group
        self._num_bytes += group.num_bytes
        while self._num_bytes > MAX_BYTES and len(self._cached) > 1:
            self._num_bytes -= self._cached.popitem(last=False)[1].num_bytes
        return group

"""Find rows that share a key in a stream that is too long to remember: 24 bytes a row go to a temporary file."""

from typing import Literal, Self

import numpy as np
import numpy.typing as npt
import polars as pl

from sbert.table.record_file import Keys, RecordFile

__all__ = ["KeyLedger", "row_keys"]

RECORD = np.dtype([("key", "u8", 2), ("row", "i8")])
ROWS_PER_SLICE = 2_000_000
SEEDS = (0x5BE27, 0xA11CE)


def row_keys(rows: pl.DataFrame, *columns: str) -> Keys:
    """Return a 128-bit key of each row's values in `columns`; keys are comparable within this process only."""
    value = pl.struct(columns)
    return rows.select(high=value.hash(SEEDS[0]), low=value.hash(SEEDS[1])).to_numpy().astype(np.uint64)


class KeyLedger:
    """Remember the keys of a stream of rows, then tell which rows another row of the same key supersedes."""

    def __init__(self, keep: Literal["first", "last"]) -> None:
        """Keep one row for each key: the first or the last that was added."""
        self._keep = keep
        self._records = RecordFile(RECORD, ROWS_PER_SLICE)

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def add(self, keys: Keys, positions: npt.NDArray[np.int64]) -> None:
        """Add the next rows of the stream; `positions` ascend from call to call."""
        self._records.add(key=keys, row=positions)

    def superseded(self) -> npt.NDArray[np.int64]:
        """Return the positions in the stream, ascending, of the rows that another row of the same key supersedes."""
        return np.sort(np.concatenate([self._superseded_in(records) for records in self._records.sorted_slices()]))

    def close(self) -> None:
        """Remove the temporary file."""
        self._records.close()

    def _superseded_in(self, records: npt.NDArray[np.void]) -> npt.NDArray[np.int64]:
        same_as_next = (records["key"][1:] == records["key"][:-1]).all(axis=1)
        superseded = np.zeros(len(records), dtype=np.bool_)
        if self._keep == "last":
            superseded[:-1] = same_as_next
        else:
            superseded[1:] = same_as_next
        return np.asarray(records["row"][superseded], dtype=np.int64)

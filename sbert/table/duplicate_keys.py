"""Find rows that share a key in a stream that is too long to remember.

The one idea: 24 bytes a row go to a temporary file; at the end the file is read once per slice of the key space, so
memory is bounded by the slice and not by the stream.
"""

import tempfile
from typing import Literal, Self

import numpy as np
import numpy.typing as npt
import polars as pl

from sbert.storage.files import translate_errors

__all__ = ["KeyLedger", "row_keys"]

RECORD = np.dtype([("high", "u8"), ("low", "u8"), ("row", "i8")])
ROWS_PER_SLICE = 2_000_000
ROWS_PER_READ = 262_144
SEEDS = (0x5BE27, 0xA11CE)

Keys = npt.NDArray[np.uint64]
"""128-bit keys as pairs of numbers, shape (rows, 2)."""


def row_keys(rows: pl.DataFrame, *columns: str) -> Keys:
    """Give a 128-bit key of each row's values in `columns`; only comparable within this process."""
    value = pl.struct(columns)
    return rows.select(high=value.hash(SEEDS[0]), low=value.hash(SEEDS[1])).to_numpy().astype(np.uint64)


class KeyLedger:
    """Remember the keys of a stream of rows; afterwards tell which rows are superseded."""

    def __init__(self, keep: Literal["first", "last"]) -> None:
        """Of rows with one key, keep the first or the last that was added."""
        self._keep = keep
        self._file = tempfile.TemporaryFile(prefix="sbert-keys-")  # noqa: SIM115  (closed by close)
        self._num_rows = 0

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def add(self, keys: Keys, positions: npt.NDArray[np.int64]) -> None:
        """Add the next rows of the stream; `positions` ascend from call to call."""
        records = np.empty(len(keys), dtype=RECORD)
        records["high"], records["low"] = keys[:, 0], keys[:, 1]
        records["row"] = positions
        with translate_errors(tempfile.gettempdir()):
            self._file.write(records.tobytes())
        self._num_rows += len(keys)

    def superseded(self) -> npt.NDArray[np.int64]:
        """Give the positions in the stream, ascending, of the rows that another row of the same key replaces."""
        with translate_errors(tempfile.gettempdir()):
            self._file.flush()
        num_slices = max(1, -(-self._num_rows // ROWS_PER_SLICE))
        losers = [self._superseded_in(number, num_slices) for number in range(num_slices)]
        return np.sort(np.concatenate(losers))

    def close(self) -> None:
        """Remove the temporary file."""
        self._file.close()

    def _superseded_in(self, number: int, num_slices: int) -> npt.NDArray[np.int64]:
        self._file.seek(0)
        parts = [np.empty(0, dtype=RECORD)]
        while chunk := self._file.read(ROWS_PER_READ * RECORD.itemsize):
            records = np.frombuffer(chunk, dtype=RECORD)
            parts.append(records if num_slices == 1 else records[records["high"] % num_slices == number])
        records = np.concatenate(parts)
        order = np.lexsort((records["row"], records["low"], records["high"]))
        ordered = records[order]
        same = (ordered["high"][1:] == ordered["high"][:-1]) & (ordered["low"][1:] == ordered["low"][:-1])
        loser = np.zeros(len(ordered), dtype=np.bool_)
        if self._keep == "last":
            loser[:-1] = same
        else:
            loser[1:] = same
        return ordered["row"][loser]

"""A temporary file of fixed-size records that is sorted in slices, for streams that are longer than memory.

Each record has a 128-bit key. The file is read once per slice of the key space, so memory is bounded by the slice, and
all records of one key are in the same slice.
"""

import tempfile
from collections.abc import Iterator
from typing import Any, Self

import numpy as np
import numpy.typing as npt

from sbert.storage.errors import translate_errors

__all__ = ["Keys", "RecordFile"]

RECORDS_PER_READ = 262_144

Keys = npt.NDArray[np.uint64]
"""128-bit keys as pairs of numbers, shape (rows, 2)."""
Records = npt.NDArray[np.void]


class RecordFile:
    """Records with the fields ``key`` (two numbers), ``row`` and others; a slice of them at a time is sorted."""

    def __init__(self, record: np.dtype[Any], records_per_slice: int) -> None:
        """Open the temporary file; a slice holds about `records_per_slice` records."""
        self._record = record
        self._records_per_slice = records_per_slice
        self._file = tempfile.TemporaryFile(prefix="sbert-records-")  # noqa: SIM115  (closed by close)
        self._num_records = 0

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def add(self, **fields: npt.ArrayLike) -> None:
        """Append records, given as one array per field.

        Raises:
            StorageError: the disk is full.
        """
        records = np.empty(len(np.asarray(fields["key"])), dtype=self._record)
        for name, values in fields.items():
            records[name] = values
        with translate_errors(tempfile.gettempdir()):
            self._file.write(records.tobytes())
        self._num_records += len(records)

    def sorted_slices(self) -> Iterator[Records]:
        """Yield every record once, in slices; a slice is sorted by key, then by row."""
        with translate_errors(tempfile.gettempdir()):
            self._file.flush()
        num_slices = max(1, -(-self._num_records // self._records_per_slice))
        for number in range(num_slices):
            records = self._slice(number, num_slices)
            yield records[np.lexsort((records["row"], records["key"][:, 1], records["key"][:, 0]))]

    def close(self) -> None:
        """Remove the temporary file."""
        self._file.close()

    def _slice(self, number: int, num_slices: int) -> Records:
        self._file.seek(0)
        parts = [np.empty(0, dtype=self._record)]
        while chunk := self._file.read(RECORDS_PER_READ * self._record.itemsize):
            records = np.frombuffer(chunk, dtype=self._record)
            parts.append(records if num_slices == 1 else records[records["key"][:, 0] % num_slices == number])
        return np.concatenate(parts)

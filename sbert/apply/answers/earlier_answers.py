"""The output of the night before as Arrow columns, so that rows whose list cannot change are carried over as they are."""

from collections.abc import Collection, Iterator

import numpy as np
import numpy.typing as npt
import pyarrow as pa
import pyarrow.compute as pc

from sbert.apply.nearest_rows import Key
from sbert.vectors.precision import Float32

__all__ = ["RowsBefore", "are_same_rows", "last_scores", "names_any", "with_replaced"]

Bools = npt.NDArray[np.bool_]
Int64 = npt.NDArray[np.int64]


class RowsBefore:
    """Rows of the output before of one split, as many at a time as are asked for."""

    def __init__(self, batches: Iterator[pa.RecordBatch], schema: pa.Schema) -> None:
        """Begin with the first row.

        Args:
            batches: the rows in their order.
            schema: the columns that are read, with their types.
        """
        self._batches = batches
        self._waiting = schema.empty_table()

    def take(self, num_rows: int) -> pa.Table:
        """Return the next rows; fewer where the output ends."""
        while len(self._waiting) < num_rows:
            batch = next(self._batches, None)
            if batch is None:
                break
            rows = pa.Table.from_batches([batch]).select(self._waiting.column_names).cast(self._waiting.schema)
            self._waiting = pa.concat_tables([self._waiting, rows])
        taken, self._waiting = self._waiting.slice(0, num_rows), self._waiting.slice(num_rows)
        return taken


def are_same_rows(old: pa.Table, rows: pa.Table) -> bool:
    """Return whether two blocks have the same rows in the same order."""
    return len(old) == len(rows) and all(old[name].equals(rows[name]) for name in ("source", "id"))


def last_scores(lists: pa.ChunkedArray, k: int) -> Float32:
    """Return the score of the last answer of each list of k answers; minus infinity for shorter lists."""
    starts_Q, flat = _flat(lists)
    last = np.full(len(lists), -np.inf, np.float32)
    is_full = np.diff(starts_Q) == k
    last[is_full] = flat.field("score").to_numpy()[starts_Q[1:][is_full] - 1]
    return last


def names_any(lists: pa.ChunkedArray, keys: Collection[Key]) -> Bools:
    """Return for each list whether it has an answer with one of the keys."""
    has_key = np.zeros(len(lists), np.bool_)
    if not keys:
        return has_key
    starts_Q, flat = _flat(lists)
    has_id = pc.is_in(flat.field("id"), value_set=pa.array({name for _, name in keys}, flat.field("id").type))
    places = np.flatnonzero(has_id.to_numpy(zero_copy_only=False))
    candidates = flat.take(pa.array(places))
    sources, ids = candidates.field("source").to_pylist(), candidates.field("id").to_pylist()
    left = [place for place, *key in zip(places.tolist(), sources, ids, strict=True) if tuple(key) in keys]
    has_key[np.searchsorted(starts_Q, left, side="right") - 1] = True
    return has_key


def with_replaced(old: pa.Table, places: Collection[int], new: pa.Table) -> pa.Table:
    """Return the old rows with those at some places replaced by the new ones."""
    order = np.arange(len(old))
    order[list(places)] = len(old) + np.arange(len(new))
    return pa.concat_tables([old, new]).take(pa.array(order))


def _flat(lists: pa.ChunkedArray) -> tuple[Int64, pa.StructArray]:
    """Return where each list begins in all answers, and where the last ends; and all answers."""
    lengths = pc.list_value_length(lists).to_numpy()
    return np.concatenate([[0], np.cumsum(lengths)]), pc.list_flatten(lists).combine_chunks()

"""Take rows out of a split that another row of the same split replaces.

A row can be replaced by a row that comes later, so the split is streamed again without it: each pass remembers the keys of
its rows, and the next pass takes out the rows that were replaced.
"""

from typing import Literal, Self

import numpy as np
import numpy.typing as npt
import polars as pl

from sbert.rows.rejects import REJECT_SCHEMA, RejectReason, original_of
from sbert.table.duplicate_keys import KeyLedger, row_keys

__all__ = ["DuplicateRows", "describe_rejects"]

DETAILS = {
    RejectReason.DUPLICATE_ID: "a later row of this object has the same id",
    RejectReason.DUPLICATE_TEXT: "an earlier row of this object has the same cleaned text",
}


class DuplicateRows:
    """Rows of a split that share the values of some columns; one of them is kept."""

    def __init__(self, reason: RejectReason, columns: tuple[str, ...], keep: Literal["first", "last"]) -> None:
        """Keep the first or the last of the rows with equal `columns`; reject the others for `reason`."""
        self._reason = reason
        self._columns = columns
        self._keep = keep
        self._superseded = np.zeros(0, dtype=np.int64)
        self._num_rows = 0

    def __enter__(self) -> Self:
        """Begin a pass over the split."""
        self._ledger = KeyLedger(self._keep)
        self._num_rows = 0
        return self

    def __exit__(self, *_: object) -> None:
        self._ledger.close()

    def take_out(self, rows: pl.DataFrame) -> tuple[pl.DataFrame, pl.DataFrame]:
        """Return the next rows of the pass without replaced rows, and the replaced rows as rejected rows."""
        positions = np.arange(self._num_rows, self._num_rows + rows.height, dtype=np.int64)
        self._num_rows += rows.height
        out: npt.NDArray[np.bool_] = np.isin(positions, self._superseded)
        kept = rows.filter(~out)
        self._ledger.add(row_keys(kept, *self._columns), positions[~out])
        return kept, describe_rejects(rows, pl.Series(out, dtype=pl.Boolean), self._reason)

    def note(self) -> bool:
        """Note the rows of this pass that are replaced; return whether there are any, so that another pass is needed."""
        superseded = self._ledger.superseded()
        self._superseded = np.union1d(self._superseded, superseded)
        return len(superseded) > 0


def describe_rejects(
    rows: pl.DataFrame, out: pl.Series, reason: RejectReason, detail: pl.Series | None = None
) -> pl.DataFrame:
    """Describe the rows marked in `out` as rejected.

    Args:
        rows: columns source, row, id and others.
        out: which rows are rejected.
        reason: why.
        detail: a sentence for each rejected row; None for the sentence of the reason.
    """
    rejected = rows.filter(out)
    return rejected.select(
        "source",
        "row",
        "id",
        pl.lit(reason.value).alias("reason"),
        pl.lit(DETAILS[reason]).alias("detail") if detail is None else detail.alias("detail"),
        original_of(rejected).alias("original"),
    ).cast(REJECT_SCHEMA)

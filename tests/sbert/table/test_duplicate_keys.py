"""Superseded rows are found whatever the length of the stream."""

import numpy as np
import polars as pl
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from sbert.table import duplicate_keys as duplicates
from sbert.table import record_file
from sbert.table.duplicate_keys import KeyLedger, row_keys


def superseded(ids: list[str], keep: str, block: int = 3) -> list[int]:
    with KeyLedger(keep=keep) as ledger:  # type: ignore[arg-type]
        for first in range(0, len(ids), block):
            part = pl.DataFrame({"id": ids[first : first + block]})
            ledger.add(row_keys(part, "id"), np.arange(first, first + part.height, dtype=np.int64))
        return ledger.superseded().tolist()


def test_keep_last_gives_the_earlier_rows() -> None:
    assert superseded(["a", "b", "a", "c", "a", "b"], "last") == [0, 1, 2]


def test_keep_first_gives_the_later_rows() -> None:
    assert superseded(["a", "b", "a", "c", "a", "b"], "first") == [2, 4, 5]


def test_a_stream_without_rows_has_nothing_superseded() -> None:
    assert superseded([], "last") == []


def test_keys_depend_on_every_column() -> None:
    rows = pl.DataFrame({"source": ["x", "y", "x"], "id": ["1", "1", "1"]})
    keys = row_keys(rows, "source", "id")
    assert keys.shape == (3, 2)
    assert (keys[0] == keys[2]).all()
    assert (keys[0] != keys[1]).any()


@settings(max_examples=50, deadline=None)
@given(ids=st.lists(st.sampled_from("abcdefgh"), max_size=60), slice_rows=st.integers(1, 20))
def test_slicing_the_key_space_changes_nothing(ids: list[str], slice_rows: int) -> None:
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(duplicates, "ROWS_PER_SLICE", slice_rows)
        patch.setattr(record_file, "RECORDS_PER_READ", 7)
        expected = [at for at, value in enumerate(ids) if value in ids[at + 1 :]]
        assert superseded(ids, "last") == expected

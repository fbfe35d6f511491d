"""Records come back sorted, each once, whatever the size of the slices."""

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from sbert.table import record_file
from sbert.table.record_file import RecordFile

RECORD = np.dtype([("key", "u8", 2), ("row", "i8")])


@settings(max_examples=50, deadline=None)
@given(keys=st.lists(st.tuples(st.integers(0, 5), st.integers(0, 2)), max_size=40), per_slice=st.integers(1, 9))
def test_every_record_is_in_one_sorted_slice_with_all_of_its_key(keys: list[tuple[int, int]], per_slice: int) -> None:
    with pytest.MonkeyPatch.context() as patch, RecordFile(RECORD, per_slice) as records:
        patch.setattr(record_file, "RECORDS_PER_READ", 7)
        for first in range(0, len(keys), 4):
            part = keys[first : first + 4]
            records.add(key=np.array(part, np.uint64).reshape(-1, 2), row=np.arange(first, first + len(part)))
        slices = [
            [(int(high), int(low), int(row)) for (high, low), row in zip(part["key"], part["row"], strict=True)]
            for part in records.sorted_slices()
        ]
    assert all(part == sorted(part) for part in slices)
    assert sorted(item for part in slices for item in part) == sorted(
        (high, low, row) for row, (high, low) in enumerate(keys)
    )
    slices_of_key = [{(high, low) for high, low, _ in part} for part in slices]
    assert sum(map(len, slices_of_key)) == len(set(keys))

"""Vectors of length 1."""

import numpy as np

from sbert.vectors.unit import unit_rows


def test_rows_have_length_1_and_zeros_stay() -> None:
    found = unit_rows(np.array([[3, 4], [0, 0]], np.float32))
    np.testing.assert_allclose(found, [[0.6, 0.8], [0, 0]])
    assert found.dtype == np.float32

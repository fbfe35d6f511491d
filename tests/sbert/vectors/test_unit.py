"""Vectors of length 1."""

import numpy as np

from sbert.vectors.unit import unit_rows, unit_vector


def test_rows_have_length_1_and_zeros_stay() -> None:
    normalized = unit_rows(np.array([[3, 4], [0, 0]], np.float32))
    np.testing.assert_allclose(normalized, [[0.6, 0.8], [0, 0]])
    assert normalized.dtype == np.float32


def test_vectors_in_double_precision_stay_in_it() -> None:
    assert unit_rows(np.array([[3.0, 4.0]])).dtype == np.float64


def test_a_vector_has_length_1_and_zeros_stay() -> None:
    np.testing.assert_allclose(unit_vector(np.array([3.0, 4.0])), [0.6, 0.8])
    np.testing.assert_array_equal(unit_vector(np.zeros(2, np.float32)), np.zeros(2))

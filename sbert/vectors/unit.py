"""Vectors of length 1."""

from typing import TypeVar

import numpy as np
import numpy.typing as npt

__all__ = ["unit_rows", "unit_vector"]

LEAST_NORM = 1e-12
"""Shorter vectors are divided by this, so that a vector of zeros stays one."""

Value = TypeVar("Value", np.float32, np.float64)


def unit_rows(vectors_ND: npt.NDArray[Value]) -> npt.NDArray[Value]:
    """Return the rows of a matrix with length 1, shape (N, D), in the same type; a row of zeros stays."""
    norms_N1 = np.linalg.norm(vectors_ND, axis=1, keepdims=True)
    unit_ND: npt.NDArray[Value] = vectors_ND / np.maximum(norms_N1, LEAST_NORM)
    return unit_ND


def unit_vector(vector_D: npt.NDArray[Value]) -> npt.NDArray[Value]:
    """Return a vector with length 1, shape (D,), in the same type; a vector of zeros stays."""
    unit_D: npt.NDArray[Value] = vector_D / max(float(np.linalg.norm(vector_D)), LEAST_NORM)
    return unit_D

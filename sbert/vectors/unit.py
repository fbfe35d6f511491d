"""Vectors of length 1."""

import numpy as np

from sbert.vectors.precision import Float32

__all__ = ["unit_rows"]


def unit_rows(vectors_ND: Float32) -> Float32:
    """Return the rows of a matrix with length 1, shape (N, D); a row of zeros stays."""
    norms_N1 = np.linalg.norm(vectors_ND, axis=1, keepdims=True)
    return np.asarray(vectors_ND / np.maximum(norms_N1, 1e-12), np.float32)

"""The first principal components of vectors: distances stay nearly the same, at a fraction of the cost."""

import numpy as np

from sbert.vectors.precision import Float32

__all__ = ["principal_components"]

COMPONENTS = 50
"""Principal components that distances are computed from: nearest rows stay nearly the same, at an eighth of the cost."""


def principal_components(vectors_ND: Float32) -> Float32:
    """Return the first principal components of rows, shape (N, up to 50 but at least 2); signs are fixed."""
    centred_ND = vectors_ND - vectors_ND.mean(axis=0)
    covariance_DD = (centred_ND.T @ centred_ND).astype(np.float64)
    _, axes_DD = np.linalg.eigh(covariance_DD)
    axes_DC = axes_DD[:, ::-1][:, :COMPONENTS]
    axes_DC = axes_DC * np.sign(axes_DC[np.abs(axes_DC).argmax(axis=0), np.arange(axes_DC.shape[1])])
    components_NC = centred_ND @ axes_DC.astype(np.float32)
    missing = max(0, 2 - components_NC.shape[1])
    padded: Float32 = np.pad(components_NC, ((0, 0), (0, missing)))
    return padded

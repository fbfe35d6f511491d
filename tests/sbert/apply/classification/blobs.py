"""Labelled vectors of which it is known how hard they are."""

import numpy as np
import numpy.typing as npt

from sbert.apply.classification.fit import HeadOrigin

__all__ = ["ORIGIN", "blobs"]

ORIGIN = HeadOrigin(fingerprint="f" * 32, encoder_fingerprint="e", labels_fingerprint="l")
"""Names for a head that is fitted to such vectors."""


def blobs(
    num_rows: int, *, num_classes: int = 3, dim: int = 8, spread: float = 0.5, seed: int = 0
) -> tuple[npt.NDArray[np.float32], list[str]]:
    """Return unit vectors around one centre for each class, and their classes."""
    random = np.random.default_rng(seed)
    centres = np.random.default_rng(1).standard_normal((num_classes, dim))
    truth = random.integers(0, num_classes, num_rows)
    vectors = centres[truth] + spread * np.sqrt(dim) * random.standard_normal((num_rows, dim))
    vectors /= np.linalg.norm(vectors, axis=1, keepdims=True)
    return vectors.astype(np.float32), [f"class {number}" for number in truth]

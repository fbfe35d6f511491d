"""Checks that every vector passes before it can be published.

A collapsed or wrongly loaded encoder gives vectors that look fine one by one and are useless together. So the similarity of
random pairs is checked besides the properties of each vector.
"""

import numpy as np
import numpy.typing as npt

from sbert.errors import QualityError
from sbert.vectors.precision import NORM_TOLERANCE

__all__ = [
    "COLLAPSE_COSINE",
    "MIN_OWN_TEXTS",
    "PROBE_TEXTS",
    "check_not_collapsed",
    "check_vectors",
    "mean_cosine_of_random_pairs",
]

COLLAPSE_COSINE = 0.995
"""Random pairs of different texts that are on average more alike than this mean a collapsed encoder. Strongly
anisotropic encoders stay below it, and so do corpora of near-identical texts ("ticket 4711", "ticket 4712")."""
PROBE_TEXTS = (
    "The cat sat on the mat.",
    "Interest rates rose by a quarter of a point in March.",
    "How do I reset my password?",
    "import numpy as np",
    "Der Zug nach Hamburg hat zwanzig Minuten Verspätung.",
    "Photosynthesis turns light into chemical energy.",
    "red",
    "She won the match in straight sets after a long rain delay and thanked the crowd.",
    "SELECT name FROM users WHERE id = 42",
    "Preheat the oven to 180 degrees and butter a cake tin.",
    "今天天气很好。",
    "ERROR: connection refused on port 5432",
)
"""Very different texts: an encoder is broken if their vectors are all alike."""
MIN_PROBE_TEXTS = 8
MIN_OWN_TEXTS = 64
"""A corpus' own texts may all be alike when they are few, unlike the probe texts, which each worker tries at load."""


def check_vectors(
    embeddings_ND: npt.NDArray[np.float32],
    *,
    dim: int,
    normalized: bool,
    what: str,
    tolerance: float | npt.NDArray[np.float32] = NORM_TOLERANCE,
) -> None:
    """Check N new vectors: finite, of the right dim, of unit norm (not zero when not normalized).

    `tolerance` is how far a norm may be from 1, for all vectors or for each.

    Raises:
        QualityError: naming `what`, the number of bad vectors and the first one.
    """
    if embeddings_ND.ndim != 2 or embeddings_ND.shape[1] != dim:
        raise QualityError(f"{what}: vectors have shape {embeddings_ND.shape}, expected (rows, {dim})")
    finite: npt.NDArray[np.bool_] = np.asarray(np.isfinite(embeddings_ND).all(axis=1))
    if not finite.all():
        raise QualityError(
            f"{what}: {int((~finite).sum())} of {len(finite)} vectors hold NaN or infinity (first: row "
            f"{int(np.argmin(finite))}): try compute_dtype float32, or check the model's weights"
        )
    norms = np.linalg.norm(embeddings_ND, axis=1)
    good = np.asarray(np.abs(norms - 1.0) <= tolerance if normalized else norms > 0)
    if not good.all():
        first = int(np.argmin(good))
        raise QualityError(
            f"{what}: {int((~good).sum())} of {len(good)} vectors have a wrong norm (first: row {first}, norm "
            f"{float(norms[first]):.6f}, expected {'1' if normalized else 'above 0'}): check the model's weights"
        )


def mean_cosine_of_random_pairs(embeddings_ND: npt.NDArray[np.float32]) -> float:
    """Return the mean cosine over all pairs of N different vectors: (|sum of unit vectors|^2 - N) / (N (N - 1)).

    The alignment of random pairs as in Ethayarajh 2019, "How Contextual are Contextualized Word Representations?",
    section 3.2 (there called self-similarity of random words).
    """
    norms = np.linalg.norm(embeddings_ND, axis=1, keepdims=True)
    unit_ND = embeddings_ND.astype(np.float64) / np.maximum(norms, 1e-12)
    num = len(unit_ND)
    return float((np.square(unit_ND.sum(axis=0)).sum() - num) / (num * (num - 1)))


def check_not_collapsed(
    embeddings_ND: npt.NDArray[np.float32],
    *,
    what: str,
    min_texts: int = MIN_PROBE_TEXTS,
    max_mean_cosine: float = COLLAPSE_COSINE,
) -> None:
    """Check that vectors of N different texts are not all alike; fewer than `min_texts` pass unchecked.

    Raises:
        QualityError: when the mean cosine of random pairs is above `max_mean_cosine`.
    """
    if len(embeddings_ND) < min_texts:
        return
    cosine = mean_cosine_of_random_pairs(embeddings_ND)
    if cosine > max_mean_cosine:
        raise QualityError(
            f"{what}: {len(embeddings_ND)} different texts have a mean cosine of {cosine:.4f}, above "
            f"{max_mean_cosine}: the encoder has collapsed or was loaded wrongly, nothing was published. "
            "Check the model folder (weights, pooling), use another model, or raise quality.max_mean_cosine when the texts "
            "are really that similar"
        )

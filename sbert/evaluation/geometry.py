"""The shape of an embedding space: measure whether it is spread out or has collapsed."""

import numpy as np
import numpy.typing as npt
from pydantic import BaseModel, ConfigDict, Field

from sbert.vectors.checks import mean_cosine_of_random_pairs
from sbert.vectors.unit import unit_rows

__all__ = ["Geometry", "alignment", "effective_rank", "measure_geometry", "uniformity"]

Vectors = npt.NDArray[np.float32]
UNIFORMITY_T = 2.0


class Geometry(BaseModel):
    """Measures of the vectors of different texts."""

    model_config = ConfigDict(frozen=True)

    num_texts: int = Field(description="Different texts that were probed.")
    mean_cosine: float = Field(description="Mean cosine of random pairs; near 1 means collapsed.")
    effective_rank: float = Field(description="Dimensions in real use (Roy and Vetterli 2007); near 1 means collapsed.")
    uniformity: float = Field(description="Log of the mean Gaussian potential of pairs; lower is more spread out.")


def unit(vectors_ND: Vectors) -> npt.NDArray[np.float64]:
    """Return vectors of length 1 in double precision; zero vectors stay."""
    return unit_rows(vectors_ND.astype(np.float64))


def alignment(left_ND: Vectors, right_ND: Vectors) -> npt.NDArray[np.float64]:
    """Return the squared distance of each positive pair on the unit sphere; its mean is the alignment.

    ``E ||f(x) - f(y)||^2`` of Wang and Isola 2020, "Understanding Contrastive Representation Learning through
    Alignment and Uniformity on the Hypersphere", section 4.1 (alpha = 2); lower is better.
    """
    return np.asarray(np.square(unit(left_ND) - unit(right_ND)).sum(axis=1))


def uniformity(vectors_ND: Vectors) -> float:
    """Return ``log E exp(-2 ||f(x) - f(y)||^2)`` over all pairs of different rows (Wang and Isola 2020, section 4.1).

    The value lies between -4 (pairs are orthogonal on average, or better) and 0 (all vectors are equal). Lower is more
    uniform.
    """
    unit_ND = unit(vectors_ND)
    cosines = unit_ND @ unit_ND.T
    potentials = np.exp(-UNIFORMITY_T * (2.0 - 2.0 * cosines))
    num = len(unit_ND)
    return float(np.log((potentials.sum() - np.trace(potentials)) / (num * (num - 1))))


def effective_rank(vectors_ND: Vectors) -> float:
    """Return ``exp(H(p))``, the entropy H of the singular values divided by their sum.

    Roy and Vetterli 2007, "The effective rank: a measure of effective dimensionality", definition 1. The vectors are not
    centred: an encoder that gives nearly the same vector to every text has rank 1, not the rank of its noise.
    """
    values = np.linalg.svd(unit(vectors_ND), compute_uv=False)
    shares = values / max(values.sum(), 1e-300)
    shares = shares[shares > 0]
    return float(np.exp(-(shares * np.log(shares)).sum()))


def measure_geometry(vectors_ND: Vectors) -> Geometry:
    """Probe the vectors of N different texts, at least two."""
    return Geometry(
        num_texts=len(vectors_ND),
        mean_cosine=mean_cosine_of_random_pairs(vectors_ND),
        effective_rank=effective_rank(vectors_ND),
        uniformity=uniformity(vectors_ND),
    )

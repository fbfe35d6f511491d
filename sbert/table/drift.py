"""Measure the distance of the vectors of one version from the vectors of another.

Three views of two samples: the cosine of their means (a shift of the whole cloud), the population stability index and the
energy distance along fixed directions (a change of its shape). Rules of thumb for the index: below 0.1 stable, above 0.25
changed.
"""

from collections.abc import Sequence

import numpy as np
import numpy.typing as npt
from scipy import stats

__all__ = ["cosine_of_means", "energy_distance", "stability_index"]

NUM_BINS = 10
ROUNDING = 1e-4
"""Differences below this share of the standard deviation are rounding errors of the encoder."""


def cosine_of_means(one_D: Sequence[float], other_D: Sequence[float]) -> float:
    """Return the cosine of two mean vectors, both of shape (dim,); NaN when one has no direction."""
    one, other = np.asarray(one_D, np.float64), np.asarray(other_D, np.float64)
    norms = np.linalg.norm(one) * np.linalg.norm(other)
    return float(one @ other / norms) if norms > 0 else float("nan")


def stability_index(base_KN: Sequence[Sequence[float]], now_KM: Sequence[Sequence[float]]) -> float:
    """Return the population stability index, the mean over K directions.

    PSI = Σ (qᵢ - pᵢ) ln(qᵢ / pᵢ) over the deciles of the base (Siddiqi, *Credit Risk Scorecards*, 2006; its distribution:
    Yurdakul and Naranjo, *Statistical properties of the population stability index*, 2020). Shares get half a row
    more per bin, so that an empty bin does not make it infinite.
    """
    return float(np.mean([_stability(np.asarray(p), np.asarray(q)) for p, q in zip(base_KN, now_KM, strict=True)]))


def _stability(base: npt.NDArray[np.float64], now: npt.NDArray[np.float64]) -> float:
    base, now = _rounded(base, now)
    edges = np.quantile(base, np.linspace(0, 1, NUM_BINS + 1)[1:-1])
    p, q = (
        (np.bincount(np.searchsorted(edges, sample), minlength=NUM_BINS) + 0.5) / (len(sample) + 0.5 * NUM_BINS)
        for sample in (base, now)
    )
    return float(np.sum((q - p) * np.log(q / p)))


def _rounded(base: npt.NDArray[np.float64], now: npt.NDArray[np.float64]) -> list[npt.NDArray[np.float64]]:
    """Round both samples alike: a row that lies on an edge between bins must not change sides by the last bit."""
    step = float(np.std(base)) * ROUNDING
    return [base, now] if step == 0 else [np.rint(sample / step) * step for sample in (base, now)]


def energy_distance(base_KN: Sequence[Sequence[float]], now_KM: Sequence[Sequence[float]]) -> float:
    """Return the energy distance (Székely and Rizzo, *Energy statistics*, 2013), the mean over K directions.

    Distances of distributions averaged over directions are distances again (Bonneel et al., *Sliced and Radon Wasserstein
    barycenters of measures*, 2015).
    """
    return float(np.mean([stats.energy_distance(p, q) for p, q in zip(base_KN, now_KM, strict=True)]))

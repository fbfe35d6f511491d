"""Shares of classes, corrected for the mistakes of the classifier that named them."""

import numpy as np
import numpy.typing as npt
import scipy.optimize

__all__ = ["CorrectedShares", "corrected_shares"]

Float64 = npt.NDArray[np.float64]

NUM_DRAWS = 200
CONFIDENCE = 0.95


class CorrectedShares:
    """Estimates the true shares of classes among rows from the classes that a head named.

    A head names class ``j`` for a row of class ``i`` with probability ``M[i, j]``. So the named shares are expected to be
    ``q = Mᵀ π`` of the true shares ``π``, and ``π`` is the nearest point of the simplex (adjusted counts: Forman 2008,
    "Quantifying counts and costs via classification", section 2.2). Intervals come from draws of the named counts and of
    ``M`` from their posteriors, since both are estimates.
    """

    def __init__(self, confusion_CC: npt.NDArray[np.int64], seed: int = 0) -> None:
        """Use the confusion on rows that the head had not seen: true classes by rows, named classes by columns."""
        random = np.random.default_rng(seed)
        prior_CC = np.full(confusion_CC.shape, 1 / len(confusion_CC))
        posterior_CC = confusion_CC + prior_CC
        self._mean_CC = posterior_CC / posterior_CC.sum(axis=1, keepdims=True)
        self._draws = [np.stack([random.dirichlet(row) for row in posterior_CC]) for _ in range(NUM_DRAWS)]
        self._seed = seed

    def estimate(self, counts_C: npt.NDArray[np.int64]) -> tuple[Float64, Float64, Float64]:
        """Return the shares with the lower and upper ends of their 95 % intervals, each of shape (C,)."""
        value_C = _solved(self._mean_CC, counts_C / max(1, counts_C.sum()))
        named = np.random.default_rng(self._seed).dirichlet(counts_C + 1 / len(counts_C), size=NUM_DRAWS)
        drawn = np.stack([_solved(matrix, shares) for matrix, shares in zip(self._draws, named, strict=True)])
        tail = (1 - CONFIDENCE) / 2
        return value_C, np.quantile(drawn, tail, axis=0), np.quantile(drawn, 1 - tail, axis=0)


def corrected_shares(confusion_CC: npt.NDArray[np.int64], counts_C: npt.NDArray[np.int64]) -> Float64:
    """Return the corrected shares alone, shape (C,)."""
    return CorrectedShares(confusion_CC).estimate(counts_C)[0]


def _solved(matrix_CC: Float64, shares_C: Float64) -> Float64:
    """Return shares that add up to 1, are not negative, and explain `shares_C` best."""
    weight = 1e3  # of the equation that they add up to 1
    system = np.concatenate([matrix_CC.T, np.full((1, len(shares_C)), weight)])
    solution = scipy.optimize.nnls(system, np.append(shares_C, weight))[0]
    return np.asarray(solution / max(solution.sum(), 1e-12))

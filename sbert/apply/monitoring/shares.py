"""Shares of classes, corrected for the mistakes of the classifier that named them."""

from typing import Protocol

import numpy as np
import numpy.typing as npt
import scipy.optimize

__all__ = ["CorrectedListShares", "CorrectedShares", "ShareCorrection"]

Float64 = npt.NDArray[np.float64]

NUM_DRAWS = 200
CONFIDENCE = 0.95
JEFFREYS = 0.5
"""Added to both counts of a share, before there are any (Jeffreys' prior)."""
LEAST_TOLD = 0.01
"""A class must be given so much more often to rows that have it than to others; otherwise its names say nothing."""


class ShareCorrection(Protocol):
    """Estimates the true shares of classes among rows."""

    def estimate(
        self, counts_C: npt.NDArray[np.int64], num_rows: int | None = None
    ) -> tuple[Float64, Float64, Float64]:
        """Return the shares with the lower and upper ends of their 95 % intervals, each of shape (C,).

        Args:
            counts_C: rows that were given each class.
            num_rows: all rows; None where each row has one class, so that the counts add up to them.
        """


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

    def estimate(
        self,
        counts_C: npt.NDArray[np.int64],
        num_rows: int | None = None,  # noqa: ARG002  (the counts add up to it)
    ) -> tuple[Float64, Float64, Float64]:
        """Return the shares with their intervals, as `ShareCorrection`."""
        value_C = _solved(self._mean_CC, counts_C / max(1, counts_C.sum()))
        named = np.random.default_rng(self._seed).dirichlet(counts_C + 1 / len(counts_C), size=NUM_DRAWS)
        drawn = np.stack([_solved(matrix, shares) for matrix, shares in zip(self._draws, named, strict=True)])
        tail = (1 - CONFIDENCE) / 2
        return value_C, np.quantile(drawn, tail, axis=0), np.quantile(drawn, 1 - tail, axis=0)


class CorrectedListShares:
    """Estimates the true share of each class where a row can have several, each class by itself.

    A class is given to a share ``r`` of the rows that have it, and to a share ``f`` of the others. So the share that is
    named is expected to be ``q = r π + f (1 - π)`` of the true share ``π``, and ``π = (q - f) / (r - f)``, cut to 0 … 1
    (Rogan and Gladen 1978, "Estimating prevalence from the results of a screening test"). Intervals come from draws of
    ``q``, ``r`` and ``f`` from their posteriors. Where ``r`` is not above ``f``, names say nothing, and every share is
    possible.
    """

    def __init__(self, decisions_C4: npt.NDArray[np.int64], seed: int = 0) -> None:
        """Use the decisions on rows that the head had not seen (`MultiLabelRecord.decisions`)."""
        random = np.random.default_rng(seed)
        hits_C, missed_C, wrong_C, others_C = (decisions_C4[:, at] + JEFFREYS for at in range(4))
        self._recall_C, self._false_C = hits_C / (hits_C + missed_C), wrong_C / (wrong_C + others_C)
        shape = (NUM_DRAWS, len(decisions_C4))
        self._recall_SC, self._false_SC = random.beta(hits_C, missed_C, shape), random.beta(wrong_C, others_C, shape)
        self._any_SC = random.random(shape)
        self._seed = seed

    def estimate(
        self, counts_C: npt.NDArray[np.int64], num_rows: int | None = None
    ) -> tuple[Float64, Float64, Float64]:
        """Return the shares with their intervals, as `ShareCorrection`; they need not add up to 1."""
        assert num_rows is not None
        named_C = counts_C / max(1, num_rows)
        value_C = self._shares(named_C, self._recall_C, self._false_C, named_C)
        random = np.random.default_rng([self._seed, 1])  # other draws than those of the mistakes
        drawn_SC = random.beta(counts_C + JEFFREYS, num_rows - counts_C + JEFFREYS, (NUM_DRAWS, len(counts_C)))
        shares_SC = self._shares(drawn_SC, self._recall_SC, self._false_SC, self._any_SC)
        tail = (1 - CONFIDENCE) / 2
        return value_C, np.quantile(shares_SC, tail, axis=0), np.quantile(shares_SC, 1 - tail, axis=0)

    @staticmethod
    def _shares(named: Float64, recall: Float64, false: Float64, unknown: Float64) -> Float64:
        """Return true shares; `unknown` where the names of rows say nothing."""
        tells = recall - false
        solved = np.clip((named - false) / np.where(tells > LEAST_TOLD, tells, 1.0), 0, 1)
        return np.asarray(np.where(tells > LEAST_TOLD, solved, unknown))


def _solved(matrix_CC: Float64, shares_C: Float64) -> Float64:
    """Return shares that add up to 1, are not negative, and explain `shares_C` best."""
    weight = 1e3  # of the equation that they add up to 1
    system = np.concatenate([matrix_CC.T, np.full((1, len(shares_C)), weight)])
    solution = scipy.optimize.nnls(system, np.append(shares_C, weight))[0]
    return np.asarray(solution / max(solution.sum(), 1e-12))

"""Weights of signals under which the choices of users are likely: multinomial logit.

McFadden: Conditional Logit Analysis of Qualitative Choice Behavior (1974). A user takes an item with a probability
proportional to exp(weights · signals). Items that were drawn at random stand for all: their offset is the logarithm of how
many.
"""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt
from scipy.optimize import minimize

from sbert.vectors.precision import Float32

__all__ = ["Choice", "fit_weights"]

Float64 = npt.NDArray[np.float64]

PENALTY = 1e-3
"""L2 penalty of the weights of standardized signals: it keeps a signal that is always zero at zero."""
MAX_ROUNDS = 60


@dataclass(frozen=True)
class Choice:
    """The choice of one user among C items."""

    signals_CS: Float32
    """Signals of the items."""
    offset_C: Float32
    """Logarithm of the number of items that each stands for."""
    taken: npt.NDArray[np.int64]
    """Places of the items that the user took; at least one."""


def fit_weights(choices: Sequence[Choice]) -> Float32:
    """Return the weight of each signal, shape (S,); every user counts the same, however many items the user took."""
    together = np.concatenate([choice.signals_CS for choice in choices])
    spread_S = together.std(axis=0, dtype=np.float64)
    is_used_S = spread_S > 0
    scale_S = np.where(is_used_S, 1 / np.where(is_used_S, spread_S, 1), 0)
    offset_C = np.concatenate([choice.offset_C for choice in choices])
    ends = np.cumsum([len(choice.offset_C) for choice in choices])
    starts = np.concatenate([[0], ends[:-1]])
    taken_US = np.stack([choice.signals_CS[choice.taken].mean(axis=0, dtype=np.float64) for choice in choices])
    mean_taken_S = taken_US.mean(axis=0) * scale_S

    def loss(weights_S: Float64) -> tuple[float, Float64]:
        scores_C = together @ (weights_S * scale_S).astype(np.float32) + offset_C
        most_U = np.maximum.reduceat(scores_C, starts)
        odds_C = np.exp(scores_C - np.repeat(most_U, ends - starts))
        total_U = np.add.reduceat(odds_C, starts, dtype=np.float64)
        shares_C = odds_C / np.repeat(total_U * len(choices), ends - starts)
        expected_S = (shares_C @ together) * scale_S
        likelihood = weights_S @ mean_taken_S - float((np.log(total_U) + most_U).mean())
        return PENALTY * weights_S @ weights_S - likelihood, 2 * PENALTY * weights_S + expected_S - mean_taken_S

    begin_S = np.where(is_used_S, 0.1, 0.0)
    optimum = minimize(loss, begin_S, jac=True, method="L-BFGS-B", options={"maxiter": MAX_ROUNDS})
    return np.asarray(optimum.x * scale_S, np.float32)

"""Make the numbers of a head of several classes a row mean what they say, on rows that it has not seen.

Each function takes scores or probabilities from cross-validation, as in `sbert.apply.classification.calibration`.
"""

import numpy as np
import numpy.typing as npt
import scipy.optimize
import scipy.special

from sbert.apply.classification.calibration import quantile

__all__ = ["Sigmoid", "best_f1", "count_decisions", "fit_sigmoid", "possible_scores", "thresholds"]

Float64 = npt.NDArray[np.float64]
Bools = npt.NDArray[np.bool_]
Sigmoid = tuple[float, float]
"""Slope and offset: the probability of a score is ``1 / (1 + exp(-(slope score + offset)))``."""

MAX_SCORE = 30.0
"""Larger scores count as this: a class that a part of the rows lacked has a score that no row reaches."""
SLOPES = (0.01, 100.0)
"""A higher score never means a lower probability."""


def fit_sigmoid(scores_N: Float64, truth_N: Bools) -> Sigmoid:
    """Return the calibration of one class (Platt 1999, "Probabilistic Outputs for Support Vector Machines").

    The targets are a little less than 1 and more than 0, as Platt sets them, so that a class with few rows is never certain.
    """
    num_true, num_false = int(truth_N.sum()), int((~truth_N).sum())
    targets_N = np.where(truth_N, (num_true + 1) / (num_true + 2), 1 / (num_false + 2))
    scores_N = np.clip(scores_N, -MAX_SCORE, MAX_SCORE)

    def loss(parameters: Float64) -> tuple[float, Float64]:
        logits_N = parameters[0] * scores_N + parameters[1]
        errors_N = scipy.special.expit(logits_N) - targets_N
        value = (np.logaddexp(0, logits_N) - targets_N * logits_N).mean()
        return float(value), np.array([(errors_N * scores_N).mean(), errors_N.mean()])

    solved = scipy.optimize.minimize(loss, [1.0, 0.0], jac=True, method="L-BFGS-B", bounds=[SLOPES, (None, None)])
    return float(solved.x[0]), float(solved.x[1])


def best_f1(scores_N: Float64, truth_N: Bools) -> tuple[float, float]:
    """Return the best F1 that naming every row from some score on can have, and this score; 0 and infinity without rows.

    The score lies in the middle between the last row that is named and the next.
    """
    num_true = int(truth_N.sum())
    if not num_true:
        return 0.0, float("inf")
    order = np.argsort(-scores_N, kind="stable")
    sorted_N, hits_N = scores_N[order], np.cumsum(truth_N[order])
    f1_N = 2 * hits_N / (np.arange(1, len(order) + 1) + num_true)
    is_last = np.append(sorted_N[1:] < sorted_N[:-1], True)  # rows of equal scores are named together
    at = int(np.where(is_last, f1_N, -1.0).argmax())
    after = sorted_N[at + 1] if at + 1 < len(order) else sorted_N[at]
    return float(f1_N[at]), float((sorted_N[at] + after) / 2)


def thresholds(probabilities_NC: Float64, truth_NC: Bools, min_class_rows: int) -> list[float]:
    """Return for each class the probability from which on it is named: the one with the best F1.

    Classes with fewer than `min_class_rows` rows share one threshold, that with the best F1 of all their decisions together.
    A threshold of their own would fit the few rows by chance (Yang 2001, "A Study of Thresholding Strategies for Text
    Categorization").
    """
    is_small_C = truth_NC.sum(axis=0) < min_class_rows
    shared = best_f1(probabilities_NC[:, is_small_C].ravel(), truth_NC[:, is_small_C].ravel())[1]
    return [
        shared if is_small else best_f1(probabilities_NC[:, at], truth_NC[:, at])[1]
        for at, is_small in enumerate(is_small_C.tolist())
    ]


def count_decisions(
    probabilities_NC: Float64, truth_NC: Bools, min_class_rows: int, *, num_folds: int, seed: int
) -> list[list[int]]:
    """Return for each class the rows that have it and get it, have it alone, get it alone, and the others.

    Thresholds were chosen as the best on some rows, so they look better there than elsewhere. Here the thresholds of each
    part of the rows are those of the other parts.

    Args:
        probabilities_NC: probabilities of N rows by heads that had not seen them.
        truth_NC: which classes they have.
        min_class_rows: as in `thresholds`.
        num_folds: parts of the rows.
        seed: of the parts.
    """
    parts_N = np.random.default_rng(seed).permutation(len(truth_NC)) % num_folds
    named_NC = np.zeros_like(truth_NC)
    for part in range(num_folds):
        inside_N = parts_N == part
        least = thresholds(probabilities_NC[~inside_N], truth_NC[~inside_N], min_class_rows)
        named_NC[inside_N] = probabilities_NC[inside_N] >= np.array(least)
    counts = [(truth_NC & named_NC), (truth_NC & ~named_NC), (~truth_NC & named_NC), (~truth_NC & ~named_NC)]
    return np.stack([each.sum(axis=0) for each in counts], axis=1).tolist()  # type: ignore[no-any-return]


def possible_scores(probabilities_NC: Float64, truth_NC: Bools, coverage: float, min_class_rows: int) -> list[float]:
    """Return for each class the largest ``1 - probability`` at which it counts as possible for a row.

    Conformal prediction for each class by itself: of the rows that have a class, `coverage` have it among their possible
    classes (`sbert.apply.classification.calibration.set_scores`). Classes with fewer than `min_class_rows` rows share one
    value.
    """
    scores_NC = 1 - probabilities_NC
    is_small_C = truth_NC.sum(axis=0) < min_class_rows
    shared = quantile(scores_NC[:, is_small_C][truth_NC[:, is_small_C]], coverage)
    return [
        shared if is_small else quantile(scores_NC[truth_NC[:, at], at], coverage)
        for at, is_small in enumerate(is_small_C.tolist())
    ]

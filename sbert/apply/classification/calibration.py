"""Calibrate the probabilities, thresholds and sets of a classifier on rows that it has not seen.

Each function takes scores or probabilities of N rows of C classes that come from cross-validation: a row is predicted by a
head that was fitted without it. The head that is used afterwards has seen all of them, so it is a little better than these
numbers promise.
"""

import numpy as np
import numpy.typing as npt
import scipy.optimize
import scipy.stats

from sbert.apply.classification.head import Float64, softmax

__all__ = ["abstention_threshold", "calibrated", "calibration_error", "fit_temperature", "quantile", "set_scores"]

Int64 = npt.NDArray[np.int64]

NEVER = 2.0
"""A threshold that no probability reaches."""
FIRST_SHARES = (0.05, 0.2, 0.5)
"""Shares of the rows, the surest first, with which the searches for a threshold begin."""
NUM_STEPS = 200
LOG_TEMPERATURES = (-4.0, 4.0)


def fit_temperature(scores_NC: Float64, truth_N: Int64) -> float:
    """Return the temperature with the least cross-entropy (Guo et al. 2017, section 4.2)."""
    rows = np.arange(len(truth_N))

    def loss(log_temperature: float) -> float:
        scaled = scores_NC / np.exp(log_temperature)
        top = scaled.max(axis=1)
        log_sums = top + np.log(np.exp(scaled - top[:, None]).sum(axis=1))
        return float((log_sums - scaled[rows, truth_N]).mean())

    return float(np.exp(scipy.optimize.minimize_scalar(loss, bounds=LOG_TEMPERATURES, method="bounded").x))


def set_scores(probabilities_NC: Float64, truth_N: Int64, coverage: float, min_class_rows: int) -> list[float]:
    """Return for each class the largest ``1 - probability`` at which it belongs to a row's set.

    Conformal prediction: the threshold is the ``ceil((n + 1) coverage)``-th smallest score of n rows (Vovk, Gammerman and
    Shafer 2005; with scores from cross-validation, Vovk 2015, "Cross-conformal predictors"). A class with at least
    `min_class_rows` rows has a threshold of its own, so that coverage holds in this class; the others share one.
    """
    scores_N = 1 - probabilities_NC[np.arange(len(truth_N)), truth_N]
    shared = quantile(scores_N, coverage)
    counts = np.bincount(truth_N, minlength=probabilities_NC.shape[1])
    return [
        quantile(scores_N[truth_N == number], coverage) if count >= min_class_rows else shared
        for number, count in enumerate(counts.tolist())
    ]


def quantile(scores_N: Float64, coverage: float) -> float:
    """Return the conformal threshold: the smallest score that enough of them do not exceed; 1 where there are too few."""
    place = int(np.ceil((len(scores_N) + 1) * coverage))
    return float(np.sort(scores_N)[place - 1]) if place <= len(scores_N) else 1.0


def abstention_threshold(
    confidences_N: Float64, right_N: npt.NDArray[np.bool_], promised_error: float, confidence: float
) -> float:
    """Return the lowest probability from which on answers keep a promised error; 2 when none does.

    A threshold passes when the exact binomial upper bound of its error (Clopper and Pearson 1934) is at most the promise, as
    in Geifman and El-Yaniv 2017, "Selective Classification for Deep Neural Networks". Thresholds are tested one after the
    other, from a strict one to ever looser ones, and the first that fails ends the search: then many tests need no
    correction (fixed sequence testing; Angelopoulos et al. 2021, "Learn then Test"). There are three such searches, with a
    third of the error probability each, since a strict threshold can fail by a single wrong answer.

    Args:
        confidences_N: the largest probability of each row.
        right_N: whether the class with this probability is the true one.
        promised_error: largest share of wrong answers (0 to 1).
        confidence: of the bound (0 to 1).
    """
    order = np.argsort(-confidences_N, kind="stable")
    sorted_N, wrong_N = confidences_N[order], np.cumsum(~right_N[order])
    level = 1 - (1 - confidence) / len(FIRST_SHARES)
    best = 0
    for share in FIRST_SHARES:
        for count in np.unique(np.linspace(share * len(order), len(order), NUM_STEPS).astype(int)).tolist():
            wrong = int(wrong_N[count - 1]) if count else 0
            if not wrong < count or scipy.stats.beta.ppf(level, wrong + 1, count - wrong) > promised_error:
                break
            best = max(best, count)
    return float(sorted_N[best - 1]) if best else NEVER


def calibration_error(confidences_N: Float64, right_N: npt.NDArray[np.bool_], num_bins: int = 15) -> float:
    """Return the mean distance of probability and share of right answers over bins of equally many rows.

    The expected calibration error with equal-mass bins (Nixon et al. 2019, "Measuring Calibration in Deep Learning").
    """
    parts = np.array_split(np.argsort(confidences_N, kind="stable"), min(num_bins, max(1, len(confidences_N))))
    gaps = [len(part) * abs(confidences_N[part].mean() - right_N[part].mean()) for part in parts if len(part)]
    return float(sum(gaps) / max(1, len(confidences_N)))


def calibrated(scores_NC: Float64, temperature: float) -> Float64:
    """Return probabilities from scores."""
    return softmax(scores_NC / temperature)

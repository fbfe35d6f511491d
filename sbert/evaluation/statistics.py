"""Statistics over rows, each along the last axis.

Each gives the same value as the function of SciPy or scikit-learn of the same name; tests compare them. Those functions take
one sample at a time, and a bootstrap needs thousands.
"""

import warnings

import numpy as np
import numpy.typing as npt
import scipy.stats

__all__ = ["average_precision", "f1", "macro_f1", "mean", "pearson", "spearman"]

Values = npt.NDArray[np.float64]
Array = npt.NDArray[np.generic]


def mean(values: Array) -> Values:
    """Return the mean of values per row: accuracy, reciprocal rank, nDCG, recall."""
    return np.asarray(np.mean(values.astype(np.float64), axis=-1), dtype=np.float64)


def pearson(left: Array, right: Array) -> Values:
    """Return Pearson's correlation; 0 where either side is constant, as with a collapsed encoder."""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", scipy.stats.ConstantInputWarning)
        warnings.simplefilter("ignore", scipy.stats.NearConstantInputWarning)
        correlation = scipy.stats.pearsonr(left.astype(np.float64), right.astype(np.float64), axis=-1).statistic
    return np.asarray(np.nan_to_num(correlation), dtype=np.float64)


def spearman(left: Array, right: Array) -> Values:
    """Return Spearman's rank correlation: Pearson's over average ranks; 0 where either side is constant."""
    return pearson(scipy.stats.rankdata(left, axis=-1), scipy.stats.rankdata(right, axis=-1))


def f1(truth: Array, predicted: Array) -> Values:
    """Return F1 of the positive class, 2 TP / (2 TP + FP + FN); 0 when no row is positive or called positive."""
    hits = np.sum(truth.astype(bool) & predicted.astype(bool), axis=-1, dtype=np.float64)
    named = np.sum(truth, axis=-1, dtype=np.float64) + np.sum(predicted, axis=-1, dtype=np.float64)
    return np.asarray(np.divide(2 * hits, named, out=np.zeros_like(hits), where=named > 0))


def macro_f1(truth: Array, predicted: Array) -> Values:
    """Return the mean F1 over the classes that occur in truth or prediction (scikit-learn's ``average="macro"``)."""
    classes = np.union1d(truth, predicted)
    total = np.zeros(truth.shape[:-1])
    num_classes = np.zeros(truth.shape[:-1])
    for label in classes:
        true, named = truth == label, predicted == label
        total += f1(true, named)
        num_classes += np.any(true | named, axis=-1)
    return np.asarray(total / np.maximum(num_classes, 1))


def average_precision(truth: Array, scores: Array) -> Values:
    """Return average precision: the sum of (R_n - R_n-1) P_n over distinct thresholds.

    Rows of equal score share one threshold, as in scikit-learn's ``average_precision_score``; 0 without positives.
    """
    order = np.argsort(-scores.astype(np.float64), axis=-1, kind="stable")
    scores = np.take_along_axis(scores, order, axis=-1)
    relevant = np.take_along_axis(truth, order, axis=-1).astype(np.float64)
    num = scores.shape[-1]
    last_of_group = np.ones(scores.shape, dtype=bool)
    last_of_group[..., :-1] = scores[..., 1:] != scores[..., :-1]
    ends = np.where(last_of_group, np.arange(num), num)
    group_end = np.minimum.accumulate(ends[..., ::-1], axis=-1)[..., ::-1]
    precision = np.cumsum(relevant, axis=-1) / np.arange(1, num + 1)
    gained = np.sum(relevant * np.take_along_axis(precision, group_end, axis=-1), axis=-1)
    num_relevant = relevant.sum(axis=-1)
    return np.asarray(np.divide(gained, num_relevant, out=np.zeros_like(gained), where=num_relevant > 0))

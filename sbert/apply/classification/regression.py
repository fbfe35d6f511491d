"""Logistic regression of heads: weights and a bias for each class."""

import warnings
from typing import Any

import numpy as np
import numpy.typing as npt
from sklearn.exceptions import ConvergenceWarning
from sklearn.linear_model import LogisticRegression

__all__ = ["fit_regression"]

Float64 = npt.NDArray[np.float64]

MAX_ITERATIONS = 300
TOLERANCE = 1e-4
"""Largest value of the gradient at which the fit ends. 1e-3 ends so early that many classes lose a point of accuracy."""
UNREACHED = -1e3
"""The score of a class without rows."""


def fit_regression(
    features_NF: Any,  # an array or a sparse matrix
    truth_N: npt.NDArray[np.int64],
    strength: float,
    num_classes: int,
    sample_weights_N: Float64 | None = None,
) -> tuple[Float64, Float64]:
    """Return weights, shape (F, C), and a bias for each of C classes; a class without rows is never the likeliest."""
    model = LogisticRegression(C=strength, max_iter=MAX_ITERATIONS, tol=TOLERANCE)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", ConvergenceWarning)  # cross-validation judges what was reached
        model.fit(features_NF, truth_N, sample_weight=sample_weights_N)
    weights_CF, bias = model.coef_, model.intercept_
    if len(model.classes_) == 2:  # sklearn keeps one score of two classes
        weights_CF, bias = np.concatenate([-weights_CF, weights_CF]) / 2, np.concatenate([-bias, bias]) / 2
    weights_FC = np.zeros((features_NF.shape[1], num_classes))
    bias_C = np.full(num_classes, UNREACHED)
    weights_FC[:, model.classes_], bias_C[model.classes_] = weights_CF.T, bias
    return weights_FC, bias_C

"""Logistic regression of heads: weights and a bias for each class.

Where a row has one class, the classes share one softmax. Where a row can have several, each class is told from all rows
that do not have it (one against the rest), and all of these regressions are solved at once: the matrix products are then
large, and a hundred classes cost little more than one.
"""

import warnings
from typing import Any

import numpy as np
import numpy.typing as npt
import scipy.optimize
import scipy.special
from sklearn.exceptions import ConvergenceWarning
from sklearn.linear_model import LogisticRegression

__all__ = ["fit_one_against_rest", "fit_regression"]

Float64 = npt.NDArray[np.float64]

MAX_ITERATIONS = 300
TOLERANCE = 1e-4
"""Largest value of the gradient at which the fit ends. 1e-3 ends so early that many classes lose a point of accuracy."""
UNREACHED = -1e3
"""The score of a class without rows; with the other sign, that of a class which every row has."""


def fit_regression(
    features_NF: Any,  # an array or a sparse matrix
    truth: npt.NDArray[np.int64],
    strength: float,
    num_classes: int,
    sample_weights_N: Float64 | None = None,
) -> tuple[Float64, Float64]:
    """Return weights, shape (F, C), and a bias for each of C classes; a class without rows is never the likeliest.

    Args:
        features_NF: features of N rows.
        truth: the number of each row's class, shape (N,); or 1 for each class of a row and 0 for the others, shape (N, C).
        strength: inverse strength of the penalty on weights.
        num_classes: C.
        sample_weights_N: weights of the rows, where a row has one class.
    """
    if truth.ndim == 2:
        assert sample_weights_N is None
        return fit_one_against_rest(features_NF, truth, strength)
    model = LogisticRegression(C=strength, max_iter=MAX_ITERATIONS, tol=TOLERANCE)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", ConvergenceWarning)  # cross-validation judges what was reached
        model.fit(features_NF, truth, sample_weight=sample_weights_N)
    weights_CF, bias = model.coef_, model.intercept_
    if len(model.classes_) == 2:  # sklearn keeps one score of two classes
        weights_CF, bias = np.concatenate([-weights_CF, weights_CF]) / 2, np.concatenate([-bias, bias]) / 2
    weights_FC = np.zeros((features_NF.shape[1], num_classes))
    bias_C = np.full(num_classes, UNREACHED)
    weights_FC[:, model.classes_], bias_C[model.classes_] = weights_CF.T, bias
    return weights_FC, bias_C


def fit_one_against_rest(
    features_NF: Any,  # an array or a sparse matrix
    truth_NC: npt.NDArray[np.int64],
    strength: float,
) -> tuple[Float64, Float64]:
    """Return weights, shape (F, C), and a bias for each of C classes, each by logistic regression against all other rows.

    The weights of a class are those of scikit-learn's ``LogisticRegression`` on its column alone. A class that no row has
    gets a score that no row reaches, and a class that every row has gets the opposite.
    """
    num_rows, num_features = features_NF.shape
    counts_C = truth_NC.sum(axis=0)
    weights_FC = np.zeros((num_features, len(counts_C)))
    bias_C = np.where(counts_C == 0, UNREACHED, -UNREACHED)
    fitted = np.flatnonzero((counts_C > 0) & (counts_C < num_rows))
    if not len(fitted):
        return weights_FC, bias_C
    truth = truth_NC[:, fitted].astype(np.float64)
    shape = (num_features + 1, len(fitted))
    penalty = 1 / (strength * num_rows)

    def loss(flat: Float64) -> tuple[float, Float64]:
        weights, bias = flat.reshape(shape)[:-1], flat.reshape(shape)[-1]
        scores = np.asarray(features_NF @ weights.astype(features_NF.dtype), np.float64) + bias
        value = (np.logaddexp(0, scores) - truth * scores).sum() / num_rows + penalty / 2 * (weights**2).sum()
        errors = (scipy.special.expit(scores) - truth) / num_rows
        gradient = np.empty(shape)
        gradient[:-1] = features_NF.T @ errors.astype(features_NF.dtype) + penalty * weights
        gradient[-1] = errors.sum(axis=0)
        return float(value), gradient.ravel()

    start = np.zeros(shape)
    shares = counts_C[fitted] / num_rows
    start[-1] = np.log(shares / (1 - shares))
    options = {"maxiter": MAX_ITERATIONS, "maxls": 50, "gtol": TOLERANCE, "ftol": 64 * np.finfo(float).eps}
    solved = scipy.optimize.minimize(loss, start.ravel(), jac=True, method="L-BFGS-B", options=options)
    solution = solved.x.reshape(shape)
    weights_FC[:, fitted], bias_C[fitted] = solution[:-1], solution[-1]
    return weights_FC, bias_C

"""Every statistic against SciPy's or scikit-learn's of the same name, one sample at a time."""

import numpy as np
import pytest
import scipy.stats
import sklearn.metrics

from sbert.evaluation import statistics


@pytest.fixture
def rng() -> np.random.Generator:
    return np.random.default_rng(7)


def test_correlations_are_those_of_scipy(rng: np.random.Generator) -> None:
    left = rng.integers(0, 6, size=(5, 40)) / 5  # scores have ties
    right = left + rng.normal(size=(5, 40))
    for row in range(5):
        expected = scipy.stats.spearmanr(left[row], right[row]).statistic
        assert statistics.spearman(left[row], right[row]) == pytest.approx(expected)
        assert statistics.pearson(left[row], right[row]) == pytest.approx(
            scipy.stats.pearsonr(left[row], right[row])[0]
        )
    assert statistics.spearman(left, right) == pytest.approx(
        [scipy.stats.spearmanr(a, b).statistic for a, b in zip(left, right, strict=True)]
    )


def test_a_constant_side_has_no_correlation() -> None:
    assert statistics.spearman(np.array([1.0, 2.0, 3.0]), np.ones(3)) == 0
    assert statistics.pearson(np.ones(3), np.array([1.0, 2.0, 3.0])) == 0


def test_f1_and_macro_f1_are_those_of_scikit_learn(rng: np.random.Generator) -> None:
    truth, predicted = rng.integers(0, 2, size=(2, 4, 30))
    for row in range(4):
        assert statistics.f1(truth, predicted)[row] == pytest.approx(
            sklearn.metrics.f1_score(truth[row], predicted[row])
        )
    truth, predicted = rng.integers(0, 4, size=(6, 25)), rng.integers(0, 6, size=(6, 25))
    expected = [
        sklearn.metrics.f1_score(a, b, average="macro", zero_division=0.0)
        for a, b in zip(truth, predicted, strict=True)
    ]
    assert statistics.macro_f1(truth, predicted) == pytest.approx(expected)
    assert statistics.f1(np.zeros(3, dtype=int), np.zeros(3, dtype=int)) == 0


def test_average_precision_with_ties_is_that_of_scikit_learn(rng: np.random.Generator) -> None:
    truth = rng.integers(0, 2, size=(8, 50))
    scores = rng.integers(0, 9, size=(8, 50)) / 8
    expected = [sklearn.metrics.average_precision_score(a, b) for a, b in zip(truth, scores, strict=True)]
    assert statistics.average_precision(truth, scores) == pytest.approx(expected)
    assert statistics.average_precision(np.zeros(4, dtype=int), np.arange(4.0)) == 0

"""Bootstrap intervals: against theory, and paired against unpaired."""

import numpy as np
import pytest

from sbert.errors import EvaluationError
from sbert.evaluation import statistics
from sbert.evaluation.metric import Metric, difference_interval, interval

OPTIONS = {"num_resamples": 2_000, "confidence": 0.95, "seed": 3}


def metric(values: np.ndarray) -> Metric:
    return Metric("accuracy", (values,), statistics.mean)


def test_the_interval_of_a_mean_is_that_of_theory() -> None:
    values = np.random.default_rng(0).normal(5.0, 2.0, size=400)
    estimate = interval(metric(values), **OPTIONS)
    half = 1.96 * values.std() / np.sqrt(400)
    assert estimate.value == pytest.approx(values.mean())
    assert estimate.low == pytest.approx(values.mean() - half, abs=0.02)
    assert estimate.high == pytest.approx(values.mean() + half, abs=0.02)
    assert interval(metric(values), **OPTIONS) == estimate  # the seed decides


def test_pairing_sees_a_small_steady_gain_between_noisy_rows() -> None:
    rng = np.random.default_rng(1)
    difficulty = rng.normal(0.0, 5.0, size=200)
    before, after = metric(difficulty), metric(difficulty + 0.1 + rng.normal(0.0, 0.1, size=200))
    paired = difference_interval(after, before, **OPTIONS)
    assert paired.value == pytest.approx(0.1, abs=0.02)
    assert 0.05 < paired.low < paired.value < paired.high < 0.15
    assert interval(after, **OPTIONS).low < before.value  # alone, the intervals overlap


def test_the_same_encoder_has_gained_nothing() -> None:
    values = metric(np.random.default_rng(2).normal(size=50))
    gain = difference_interval(values, values, **OPTIONS)
    assert gain.value == 0.0
    assert gain.low == 0.0
    assert gain.high == 0.0


def test_one_row_proves_nothing() -> None:
    gain = difference_interval(metric(np.ones(1)), metric(np.zeros(1)), **OPTIONS)
    assert gain.value == 1.0
    assert gain.low == -np.inf


def test_metrics_over_different_rows_are_not_compared() -> None:
    with pytest.raises(EvaluationError, match="10 rows after, 9 before"):
        difference_interval(metric(np.ones(10)), metric(np.ones(9)), **OPTIONS)


def test_a_slice_is_the_metric_on_its_rows() -> None:
    truth, scores = np.arange(6.0), np.array([0.0, 2.0, 1.0, 5.0, 4.0, 3.0])
    whole = Metric("spearman", (truth, scores), statistics.spearman)
    assert whole.on(np.array([0, 1, 2])).value == pytest.approx(0.5)
    assert whole.on(np.array([3, 4, 5])).value == pytest.approx(-1.0)

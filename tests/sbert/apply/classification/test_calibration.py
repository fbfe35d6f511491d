"""What a classifier promises holds on rows that it has not seen."""

import numpy as np
import pytest
import scipy.stats

from sbert.apply.classification.calibration import (
    NEVER,
    abstention_threshold,
    calibrated,
    calibration_error,
    fit_temperature,
    set_scores,
)


def made_scores(num_rows: int, seed: int, sharpness: float = 1.0) -> tuple[np.ndarray, np.ndarray]:
    """Return scores whose probabilities are exact at temperature `sharpness`, and classes drawn from these."""
    random = np.random.default_rng(seed)
    scores = 2 * random.standard_normal((num_rows, 4))
    probabilities = calibrated(scores, 1.0)
    truth = (probabilities.cumsum(axis=1) < random.random((num_rows, 1))).sum(axis=1)
    return scores * sharpness, truth.clip(0, 3)


@pytest.mark.parametrize("sharpness", [0.3, 1.0, 3.0])
def test_the_temperature_undoes_scores_that_are_too_sure_or_too_shy(sharpness: float) -> None:
    scores, truth = made_scores(20_000, 0, sharpness)
    assert fit_temperature(scores, truth) == pytest.approx(sharpness, rel=0.08)


def test_sets_hold_the_true_class_as_often_as_promised_in_each_large_class() -> None:
    scores, truth = made_scores(8_000, 1)
    thresholds = np.array(set_scores(calibrated(scores, 1.0), truth, 0.9, 100))
    new_scores, new_truth = made_scores(8_000, 2)
    held = 1 - calibrated(new_scores, 1.0) <= thresholds
    for number in range(4):
        rows = np.flatnonzero(new_truth == number)
        assert held[rows, number].mean() == pytest.approx(0.9, abs=0.03)


def test_small_classes_share_one_threshold() -> None:
    scores, truth = made_scores(300, 3)
    assert len(set(set_scores(calibrated(scores, 1.0), truth, 0.9, 1_000))) == 1


def test_nothing_is_left_out_of_sets_when_there_are_too_few_rows_to_promise_anything() -> None:
    scores, truth = made_scores(5, 4)
    assert set_scores(calibrated(scores, 1.0), truth, 0.9, 10) == [1.0] * 4


def test_the_promised_error_holds_in_nine_of_ten_draws() -> None:
    new_scores, new_truth = made_scores(40_000, 99)
    probabilities = calibrated(new_scores, 1.0)
    confidence, right = probabilities.max(axis=1), probabilities.argmax(axis=1) == new_truth
    broken, answered = 0, []
    for seed in range(60):
        scores, truth = made_scores(4_000, seed)
        calibration = calibrated(scores, 1.0)
        threshold = abstention_threshold(calibration.max(axis=1), calibration.argmax(axis=1) == truth, 0.1, 0.9)
        is_answered = confidence >= threshold
        broken += bool(is_answered.any() and (~right[is_answered]).mean() > 0.1)
        answered.append(is_answered.mean())
    assert scipy.stats.binomtest(broken, 60, 0.1, alternative="greater").pvalue > 0.01
    assert np.mean(answered) > 0.22  # 0.32 of the rows could be answered by whoever knew the truth


def test_a_promise_that_cannot_be_kept_is_never_answered() -> None:
    random = np.random.default_rng(0)
    assert abstention_threshold(random.random(500), random.random(500) < 0.5, 0.05, 0.9) == NEVER
    assert abstention_threshold(np.ones(3), np.ones(3, bool), 0.05, 0.9) == NEVER


def test_everything_is_answered_when_nothing_is_wrong() -> None:
    confidence = np.linspace(0.5, 1, 200)
    assert abstention_threshold(confidence, np.ones(200, bool), 0.05, 0.9) == 0.5


def test_the_calibration_error_is_the_mean_gap_over_bins() -> None:
    confidence = np.repeat([0.6, 0.9], 50)
    right = np.r_[np.arange(50) < 40, np.arange(50) < 45]
    assert calibration_error(confidence, right, num_bins=2) == pytest.approx((0.2 + 0.0) / 2)

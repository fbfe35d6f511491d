"""Intervals of F1 have a width on few rows, and a chart has no point that is chance."""

import numpy as np
import pytest
from sklearn.metrics import f1_score

from sbert.apply.classification.quality import MIN_BIN_ROWS, NUM_BINS, f1_share, macro_f1_share, measure_head
from tests.sbert.apply.classification.blobs import blobs
from tests.sbert.apply.classification.test_fit import fitted

RANDOM = np.random.default_rng(0)


def test_f1_is_that_of_scikit_learn_and_lies_in_its_interval() -> None:
    truth, predicted = RANDOM.integers(0, 2, 60), RANDOM.integers(0, 2, 60)
    share = f1_share(int((truth & predicted).sum()), int((truth | predicted).sum()))
    assert share is not None
    assert share.value == pytest.approx(f1_score(truth, predicted))
    assert 0 < share.low < share.value < share.high < 1
    assert f1_share(0, 0) is None


def test_a_few_rows_that_are_all_right_prove_little() -> None:
    truth = np.array([0, 0, 0, 1, 1, 1], np.int64)
    share = macro_f1_share(truth, truth)
    assert share.value == 1
    assert share.high == 1
    assert 0.5 < share.low < 0.9
    one = f1_share(3, 3)  # Wilson: 3 of 3 is [0.4385, 1], and 2 · 0.4385 / 1.4385 = 0.6096
    assert one is not None
    assert one.low == pytest.approx(0.6096, abs=1e-4)


def test_many_rows_have_the_interval_of_the_bootstrap() -> None:
    truth = RANDOM.integers(0, 3, 900)
    predicted = np.where(RANDOM.random(900) < 0.8, truth, RANDOM.integers(0, 3, 900))
    share = macro_f1_share(truth, predicted)
    assert share.low < share.value < share.high
    assert share.high - share.low < 0.09


@pytest.mark.parametrize("num_rows", [1, 12, 45, 400])
def test_bins_of_the_reliability_chart_hold_enough_rows(num_rows: int) -> None:
    vectors, labels = blobs(300 + num_rows)
    head = fitted(vectors[:300], labels[:300], kinds=("linear",), num_folds=2)
    quality = measure_head(head, vectors[300:], labels[300:], labels[300:])
    assert quality is not None
    assert len(quality.reliability) == min(NUM_BINS, max(1, num_rows // MIN_BIN_ROWS))
    assert sum(rows for _, _, rows in quality.reliability) == num_rows

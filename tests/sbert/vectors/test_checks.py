"""Vectors that must not be published are refused, with numbers."""

import numpy as np
import pytest

from sbert.errors import QualityError
from sbert.vectors.checks import MIN_OWN_TEXTS, check_not_collapsed, check_vectors, mean_cosine_of_random_pairs

UNIT = np.array([[0.6, 0.8], [1.0, 0.0]], dtype=np.float32)


def test_vectors_of_the_right_dim_and_norm_pass() -> None:
    check_vectors(UNIT, dim=2, normalized=True, what="x")
    check_vectors(UNIT * 3, dim=2, normalized=False, what="x")
    check_vectors(np.zeros((0, 2), dtype=np.float32), dim=2, normalized=True, what="x")


def test_vectors_of_another_dim_are_refused() -> None:
    with pytest.raises(QualityError, match=r"shape \(2, 2\), expected \(rows, 3\)"):
        check_vectors(UNIT, dim=3, normalized=True, what="x")


@pytest.mark.parametrize("bad", [np.nan, np.inf, -np.inf])
def test_vectors_with_nan_or_infinity_are_refused(bad: float) -> None:
    vectors = UNIT.copy()
    vectors[1, 0] = bad
    with pytest.raises(QualityError, match=r"split 7: 1 of 2 vectors hold NaN or infinity \(first: row 1\)"):
        check_vectors(vectors, dim=2, normalized=True, what="split 7")


def test_vectors_of_another_norm_are_refused() -> None:
    with pytest.raises(QualityError, match=r"1 of 2 vectors have a wrong norm \(first: row 0, norm 0.5"):
        check_vectors(np.array([[0.3, 0.4], [1, 0]], dtype=np.float32), dim=2, normalized=True, what="x")


def test_zero_vector_is_refused_even_without_normalization() -> None:
    with pytest.raises(QualityError, match="wrong norm"):
        check_vectors(np.zeros((1, 2), dtype=np.float32), dim=2, normalized=False, what="x")


def test_the_mean_cosine_is_that_computed_by_hand() -> None:
    # pairs: (e1, e1) = 1, (e1, e2) = 0, (e1, e2) = 0, so the mean over the three pairs is 1/3
    vectors = np.array([[1, 0], [2, 0], [0, 5]], dtype=np.float32)
    assert mean_cosine_of_random_pairs(vectors) == pytest.approx(1 / 3)


def test_collapsed_vectors_are_refused() -> None:
    noise = np.random.default_rng(0).normal(size=(64, 16))
    collapsed = (np.ones((64, 16)) + 0.01 * noise).astype(np.float32)
    with pytest.raises(QualityError, match=r"64 different texts have a mean cosine of 0\.999\d"):
        check_not_collapsed(collapsed, what="x")
    check_not_collapsed(noise.astype(np.float32), what="x")
    check_not_collapsed(collapsed[:4], what="too few to say")
    check_not_collapsed(collapsed[:63], what="too few of the corpus' own", min_texts=MIN_OWN_TEXTS)
    check_not_collapsed(collapsed, what="texts that are alike", max_mean_cosine=1)

"""Drift: values worked by hand, references, and properties."""

import math

import numpy as np
import pytest
from scipy import stats

from sbert.table.drift import cosine_of_means, energy_distance, stability_index


def test_the_cosine_of_means_is_that_worked_by_hand() -> None:
    assert cosine_of_means([3.0, 4.0], [4.0, 3.0]) == pytest.approx(24 / 25)
    assert math.isnan(cosine_of_means([0.0, 0.0], [1.0, 0.0]))


def test_the_stability_index_is_that_worked_by_hand() -> None:
    # Base: 10 rows in each decile. Now: all 100 in the first. Half a row more per bin: p = 10.5/105 = 0.1 in every bin,
    # q = 100.5/105 in the first and 0.5/105 in nine: (q1-p) ln(q1/p) + 9 (q0-p) ln(q0/p).
    base, now = [list(range(100))], [[-1.0] * 100]
    q1, q0 = 100.5 / 105, 0.5 / 105
    expected = (q1 - 0.1) * math.log(q1 / 0.1) + 9 * (q0 - 0.1) * math.log(q0 / 0.1)
    assert stability_index(base, now) == pytest.approx(expected)


def test_equal_samples_have_not_drifted_and_shifted_ones_have() -> None:
    generator = np.random.default_rng(0)
    base = generator.standard_normal((8, 512))
    again = generator.standard_normal((8, 512))
    assert stability_index(base, base) == pytest.approx(0)  # type: ignore[arg-type]
    assert stability_index(base, again) < 0.1 < 0.25 < stability_index(base, again + 1)  # type: ignore[arg-type]
    assert energy_distance(base, base) == pytest.approx(0)  # type: ignore[arg-type]
    assert energy_distance(base, again) < energy_distance(base, again + 1)  # type: ignore[arg-type]


def test_energy_distance_is_the_mean_over_directions() -> None:
    base, now = [[0.0, 1.0], [0.0, 2.0]], [[0.0, 3.0], [0.0, 2.0]]
    assert energy_distance(base, now) == pytest.approx(stats.energy_distance([0.0, 1.0], [0.0, 3.0]) / 2)

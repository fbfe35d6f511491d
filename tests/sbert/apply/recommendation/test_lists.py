"""The list of a user: order, diversity with a floor, places for new items, and when a list can change."""

import numpy as np
import pytest

from sbert.apply.recommendation.lists import can_change, make_list
from sbert.apply.recommendation.settings import ListSettings
from sbert.vectors.unit import unit_rows

HISTORY = np.array([0])


def listed(scores: list[float], vectors: list[list[float]], new: list[int], settings: ListSettings) -> list[int]:
    is_new = np.isin(np.arange(len(scores)), new)
    entries = make_list(
        np.array(scores, np.float32), unit_rows(np.array(vectors, np.float32)), HISTORY, is_new, settings
    )
    return [entry.item for entry in entries]


APART = [[1.0, 0, 0], [0, 1.0, 0], [0, 0, 1.0], [1, 1, 0], [0, 1, 1]]
TAKEN = -np.inf


def test_items_stand_by_score_and_taken_ones_are_left_out() -> None:
    settings = ListSettings(k=3, num_new=0)
    assert listed([TAKEN, 1.0, 3.0, 2.0, 0.5], APART, [], settings) == [2, 3, 1]
    assert listed([TAKEN, 1.0, TAKEN, 2.0, TAKEN], APART, [], settings) == [3, 1]
    assert listed([TAKEN] * 5, APART, [], settings) == []


def test_an_item_like_one_in_the_list_waits_down_to_the_floor() -> None:
    vectors = [[1.0, 0, 0], [0, 1.0, 0], [0, 1.0, 0.1], [1.0, 1, 0], [0, 0, 1.0]]
    scores = [TAKEN, 3.0, 2.9, 2.5, 0.0]
    settings = ListSettings(k=3, num_new=0, max_similarity=0.9, floor=0.5)
    assert listed(scores, vectors, [], settings) == [1, 3, 2]  # 2.5 passes 2.9: exp(-0.4) > 0.5; 0.0 does not
    assert listed(scores, vectors, [], settings.model_copy(update={"floor": 0.01})) == [1, 3, 4]
    assert listed(scores, vectors, [], settings.model_copy(update={"max_similarity": 1.0})) == [1, 2, 3]


def test_the_last_places_are_for_new_items() -> None:
    settings = ListSettings(k=3, num_new=1)
    assert listed([TAKEN, 5.0, 4.0, 3.0, -9.0], APART, [4], settings) == [1, 2, 4]
    assert listed([TAKEN, 5.0, 4.0, 3.0, -9.0], APART, [], settings) == [1, 2, 3]


def test_the_reason_is_the_nearest_item_of_the_history() -> None:
    vectors = unit_rows(np.array([[1.0, 0], [0, 1.0], [0.1, 1.0]], np.float32))
    scores = np.array([TAKEN, TAKEN, 1.0], np.float32)
    (entry,) = make_list(scores, vectors, np.array([0, 1]), np.zeros(3, np.bool_), ListSettings(k=1))
    assert entry.because == 1
    assert entry.nearness == pytest.approx(1 / np.sqrt(1.01), abs=1e-6)


@pytest.mark.parametrize("seed", range(30))
def test_items_that_cannot_change_a_list_do_not(seed: int) -> None:
    random = np.random.default_rng(seed)
    num = 30
    vectors = unit_rows(random.normal(size=(num, 2)).astype(np.float32))  # in the plane many are alike
    scores = random.normal(size=num).astype(np.float32) * 2
    scores[0] = TAKEN
    is_new = random.random(num) < 0.3
    settings = ListSettings(k=int(random.integers(1, 8)), num_new=int(random.integers(0, 3)), floor=0.4)
    joined = np.flatnonzero(random.random(num) < 0.3)
    joined = joined[joined > 0]
    without = scores.copy()
    without[joined] = TAKEN
    before = make_list(without, vectors, HISTORY, is_new, settings)
    after = make_list(scores, vectors, HISTORY, is_new, settings)
    list_scores = np.array([entry.score for entry in before], np.float32)
    list_is_new = np.array([is_new[entry.item] for entry in before], np.bool_)
    if not can_change(scores[joined], list_scores, list_is_new, settings):
        assert before == after
    left = [item for item in range(1, num) if item not in {entry.item for entry in after}]
    reduced = scores.copy()
    reduced[random.permutation(left)[:5]] = TAKEN  # items that are not in a list can leave
    if len(after) == settings.k:
        assert make_list(reduced, vectors, HISTORY, is_new, settings) == after

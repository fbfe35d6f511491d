"""The best rows of many queries, block by block: the same as sorting all scores at once."""

import numpy as np
import pytest

from sbert.index.top_k import FEW_QUERIES, NO_ROW, TopK, in_order

K = 10


def vectors(seed: int, num: int) -> np.ndarray:
    return np.random.default_rng(seed).standard_normal((num, 16), np.float32)


def best_by_sorting(scores_QN: np.ndarray) -> np.ndarray:
    return np.argsort(-scores_QN, axis=1, kind="stable")[:, :K]


@pytest.mark.parametrize("num_queries", [1, FEW_QUERIES, FEW_QUERIES + 1, 100])
@pytest.mark.parametrize("sizes", [(3, 4, 500), (500, 1, 37, 2_000), (2_000, 2_000, 2_000)])
def test_blocks_give_the_same_rows_as_sorting_all_scores(num_queries: int, sizes: tuple[int, ...]) -> None:
    queries, rows = vectors(0, num_queries), vectors(1, sum(sizes))
    best = TopK(queries, K)
    first = 0
    for size in sizes:
        best.add(rows[first : first + size], np.arange(first, first + size))
        first += size
    scores, numbers = in_order(best.scores_QK, best.numbers_QK)
    expected = queries @ rows.T
    np.testing.assert_array_equal(numbers, best_by_sorting(expected))
    np.testing.assert_allclose(scores, np.take_along_axis(expected, numbers, axis=1), rtol=1e-5)


def test_rows_that_come_better_and_better_are_all_compared() -> None:
    """In the order of their scores every block holds more candidates than places."""
    queries = np.ones((100, 1), np.float32)
    rows = np.arange(3_000, dtype=np.float32)[:, None]
    best = TopK(queries, K)
    for first in range(0, 3_000, 50):
        best.add(rows[first : first + 50], np.arange(first, first + 50))
    _, numbers = in_order(best.scores_QK, best.numbers_QK)
    np.testing.assert_array_equal(numbers, np.tile(np.arange(2_999, 2_989, -1), (100, 1)))


def test_a_query_with_many_candidates_is_right_among_queries_with_none() -> None:
    queries = np.zeros((40, 2), np.float32)
    queries[7] = 1, 0
    queries[:, 1] = 1
    best = TopK(queries, K)
    best.add(np.tile(np.array([[0, 5]], np.float32), (20, 1)), np.arange(20))
    best.add(np.stack([np.arange(300), np.zeros(300)], axis=1).astype(np.float32), np.arange(20, 320))
    _, numbers = in_order(best.scores_QK, best.numbers_QK)
    assert numbers[7].tolist() == list(range(319, 309, -1))
    assert numbers[np.arange(40) != 7].max() < 20


@pytest.mark.parametrize("num_queries", [2, 50])
def test_places_without_a_row_say_so(num_queries: int) -> None:
    best = TopK(vectors(0, num_queries), K)
    best.add(vectors(1, 3), np.arange(3))
    best.add(vectors(2, 1), np.array([3]))
    scores, numbers = in_order(best.scores_QK, best.numbers_QK)
    assert np.sort(numbers[:, :4], axis=1).tolist() == [[0, 1, 2, 3]] * num_queries
    assert (numbers[:, 4:] == NO_ROW).all()
    assert np.isneginf(scores[:, 4:]).all()


def test_another_part_of_the_scores_is_added_to_the_products() -> None:
    queries, rows = vectors(0, 40), vectors(1, 600)
    words = np.random.default_rng(2).standard_normal((40, 600), np.float32)
    best = TopK(queries, K)
    best.add(rows, np.arange(600), lambda asked, block: words[asked, block])
    _, numbers = in_order(best.scores_QK, best.numbers_QK)
    np.testing.assert_array_equal(numbers, best_by_sorting(queries @ rows.T + words))


def test_rows_found_elsewhere_are_merged() -> None:
    queries, rows = vectors(0, 30), vectors(1, 900)
    one, other = TopK(queries, K), TopK(queries, K)
    one.add(rows[:450], np.arange(450))
    other.add(rows[450:], np.arange(450, 900))
    one.merge(other.scores_QK, other.numbers_QK)
    _, numbers = in_order(one.scores_QK, one.numbers_QK)
    np.testing.assert_array_equal(numbers, best_by_sorting(queries @ rows.T))

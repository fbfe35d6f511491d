"""A job is cut so that all cores end together."""

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from sbert.encoder.engine.sharing import SMALLEST_TOKENS, Sharing, choose_num_at_once, cut_for_cores

NATIVE = Sharing(most_at_once=64, batch_cost=8)


def ends_of(lengths: list[int]) -> np.ndarray:
    return np.cumsum(sorted(lengths, reverse=True))


def sizes(lengths: list[int], budget: int, num_at_once: int) -> list[int]:
    """Return the tokens of each batch."""
    ends = [0, *ends_of(lengths).tolist()]
    return [ends[batch.stop] - ends[batch.start] for batch in cut_for_cores(ends_of(lengths), budget, num_at_once)]


@given(
    lengths=st.lists(st.integers(0, 300), max_size=80),
    budget=st.integers(1, 2_048),
    num_at_once=st.integers(1, 9),
)
def test_every_sequence_is_in_one_batch_and_batches_keep_the_budget(
    lengths: list[int], budget: int, num_at_once: int
) -> None:
    batches = list(cut_for_cores(ends_of(lengths), budget, num_at_once))
    assert [place for batch in batches for place in range(batch.start, batch.stop)] == list(range(len(lengths)))
    for batch, size in zip(batches, sizes(lengths, budget, num_at_once), strict=True):
        assert size <= budget or batch.stop - batch.start == 1


def test_a_small_job_is_cut_into_equal_parts() -> None:
    assert sizes([256] * 24, 2_048, 2) == [1_536] * 4  # three batches of 2,048 would leave a core idle for a quarter
    assert sizes([10] * 20, 2_048, 2) == [100, 100]
    assert sizes([256] * 3 + [10] * 20, 2_048, 2) == [512, 456]  # the nearest end, not the one before
    assert sizes([256] * 24, 2_048, 1) == [2_048] * 3


def test_batches_of_a_large_job_get_smaller_towards_its_end() -> None:
    batch_sizes = sizes([64] * 1_000, 2_048, 4)
    assert batch_sizes[:20] == [2_048] * 20
    assert batch_sizes == sorted(batch_sizes, reverse=True)
    assert batch_sizes[-1] <= SMALLEST_TOKENS


@pytest.mark.parametrize(
    ("lengths", "num_threads", "expected"),
    [
        ([256], 2, 1),  # one text: both cores compute it together
        ([256] * 3, 2, 1),  # two texts on one core and one on the other would take a third longer
        ([256] * 24, 2, 2),
        ([10] * 100, 2, 2),
        ([256] * 3, 16, 4),  # teams of four, one of them idle: faster than two teams of eight for two texts and one
        ([256] * 16, 16, 16),
        ([64] * 100_000, 16, 16),
        ([], 2, 2),
    ],
)
def test_cores_work_in_teams_when_there_are_too_few_texts(lengths: list[int], num_threads: int, expected: int) -> None:
    assert choose_num_at_once(np.array(lengths, dtype=np.int64), 2_048, num_threads, NATIVE) == expected


def test_a_runner_that_is_not_safe_in_threads_computes_one_batch_at_a_time() -> None:
    assert choose_num_at_once(np.array([256] * 24), 2_048, 4, Sharing(1, 100)) == 1

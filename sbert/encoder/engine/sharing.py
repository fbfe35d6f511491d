"""Share a job among the cores of a CPU so that all of them end together.

A small job is cut into equal parts, as many for each core. Batches of a large job get smaller towards its end, so that no
core has a large batch left while the others wait. When a job has too few sequences for all cores, several cores compute each
batch together, as a team.
"""

import heapq
from collections.abc import Iterator
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

__all__ = ["SMALLEST_TOKENS", "Sharing", "choose_num_at_once", "cut_for_cores"]

Ints = npt.NDArray[np.int64]

EQUAL_ROUNDS = 2
"""A job of up to this many full batches for each core is cut into equal parts."""
SMALLEST_TOKENS = 256
"""Tokens down to which the batches of a large job get smaller."""
TEAM_EFFICIENCY = 0.85
"""Rate of a team of 2 N cores, divided by twice the rate of N cores: measured 0.82 to 0.88 for two."""


@dataclass(frozen=True)
class Sharing:
    """The ways in which the cores of a CPU may share the work of a runner."""

    most_at_once: int
    """Batches that threads may compute at once; 1 when the runner is not safe in several threads."""
    batch_cost: int
    """Cost of a batch beside that of its tokens, in tokens."""


def cut_for_cores(ends_S: Ints, token_budget: int, num_at_once: int) -> Iterator[slice]:
    """Yield the sequences of each batch. A batch has at most `token_budget` tokens; one sequence is always allowed.

    Args:
        ends_S: where each sequence ends when they lie end to end, the longest first.
        token_budget: most tokens of a batch.
        num_at_once: batches that are computed at once. With 1, each batch takes as much as the budget allows.
    """
    total = int(ends_S[-1]) if len(ends_S) else 0
    num_parts = num_at_once * -(-total // (num_at_once * token_budget))
    is_small = total <= EQUAL_ROUNDS * num_at_once * token_budget
    first, begin = 0, 0
    while first < len(ends_S):
        left = total - begin
        most = int(np.searchsorted(ends_S, begin + token_budget, side="right"))
        if num_at_once == 1:
            stop = most
        elif is_small:
            stop = min(most, _nearest(ends_S, begin + left / max(1, num_parts)))
            num_parts -= 1
        else:
            # Guided self-scheduling (Polychronopoulos and Kuck 1987): half of a core's share of what is left.
            limit = max(SMALLEST_TOKENS, left // (2 * num_at_once))
            stop = min(most, int(np.searchsorted(ends_S, begin + limit, side="right")))
        stop = max(first + 1, stop)
        yield slice(first, stop)
        first, begin = stop, int(ends_S[stop - 1])


def choose_num_at_once(lengths_S: Ints, token_budget: int, num_threads: int, sharing: Sharing) -> int:
    """Return the number of batches to compute at once. A batch's team is `num_threads` divided by this number.

    Args:
        lengths_S: tokens of each sequence.
        token_budget: most tokens of a batch.
        num_threads: threads that may compute, one for each core.
        sharing: the ways in which the runner can share.
    """
    most = min(num_threads, sharing.most_at_once)
    is_large = int(lengths_S.sum()) > EQUAL_ROUNDS * most * token_budget
    if most <= 1 or is_large:
        return most
    ends_S = np.cumsum(-np.sort(-lengths_S))
    choices = sorted({most, *(1 << power for power in range(most.bit_length()))}, reverse=True)
    return min(choices, key=lambda number: _time_of(ends_S, token_budget, number, num_threads, sharing.batch_cost))


def _nearest(ends_S: Ints, place: float) -> int:
    """Return the number of sequences whose common end is nearest to a place."""
    after = int(np.searchsorted(ends_S, place))
    if after == len(ends_S) or (after and place - ends_S[after - 1] < ends_S[after] - place):
        return after
    return after + 1


def _time_of(ends_S: Ints, token_budget: int, num_at_once: int, num_threads: int, batch_cost: int) -> float:
    """Return the time after which the last core ends, in the time of one core for one token."""
    free_at = [0] * num_at_once
    begin = 0
    for batch in cut_for_cores(ends_S, token_budget, num_at_once):
        end = int(ends_S[batch.stop - 1])
        heapq.heapreplace(free_at, free_at[0] + batch_cost + end - begin)
        begin = end
    team = max(1, num_threads // num_at_once)
    return max(free_at) / float(team * TEAM_EFFICIENCY ** np.log2(team))

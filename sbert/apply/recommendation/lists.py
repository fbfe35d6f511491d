"""The list of a user: the best items, no two of them alike, with places for new ones, and a reason for each.

The list is filled in the order of the scores. An item that is too similar to one in the list waits. A waiting item enters
when the next item's odds are below `floor` times its own. So an item that is not in a list, and whose odds are below `floor`
times those of every item in it, can leave or join the table without a change of the list (`can_change`).
"""

from collections.abc import Iterator
from dataclasses import dataclass
from itertools import islice

import numpy as np
import numpy.typing as npt

from sbert.apply.recommendation.settings import ListSettings
from sbert.vectors.precision import Float32

__all__ = ["Entry", "can_change", "make_list"]

Int64 = npt.NDArray[np.int64]

TOLERANCE = 1e-3
"""Scores of a list that was read are compared with this tolerance: products differ in their last bits."""
FIRST_CANDIDATES = 4
"""Candidates that are sorted at first, as a multiple of the list's length; more when these do not fill it."""


@dataclass(frozen=True)
class Entry:
    """One item of a user's list."""

    item: int
    score: float
    """Log-odds of the model."""
    because: int
    """The item of the user's history that is nearest by vectors."""
    nearness: float
    """Cosine of both."""


def make_list(
    scores_N: Float32, vectors_ND: Float32, history: Int64, is_new_N: npt.NDArray[np.bool_], settings: ListSettings
) -> list[Entry]:
    """Return the list of a user, fewer than `k` items if fewer can be recommended.

    Args:
        scores_N: score of each item, minus infinity for items that are left out, shape (N,).
        vectors_ND: unit vectors of the items, shape (N, dim).
        history: numbers of the items that the user took; at least one.
        is_new_N: which items had no event when the model was fitted, shape (N,).
        settings: length, places for new items, diversity.
    """
    num_new = min(settings.num_new, settings.k - 1)
    picker = _Picker(vectors_ND, settings)
    picker.take(_by_score(scores_N, settings.k), scores_N, settings.k - num_new)
    first = set(picker.items)
    if num_new:
        new_N = np.where(is_new_N, scores_N, -np.inf).astype(np.float32)
        new = list(islice(_by_score(_without(new_N, first), num_new), num_new))
        rest = settings.k - len(first) - len(new)
        if rest:
            picker.take(_by_score(_without(scores_N, first | set(new)), settings.k), scores_N, rest)
        picker.items += new
    if not picker.items:
        return []
    nearness = vectors_ND[picker.items] @ vectors_ND[history].T
    nearest = nearness.argmax(axis=1)
    return [
        Entry(item, float(scores_N[item]), int(history[near]), float(nearness[place, near]))
        for place, (item, near) in enumerate(zip(picker.items, nearest, strict=True))
    ]


def can_change(scores: Float32, list_scores: Float32, is_new: npt.NDArray[np.bool_], settings: ListSettings) -> bool:
    """Return whether items that joined can change a list that was made without them.

    Args:
        scores: scores of the items that joined.
        list_scores: scores of the list, in its order.
        is_new: which items of the list are new, in its order.
        settings: those that the list was made with.
    """
    if not len(scores) or not np.isfinite(scores.max()):
        return False
    num_first = settings.k - min(settings.num_new, settings.k - 1)
    if len(list_scores) < settings.k or not is_new[num_first:].all():
        return True
    least = list_scores[:num_first].min() + np.log(settings.floor)
    if num_first < settings.k:
        least = min(least, list_scores[num_first:].min())
    return bool(scores.max() >= least - TOLERANCE)


class _Picker:
    """Fills a list with items that are not alike."""

    def __init__(self, vectors_ND: Float32, settings: ListSettings) -> None:
        self.items: list[int] = []
        self._vectors_ND = vectors_ND
        self._settings = settings

    def take(self, order: Iterator[int], scores_N: Float32, count: int) -> None:
        """Add up to `count` items of an order; waiting items enter last when the order ends."""
        waiting: list[int] = []
        end = len(self.items) + count
        allowance = float(np.log(self._settings.floor))
        for item in order:
            while waiting and scores_N[item] < scores_N[waiting[0]] + allowance and len(self.items) < end:
                self.items.append(waiting.pop(0))
            if len(self.items) == end:
                return
            if self._is_like_another(item):
                waiting.append(item)
            else:
                self.items.append(item)
            if len(self.items) == end:
                return
        self.items += waiting[: end - len(self.items)]

    def _is_like_another(self, item: int) -> bool:
        if self._settings.max_similarity >= 1 or not self.items:
            return False
        return bool((self._vectors_ND[self.items] @ self._vectors_ND[item]).max() > self._settings.max_similarity)


def _by_score(scores_N: Float32, k: int) -> Iterator[int]:
    """Yield items with a finite score, the best first, of equal scores that of the smaller number."""
    count, done = FIRST_CANDIDATES * k, 0
    while True:
        if count < len(scores_N):
            least = np.partition(scores_N, len(scores_N) - count)[len(scores_N) - count]
            some = np.flatnonzero((scores_N >= least) & np.isfinite(scores_N))
        else:
            some = np.flatnonzero(np.isfinite(scores_N))
        order = some[np.argsort(-scores_N[some], kind="stable")]
        yield from (int(item) for item in order[done:])
        done = len(order)
        if count >= len(scores_N):
            return
        count *= 8


def _without(scores_N: Float32, items: set[int]) -> Float32:
    left_N = scores_N.copy()
    left_N[list(items)] = -np.inf
    return left_N

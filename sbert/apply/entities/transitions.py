"""Probabilities of one tag after another: counted, and used to find the likeliest tags of all words together.

Tags are ``O`` for no entity, or the type of an entity. The transitions are abstract (Hou et al. 2020, "Few-shot Slot Tagging
with Collapsed Dependency Transfer"; Yang and Katiyar 2020, section 3.2): whether an entity begins, goes on, ends, or is
followed by one of another type. So they can be learned from texts whose types are others.
"""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt
from scipy.special import logsumexp

__all__ = ["OUTSIDE", "Marginals", "Transitions", "best_path", "count_transitions"]

OUTSIDE = 0
"""The number of the tag ``O``."""

Float64 = npt.NDArray[np.float64]
Ints = npt.NDArray[np.int64]


@dataclass(frozen=True)
class Transitions:
    """Probabilities of the tag after a tag."""

    begin: float
    """Probability that an entity begins after a word of none."""
    go_on: float
    """Probability that an entity goes on after one of its words."""
    change: float
    """Probability that an entity is followed by an entity of another type."""

    def log_matrix(self, num_tags: int, weight: float = 1.0) -> Float64:
        """Return the logarithm of each transition's probability, shape (K, K).

        Args:
            num_tags: K, the tag ``O`` and K - 1 types.
            weight: exponent of the probabilities; below 1 they count less.
        """
        num_types = num_tags - 1
        matrix_KK = np.full((num_tags, num_tags), self.change / max(num_types - 1, 1))
        matrix_KK[OUTSIDE, :] = self.begin / num_types
        matrix_KK[:, OUTSIDE] = 1 - self.go_on - self.change
        np.fill_diagonal(matrix_KK, self.go_on)
        matrix_KK[OUTSIDE, OUTSIDE] = 1 - self.begin
        return np.asarray(weight * np.log(matrix_KK))


def count_transitions(tags: Sequence[Ints]) -> Transitions:
    """Count the transitions of texts, each with one more of every kind, so that none is impossible."""
    begins = outside = go_on = changes = ends = 0
    for tags_W in tags:
        before_W = np.concatenate([[OUTSIDE], tags_W[:-1]])
        was_outside, is_outside = before_W == OUTSIDE, tags_W == OUTSIDE
        outside += int(was_outside.sum())
        begins += int((was_outside & ~is_outside).sum())
        ends += int((~was_outside & is_outside).sum())
        go_on += int((~was_outside & (tags_W == before_W)).sum())
        changes += int((~was_outside & ~is_outside & (tags_W != before_W)).sum())
    inside = go_on + changes + ends + 3
    return Transitions(begin=(begins + 1) / (outside + 2), go_on=(go_on + 1) / inside, change=(changes + 1) / inside)


def best_path(scores_WK: Float64, transitions_KK: Float64) -> Ints:
    """Return the tags of W words whose scores and transitions add up to the most (Viterbi), shape (W,)."""
    num_words = len(scores_WK)
    if not num_words:
        return np.zeros(0, np.int64)
    best_K = scores_WK[0] + transitions_KK[OUTSIDE]
    before_WK = np.zeros(scores_WK.shape, np.int64)
    for word in range(1, num_words):
        sums_KK = best_K[:, None] + transitions_KK
        before_WK[word] = sums_KK.argmax(axis=0)
        best_K = sums_KK.max(axis=0) + scores_WK[word]
    path_W = np.zeros(num_words, np.int64)
    path_W[-1] = best_K.argmax()
    for word in range(num_words - 1, 0, -1):
        path_W[word - 1] = before_WK[word, path_W[word]]
    return path_W


@dataclass(frozen=True)
class Marginals:
    """Sums over all tags of the words before and after each word."""

    scores_WK: Float64
    transitions_KK: Float64
    forward_WK: Float64
    backward_WK: Float64

    @classmethod
    def of(cls, scores_WK: Float64, transitions_KK: Float64) -> "Marginals":
        """Add up by the forward-backward algorithm, in logarithms."""
        forward_WK, backward_WK = np.zeros(scores_WK.shape), np.zeros(scores_WK.shape)
        forward_WK[0] = scores_WK[0] + transitions_KK[OUTSIDE]
        for word in range(1, len(scores_WK)):
            forward_WK[word] = scores_WK[word] + logsumexp(forward_WK[word - 1][:, None] + transitions_KK, axis=0)
        for word in range(len(scores_WK) - 2, -1, -1):
            backward_WK[word] = logsumexp(transitions_KK + scores_WK[word + 1] + backward_WK[word + 1], axis=1)
        return cls(scores_WK, transitions_KK, forward_WK, backward_WK)

    def probability(self, first: int, last: int, tag: int) -> float:
        """Return the probability that the words from `first` to `last`, and neither neighbour, have a tag."""
        stay = self.transitions_KK[tag, tag]
        inner = self.scores_WK[first + 1 : last + 1, tag].sum() + (last - first) * stay
        others = np.arange(len(self.transitions_KK)) != tag
        if first:
            enter = logsumexp(self.forward_WK[first - 1, others] + self.transitions_KK[others, tag])
            enter += self.scores_WK[first, tag]
        else:
            enter = self.forward_WK[0, tag]
        if last + 1 < len(self.scores_WK):
            after_K = self.transitions_KK[tag] + self.scores_WK[last + 1] + self.backward_WK[last + 1]
            leave = logsumexp(after_K[others])
        else:
            leave = 0.0
        whole = logsumexp(self.forward_WK[-1])
        return float(np.clip(np.exp(enter + inner + leave - whole), 0.0, 1.0))

"""Transitions: counted by hand, and checked against every possible path."""

import itertools

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from sbert.apply.entities.transitions import Marginals, Transitions, best_path, count_transitions


def test_transitions_are_counted_with_one_more_of_each() -> None:
    # O O 1 1 2 O: after none 2 + 1 begin of 3 (the first word follows none); inside: 1 goes on, 1 changes, 1 ends
    transitions = count_transitions([np.array([0, 0, 1, 1, 2, 0])])
    assert transitions.begin == pytest.approx((1 + 1) / (3 + 2))
    assert transitions.go_on == pytest.approx((1 + 1) / (3 + 3))
    assert transitions.change == pytest.approx((1 + 1) / (3 + 3))


@pytest.mark.parametrize("num_tags", [2, 3, 5])
def test_probabilities_of_what_follows_add_up_to_one(num_tags: int) -> None:
    matrix = np.exp(Transitions(begin=0.1, go_on=0.5, change=0.1 if num_tags > 2 else 0.0).log_matrix(num_tags))
    assert matrix.sum(axis=1) == pytest.approx(np.ones(num_tags))


@given(st.integers(1, 5), st.integers(2, 4), st.integers(0, 1000))
@settings(max_examples=40, deadline=None)
def test_path_and_probabilities_are_those_of_all_paths(num_words: int, num_tags: int, seed: int) -> None:
    random = np.random.default_rng(seed)
    scores = random.normal(size=(num_words, num_tags))
    matrix = Transitions(begin=0.3, go_on=0.5, change=0.1).log_matrix(num_tags)
    paths = list(itertools.product(range(num_tags), repeat=num_words))
    values = np.array(
        [
            sum(
                scores[at, tag] + matrix[before, tag]
                for at, (before, tag) in enumerate(zip((0, *path), path, strict=False))
            )
            for path in paths
        ]
    )
    assert tuple(best_path(scores, matrix)) == paths[int(values.argmax())]
    shares = np.exp(values - values.max())
    shares /= shares.sum()
    marginals = Marginals.of(scores, matrix)
    for first in range(num_words):
        for last in range(first, num_words):
            for tag in range(1, num_tags):
                expected = sum(
                    share
                    for path, share in zip(paths, shares, strict=True)
                    if all(path[at] == tag for at in range(first, last + 1))
                    and (first == 0 or path[first - 1] != tag)
                    and (last + 1 == num_words or path[last + 1] != tag)
                )
                assert marginals.probability(first, last, tag) == pytest.approx(expected, abs=1e-9)


def test_no_words_have_no_path() -> None:
    assert len(best_path(np.zeros((0, 3)), np.zeros((3, 3)))) == 0

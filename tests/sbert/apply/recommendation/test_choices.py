"""Weights of signals from choices."""

import numpy as np

from sbert.apply.recommendation.choices import Choice, fit_weights


def test_weights_are_those_by_which_the_choices_were_made() -> None:
    random = np.random.default_rng(0)
    true = np.array([1.5, -1.0, 0.0])
    choices = []
    for _ in range(2_000):
        signals = random.normal(size=(20, 3)).astype(np.float32)
        odds = np.exp(signals @ true)
        taken = random.choice(20, p=odds / odds.sum())
        choices.append(Choice(signals, np.zeros(20, np.float32), np.array([taken])))
    np.testing.assert_allclose(fit_weights(choices), true, atol=0.1)


def test_a_sample_of_the_other_items_gives_the_weights_of_all() -> None:
    random = np.random.default_rng(1)
    whole, sampled = [], []
    for _ in range(1_500):
        signals = random.normal(size=(60, 1)).astype(np.float32)
        odds = np.exp(signals[:, 0] * 2)
        taken = random.choice(60, p=odds / odds.sum())
        others = np.delete(np.arange(60), taken)
        whole.append(Choice(signals, np.zeros(60, np.float32), np.array([taken])))
        some = np.concatenate([[taken], random.choice(others, 20, replace=False)])
        offset = np.concatenate([[0], np.full(20, np.log(59 / 20))]).astype(np.float32)
        sampled.append(Choice(signals[some], offset, np.array([0])))
    np.testing.assert_allclose(fit_weights(sampled), fit_weights(whole), atol=0.3)


def test_a_signal_that_never_differs_gets_no_weight() -> None:
    signals = np.array([[1, 7], [0, 7], [-1, 7]], np.float32)
    weights = fit_weights([Choice(signals, np.zeros(3, np.float32), np.array([0]))] * 5)
    assert weights[0] > 0
    assert weights[1] == 0

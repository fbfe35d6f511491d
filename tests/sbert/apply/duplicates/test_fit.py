"""The rule that is fitted on labelled pairs."""

import numpy as np
import pytest
from pydantic import ValidationError

from sbert.apply.duplicates.fit import FitSettings, LabelledPairs, fit_rule, with_nearest_negatives
from sbert.apply.duplicates.rule import PairRule, pair_features
from sbert.apply.duplicates.run import DuplicateSettings
from sbert.errors import LabelError
from sbert.rows.text_differences import text_facts


def made_pairs(num: int = 400, seed: int = 0) -> LabelledPairs:
    """Return pairs of which the cosine tells most; 5 % of the answers are wrong."""
    source = np.random.default_rng(seed)
    is_same = source.random(num) < 0.5
    cosines = np.clip(source.normal(np.where(is_same, 0.85, 0.6), 0.08), -1, 1)
    left = [f"text about subject{n} and more" for n in range(num)]
    right = [f"text about subject{n} and less" if same else f"other thing{n}" for n, same in enumerate(is_same)]
    return LabelledPairs(left, right, is_same ^ (source.random(num) < 0.05), cosines)


def test_the_promised_precision_is_in_the_interval_of_pairs_that_were_not_fitted_on() -> None:
    rule = fit_rule(made_pairs(), FitSettings(precision=0.8))
    assert rule.model is not None
    assert rule.model.precision_low >= 0.8
    assert rule.model.precision_low < rule.model.precision < rule.model.precision_high
    assert rule.model.num_pairs == 400


def test_a_promise_that_the_labels_cannot_show_is_refused_with_both_numbers() -> None:
    with pytest.raises(LabelError, match=r"precision of 99\.5%: 400 labelled pairs can prove [0-9]"):
        fit_rule(made_pairs(), FitSettings(precision=0.995))


def test_too_few_pairs_of_one_kind_are_refused() -> None:
    pairs = LabelledPairs(["a"] * 60, ["b"] * 60, np.ones(60, np.bool_), np.ones(60))
    with pytest.raises(LabelError, match="60 of 60 labelled pairs say the same and 0 do not, but 50 of each"):
        fit_rule(pairs)


def test_the_rule_does_not_depend_on_the_order_of_the_pairs() -> None:
    pairs = made_pairs()
    order = np.random.default_rng(1).permutation(len(pairs.left))
    shuffled = LabelledPairs(
        [pairs.left[n] for n in order], [pairs.right[n] for n in order], pairs.is_same[order], pairs.cosines[order]
    )
    assert fit_rule(shuffled) == fit_rule(pairs)


def test_the_nearest_other_positive_of_an_anchor_is_a_text_that_is_not_the_same() -> None:
    anchors = np.eye(3, dtype=np.float32)
    positives = np.array([[0.9, 0.1, 0], [0.6, 0.8, 0], [0, 0.1, 1]], np.float32)
    pairs = with_nearest_negatives(["a", "b", "c"], ["A", "B", "C"], anchors, positives)
    assert pairs.right == ["A", "B", "C", "B", "A", "A"]
    assert pairs.is_same.tolist() == [True] * 3 + [False] * 3
    assert pairs.cosines[3] == pytest.approx(0.6)


def test_the_features_of_a_pair_are_those_computed_by_hand() -> None:
    left, right = text_facts("pay 5 euros now"), text_facts("pay 6 euros")
    # words and numbers: {pay, euros, now, 5} and {pay, euros, 6}; 2 * 2 shared of 7; 1 of 4 more; the numbers conflict
    assert pair_features(0.5, left, right) == pytest.approx((0.5, 4 / 7, 0.25, 1, 0, 0))


def test_the_reach_of_the_check_leaves_texts_of_other_words_to_the_cosine() -> None:
    left, right = text_facts("pay 5 euros now"), text_facts("send 6 dollars today")
    assert not PairRule().is_same(0.95, left, right)
    assert PairRule(conflict_overlap=0.8).is_same(0.95, left, right)
    assert not PairRule(conflict_overlap=0.8).is_same(0.95, left, text_facts("pay 6 euros now"))


def test_the_old_names_of_the_check_are_read_with_a_warning(caplog: pytest.LogCaptureFixture) -> None:
    rule = PairRule.model_validate({"guard": False, "guard_overlap": 0.5})
    assert not rule.conflict_check
    assert rule.conflict_overlap == 0.5
    assert "the setting guard is now called conflict_check" in caplog.text
    assert not DuplicateSettings.model_validate({"guard": False}).conflict_check
    with pytest.raises(ValidationError, match="conflict_check and its old name guard are both given: remove guard"):
        PairRule.model_validate({"guard": False, "conflict_check": False})

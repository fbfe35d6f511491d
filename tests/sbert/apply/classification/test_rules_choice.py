"""Rules that make a head worse are left out, wholly or in part, and people are told."""

from typing import Any

import numpy as np
import pytest

from sbert.apply.classification.fit import HeadRules, fit_head
from sbert.apply.classification.head import Head
from sbert.apply.classification.rules import Rule
from sbert.apply.classification.rules_use import RulesPart, RulesUse
from sbert.apply.classification.settings import HeadKind, HeadSettings
from sbert.apply.classification.weak_labels import WeakLabels
from tests.sbert.apply.classification.blobs import ORIGIN, blobs

QUICK = HeadSettings(kinds=(HeadKind.LINEAR,), strengths=(10.0,), num_folds=2, words=False)
NUM_ROWS = 120
POINTS_ND, LABELS = blobs(1_000)
OTHER = {"class 0": "class 1", "class 1": "class 2", "class 2": "class 0"}
"""A wrong class for each."""


def fitted(named: dict[str, str], weak: dict[str, str] | None) -> Head:
    """Fit a head to a few blobs, with rules that match the name in every third text, and rows that rules labelled.

    Args:
        named: the name in the text, by class.
        weak: the class that rules gave to each class of 880 other rows; None for no such rows.
    """
    texts = [f"this is {named[label]}" if at % 3 == 0 else "" for at, label in enumerate(LABELS[:NUM_ROWS])]
    rules = tuple(Rule.model_validate({"class": name, "terms": [name]}) for name in OTHER)
    labelled = None
    if weak is not None:
        others = LABELS[NUM_ROWS:]
        labelled = WeakLabels(POINTS_ND[NUM_ROWS:], [weak[label] for label in others], np.ones(len(others)))
    knowledge = HeadRules(rules, "text", texts, labelled)
    return fit_head(POINTS_ND[:NUM_ROWS], LABELS[:NUM_ROWS], QUICK, ORIGIN, rules=knowledge)


def use_of(head: Head) -> RulesUse:
    assert head.record.rules_use is not None
    return head.record.rules_use


RIGHT = {name: name for name in OTHER}
SILENT = dict.fromkeys(OTHER, "nothing")


def test_rules_that_are_right_are_taken_whole() -> None:
    head = fitted(RIGHT, RIGHT)
    assert use_of(head).part is RulesPart.ALL
    assert head.record.num_weak_rows == 880
    assert len(head.record.rules) == 3
    assert use_of(head).told().startswith("The head takes all that the rules give. Macro-F1 of cross-validation is ")


def test_rows_that_rules_labelled_wrongly_are_left_out_and_the_rules_stay_as_features() -> None:
    head = fitted(RIGHT, OTHER)
    use = use_of(head)
    assert use.part is RulesPart.FEATURES
    assert use.macro_f1_features is not None
    assert use.macro_f1_features > max(use.macro_f1, use.macro_f1_without) + 0.005
    assert head.record.num_weak_rows == 0
    assert head.rule_weights_KC is not None
    alone = fitted(RIGHT, None)
    assert use_of(alone).macro_f1_features is None
    np.testing.assert_array_equal(head.weights_FC, alone.weights_FC)
    assert "learns from no row that they labelled, since these rows make it worse" in use.told()
    assert f"{100 * use.macro_f1_features:.1f} as features alone" in use.told()


def test_rules_that_only_harm_are_left_out_wholly() -> None:
    head = fitted(SILENT, OTHER)
    use = use_of(head)
    assert use.part is not RulesPart.ALL
    assert use.macro_f1 < use.macro_f1_without - 0.005


def test_a_head_without_its_rules_is_the_head_that_never_had_any(monkeypatch: pytest.MonkeyPatch) -> None:
    values: Any = iter([0.5, 0.6, 0.7])
    monkeypatch.setattr("sbert.apply.classification.rules_choice._best", lambda *_: next(values))
    head = fitted(RIGHT, OTHER)
    assert use_of(head) == RulesUse(part=RulesPart.NOTHING, macro_f1=0.5, macro_f1_features=0.6, macro_f1_without=0.7)
    plain = fit_head(POINTS_ND[:NUM_ROWS], LABELS[:NUM_ROWS], QUICK, ORIGIN)
    assert head.record.rules == ()
    assert head.rule_weights_KC is None
    np.testing.assert_array_equal(head.scores(POINTS_ND), plain.scores(POINTS_ND))
    assert use_of(head).told() == (
        "The head takes nothing from the rules, since they make it worse: correct them, or remove rules_uri. Macro-F1 of "
        "cross-validation is 50.0 with them, 60.0 as features alone, and 70.0 without."
    )


@pytest.mark.parametrize(
    ("values", "part"),
    [
        ((0.700, 0.704, 0.704), RulesPart.ALL),  # less than half a point is chance
        ((0.690, 0.700, 0.704), RulesPart.FEATURES),
        ((0.690, 0.690, 0.700), RulesPart.NOTHING),
        ((0.800, 0.700, 0.600), RulesPart.ALL),
    ],
)
def test_the_largest_part_that_costs_less_than_half_a_point_is_taken(
    values: tuple[float, ...], part: RulesPart, monkeypatch: pytest.MonkeyPatch
) -> None:
    left = iter(values)
    monkeypatch.setattr("sbert.apply.classification.rules_choice._best", lambda *_: next(left))
    assert use_of(fitted(RIGHT, OTHER)).part is part

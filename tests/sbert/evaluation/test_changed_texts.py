"""Texts that are changed by rule: the meaning turns or stays, and the rules that warn people see it."""

import doctest

import pytest

from sbert.evaluation import changed_texts
from sbert.evaluation.changed_texts import change_number, negate, reword
from sbert.rows.text_differences import DifferenceKind, differences


@pytest.mark.parametrize(
    ("text", "negated"),
    [
        ("The card is accepted everywhere.", "The card is not accepted everywhere."),
        ("The card is not accepted everywhere.", "The card is accepted everywhere."),
        ("I can't pay", "I can pay"),
        ("He won\u2019t come.", "He will come."),
        ("You cannot top up", "You can top up"),
        ("Don't close it", "Do close it"),
    ],
)
def test_a_text_is_negated_or_loses_its_negation(text: str, negated: str) -> None:
    assert negate(text, seed=0) == negated


@pytest.mark.parametrize(
    "text",
    [
        "",
        "Can I pay?",
        "How long will it take?",
        "Why can I pay",
        "Nobody is here",
        "not here and not there",
        "Guten Tag",
    ],
)
def test_a_text_that_no_rule_fits_is_left_out(text: str) -> None:
    assert negate(text, seed=0) is None


@pytest.mark.parametrize("text", ["It costs $40 a month", "Call 0800", "I have two cards", "Seit 1989 im Norden"])
def test_a_number_becomes_another_number_of_as_many_figures(text: str) -> None:
    for seed in range(20):
        changed = change_number(text, seed=seed)
        assert changed is not None
        assert changed == change_number(text, seed=seed)
        [difference] = [each for each in differences(text, changed) if each.kind is DifferenceKind.NUMBER]
        assert difference.is_conflict
        assert len(changed) == len(text) or "two" in text


def test_a_text_without_a_number_is_left_out() -> None:
    assert change_number("No number here", seed=0) is None


def test_other_words_leave_numbers_names_and_negations_as_they_are() -> None:
    for seed in range(20):
        text = "She does not owe Ada 30 dollars."
        assert differences(text, reword(text, seed=seed)) == ()
        assert reword("I agree.", seed=seed).endswith(("I agree.",))


def test_the_examples_of_the_module_are_true() -> None:
    assert doctest.testmod(changed_texts).failed == 0

"""Rules that surely make a head worse are left out, wholly or in part, and people are told."""

import logging
from collections.abc import Sequence
from pathlib import Path

import numpy as np
import pytest

from sbert.apply.classification import heads, rules_choice
from sbert.apply.classification.fit import HeadRules, fit_head
from sbert.apply.classification.head import Head
from sbert.apply.classification.multi_label_fit import fit_multi_label_head
from sbert.apply.classification.quality import macro_f1
from sbert.apply.classification.rules import Rule
from sbert.apply.classification.rules_use import RulesPart, RulesUse
from sbert.apply.classification.run import classify
from sbert.apply.classification.settings import ClassificationSettings, HeadKind, HeadSettings
from sbert.apply.classification.weak_labels import WeakLabels
from sbert.derived.derived_table import DerivedTable
from sbert.evaluation.metric import Metric
from tests.sbert.apply.classification.blobs import ORIGIN, blobs
from tests.support.made_tables import make_version, unit_vector
from tests.support.tables import write

QUICK = HeadSettings(kinds=(HeadKind.LINEAR,), strengths=(10.0,), num_folds=2, words=False)
NUM_ROWS = 120
POINTS_ND, LABELS = blobs(1_000)
OTHER = {"class 0": "class 1", "class 1": "class 2", "class 2": "class 0"}
"""A wrong class for each."""
RIGHT = {name: name for name in OTHER}


def fitted(named: dict[str, str], weak: dict[str, str] | None, settings: HeadSettings = QUICK) -> Head:
    """Fit a head to a few blobs, with rules that match the name in every third text, and rows that rules labelled.

    Args:
        named: the name in the text, by class.
        weak: the class that rules gave to each class of 880 other rows; None for no such rows.
        settings: of the head.
    """
    texts = [f"this is {named[label]}" if at % 3 == 0 else "" for at, label in enumerate(LABELS[:NUM_ROWS])]
    rules = tuple(Rule.model_validate({"class": name, "terms": [name]}) for name in OTHER)
    labelled = None
    if weak is not None:
        others = LABELS[NUM_ROWS:]
        labelled = WeakLabels(POINTS_ND[NUM_ROWS:], [weak[label] for label in others], np.ones(len(others)))
    knowledge = HeadRules(rules, "text", texts, labelled)
    return fit_head(POINTS_ND[:NUM_ROWS], LABELS[:NUM_ROWS], settings, ORIGIN, rules=knowledge)


def use_of(head: Head) -> RulesUse:
    assert head.record.rules_use is not None
    return head.record.rules_use


def named_rightly(num_right: int) -> Metric:
    """Return macro-F1 on 100 rows of two classes of which so many are named rightly, the same rows for less as for more."""
    truth_N = np.arange(100) % 2
    return macro_f1(truth_N, np.where(np.arange(100) < num_right, truth_N, 1 - truth_N))


def let_parts_reach(monkeypatch: pytest.MonkeyPatch, rightly_named: Sequence[int]) -> None:
    """Let all, the features alone, and nothing name so many of 100 rows rightly."""
    found = iter(map(named_rightly, rightly_named))
    monkeypatch.setattr(rules_choice, "_best", lambda *_: next(found))


def test_rules_that_are_right_are_taken_whole() -> None:
    head = fitted(RIGHT, RIGHT)
    use = use_of(head)
    assert use.part is RulesPart.ALL
    assert (head.record.num_weak_rows, len(head.record.rules), use.num_rows) == (880, 3, NUM_ROWS)
    assert use.told() == (
        "The head takes all that the rules give, since no smaller part of it is surely better. In cross-validation on 120 "
        f"labelled rows, by vectors and rules alone, macro-F1 is {100 * use.macro_f1:.1f} with all that the rules give, "
        f"{100 * (use.macro_f1_features or 0):.1f} as features alone, and {100 * use.macro_f1_without:.1f} without rules."
    )


def test_rows_that_rules_labelled_wrongly_are_left_out_and_the_rules_stay_as_features() -> None:
    head = fitted(RIGHT, OTHER)
    use = use_of(head)
    assert use.part is RulesPart.FEATURES
    assert use.macro_f1_features is not None
    assert use.macro_f1_features > max(use.macro_f1, use.macro_f1_without)
    assert use.gain == pytest.approx(use.macro_f1_features - use.macro_f1)
    assert 0 < use.gain_low < use.gain < use.gain_high
    assert head.record.num_weak_rows == 0
    assert head.rule_weights_KC is not None
    alone = fitted(RIGHT, None)
    assert use_of(alone).macro_f1_features is None
    np.testing.assert_array_equal(head.weights_FC, alone.weights_FC)
    assert "learns from no row that they labelled, since these rows make it worse" in use.told()
    assert f"Features alone gain {100 * use.gain:+.1f} points (90% interval {100 * use.gain_low:+.1f} to " in use.told()


@pytest.mark.parametrize(
    ("rightly_named", "part"),
    [
        ((80, 82, 82), RulesPart.ALL),  # two rows are chance
        ((60, 80, 82), RulesPart.NOTHING),
        ((60, 82, 80), RulesPart.FEATURES),
        ((90, 70, 60), RulesPart.ALL),
    ],
)
def test_all_is_taken_unless_a_smaller_part_is_surely_better_and_then_the_best(
    rightly_named: tuple[int, ...], part: RulesPart, monkeypatch: pytest.MonkeyPatch
) -> None:
    let_parts_reach(monkeypatch, rightly_named)
    use = use_of(fitted(RIGHT, OTHER))
    assert use.part is part
    values = [named_rightly(count).value for count in rightly_named]
    assert [use.macro_f1, use.macro_f1_features, use.macro_f1_without] == values


def test_a_head_that_takes_nothing_is_the_head_without_rules(monkeypatch: pytest.MonkeyPatch) -> None:
    let_parts_reach(monkeypatch, [50, 60, 80])
    head = fitted(RIGHT, OTHER)
    plain = fit_head(POINTS_ND[:NUM_ROWS], LABELS[:NUM_ROWS], QUICK, ORIGIN)
    assert head.record.rules == ()
    assert head.rule_weights_KC is None
    np.testing.assert_array_equal(head.scores(POINTS_ND), plain.scores(POINTS_ND))
    told = use_of(head).told()
    assert "A head without rules gains +" in told
    assert told.startswith(
        "The head takes nothing from the rules, since they make it worse: correct them, or label more"
    )


def test_each_part_is_compared_with_its_best_strength_on_at_most_so_many_rows() -> None:
    several = QUICK.model_copy(update={"strengths": (1e-6, 10.0), "max_choice_rows": 100})
    use, alone = use_of(fitted(RIGHT, RIGHT, several)), use_of(fitted(RIGHT, RIGHT))
    assert use.num_rows == 100
    weak = use_of(fitted(RIGHT, RIGHT, QUICK.model_copy(update={"strengths": (1e-6,)})))
    assert weak.macro_f1_without < alone.macro_f1_without - 0.1
    assert use.macro_f1_without > weak.macro_f1_without + 0.1


def test_lists_of_classes_take_rules_as_features_in_any_case(monkeypatch: pytest.MonkeyPatch) -> None:
    let_parts_reach(monkeypatch, [])
    rules = HeadRules((Rule.model_validate({"class": "class 0", "terms": ["zero"]}),), "text", ["zero"] * NUM_ROWS)
    head = fit_multi_label_head(
        POINTS_ND[:NUM_ROWS], [[name] for name in LABELS[:NUM_ROWS]], QUICK, ORIGIN, rules=rules
    )
    assert head.record.rules_use is None
    assert head.rule_weights_KC is not None


@pytest.mark.parametrize("has_rules", [False, True])
@pytest.mark.parametrize("num_folds", [2, 5])
def test_two_rows_of_each_class_are_enough(num_folds: int, has_rules: bool) -> None:
    few = np.concatenate([np.flatnonzero(np.array(LABELS) == name)[:2] for name in OTHER])
    rules = (
        HeadRules((Rule.model_validate({"class": "class 0", "terms": ["x"]}),), "text", ["x"] * 6)
        if has_rules
        else None
    )
    settings = QUICK.model_copy(update={"num_folds": num_folds, "strengths": (3.0, 10.0)})
    head = fit_head(POINTS_ND[few], [LABELS[row] for row in few], settings, ORIGIN, rules=rules)
    assert head.confusion.sum() == 6


def test_a_run_whose_rules_are_wrong_says_that_it_takes_nothing_from_them(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    monkeypatch.setattr(
        heads, "vectors_of_texts", lambda _, texts: np.array([unit_vector(int(text.split()[-1])) for text in texts])
    )
    make_version(str(tmp_path / "table"), {"a": {str(number): number for number in range(1_500)}})
    signs = ["up" if unit_vector(number)[0] > 0 else "down" for number in range(2_000, 2_200)]
    labelled = [
        {"text": f"text {number}", "label": sign, "split": "test" if number % 4 == 0 else "train"}
        for number, sign in enumerate(signs, 2_000)
    ]
    write(tmp_path / "labels.jsonl", labelled)
    rules = [
        {"class": "up", "terms": ["kind 0"]},
        {"class": "down", "terms": ["kind 1"]},
    ]  # a third of the rows each, whatever their sign
    rules_uri = str(write(tmp_path / "rules.jsonl", rules))
    settings = ClassificationSettings(head=QUICK, rules_uri=rules_uri, text_column="kind")
    with caplog.at_level(logging.WARNING):
        report = classify(str(tmp_path / "table"), str(tmp_path / "labels.jsonl"), str(tmp_path / "out"), settings)
    head = report.tasks[0].head
    assert head.rules_use is not None
    assert head.rules_use.part is RulesPart.NOTHING
    assert (head.rules, head.text_column) == (None, "")
    assert f"labels: {head.rules_use.told()}" in caplog.messages
    assert "by_rules" not in DerivedTable.open(report.output.out_uri).schema.names
    assert "The head takes nothing from the rules, since they make it worse" in Path(report.report_uri).read_text()
    again = classify(str(tmp_path / "table"), str(tmp_path / "labels.jsonl"), str(tmp_path / "out"), settings)
    assert again.output.num_rows_built == 0
    assert again.tasks[0].head.rules_use == head.rules_use


def test_the_report_tells_the_part_without_held_out_rows_too(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(
        heads, "vectors_of_texts", lambda _, texts: np.array([unit_vector(int(text.split()[-1])) for text in texts])
    )
    make_version(str(tmp_path / "table"), {"a": {str(number): number for number in range(30)}})
    labelled = [{"text": f"text {number}", "label": "ab"[number % 2], "split": "train"} for number in range(60)]
    write(tmp_path / "labels.jsonl", labelled)
    rules_uri = str(write(tmp_path / "rules.jsonl", [{"class": "a", "terms": ["text"]}]))
    settings = ClassificationSettings(head=QUICK, rules_uri=rules_uri, text_column="kind")
    report = classify(str(tmp_path / "table"), str(tmp_path / "labels.jsonl"), str(tmp_path / "out"), settings)
    assert (report.tasks[0].head.quality, report.tasks[0].head.rules_use is None) == (None, False)
    assert "In cross-validation on 60 labelled rows" in Path(report.report_uri).read_text()

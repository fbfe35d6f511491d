"""Robustness sets: every installation has them, and equal texts give equal sets."""

import pytest

from sbert.evaluation import robustness_sets as module
from sbert.evaluation.evaluate import evaluate
from sbert.evaluation.robustness_sets import robustness_sets
from sbert.evaluation.robustness_settings import RobustnessKind, RobustnessSettings
from sbert.evaluation.settings import EvaluationSettings
from sbert.rows.text_differences import DifferenceKind, differences
from tests.support.tiny_models import tiny_encoder

OWN = [f"Card {number} is accepted in {number + 2} countries. It is blue." for number in range(60)]
FEW = RobustnessSettings(num_texts=40)


def test_the_sets_come_from_the_texts_that_decide() -> None:
    negation, number, typos, other = robustness_sets(OWN, FEW, seed=0)
    firsts = {text.split(". ")[0] + "." for text in OWN}
    for made, kind in ((negation, DifferenceKind.NEGATION), (number, DifferenceKind.NUMBER)):
        assert made.rows.height == 40
        for anchor, positive, negative in made.rows.iter_rows():
            assert anchor in firsts
            assert positive.lower().endswith(anchor.lower())
            assert [difference.kind for difference in differences(anchor, negative)] == [kind]
    assert set(typos.rows["positive"]) <= firsts
    assert (typos.rows["anchor"] != typos.rows["positive"]).all()
    assert not set(other.rows["anchor"]) & firsts


def test_the_order_of_the_texts_does_not_matter_and_the_seed_does() -> None:
    prints = [each.fingerprint for each in robustness_sets(OWN, FEW, seed=0)]
    assert [each.fingerprint for each in robustness_sets([*OWN[::-1], OWN[0]], FEW, seed=0)] == prints
    assert not set(prints) & {each.fingerprint for each in robustness_sets(OWN, FEW, seed=1)}


def test_documentation_fills_up_what_few_texts_leave() -> None:
    made = robustness_sets(["Nothing to change here"], FEW, seed=0)
    assert [(each.name, each.rows.height) for each in made] == [
        (f"robustness:{kind.value}", 40) for kind in RobustnessKind
    ]


def test_only_the_sets_that_are_asked_for_are_made() -> None:
    asked = RobustnessSettings(sets=(RobustnessKind.TYPOS,), num_texts=20)
    assert [each.name for each in robustness_sets(OWN, asked, seed=0)] == ["robustness:typos"]
    assert robustness_sets(OWN, RobustnessSettings(sets=()), seed=0) == []


def test_a_set_that_cannot_be_made_is_left_out(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(module, "documentation_pairs", tuple)  # as under python -OO
    monkeypatch.setattr(module, "documentation_sentences", list)
    assert [each.name for each in robustness_sets([f"{text}" for text in OWN], FEW, seed=0)] == [
        "robustness:negation", "robustness:number", "robustness:typos",
    ]  # fmt: skip
    assert robustness_sets(["Nothing to change here"], FEW, seed=0) == []


def test_a_made_set_is_measured_by_its_one_metric_and_leaves_the_shape_of_the_space_alone() -> None:
    quick = EvaluationSettings(num_resamples=100, bias=False, speed_texts=0)
    [made] = robustness_sets(OWN, RobustnessSettings(sets=(RobustnessKind.NUMBER,), num_texts=20), seed=0)
    evaluation = evaluate(tiny_encoder(), [made], quick)
    measured = evaluation.summary.sets["robustness:number"]
    assert list(measured.metrics) == [measured.primary_metric] == ["triplet_accuracy"]
    assert measured.slices == measured.robustness == {}
    assert evaluation.summary.geometry == evaluate(tiny_encoder(), [], quick).summary.geometry

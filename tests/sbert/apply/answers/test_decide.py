"""Decisions: answer, ask which of two is meant, or stay silent."""

from pathlib import Path

import numpy as np
import pytest

from sbert.apply.answers.best_answers import Answer
from sbert.apply.answers.decide import AnswerDecision, Reason, decide
from sbert.apply.answers.model import AnswerModel, Calibration
from sbert.apply.answers.run import answer_questions
from sbert.apply.answers.settings import AnswerSettings, FusionWeights
from sbert.derived.derived_table import DerivedTable
from tests.support.made_tables import make_version, unit_vector

SURE = Calibration(coefficients=(0.0, 20.0, 0.0, 0.0, 0.0, 0.0), intercept=-2.0, threshold=0.9)
EITHER = Calibration(coefficients=(20.0, 0.0, 0.0, 0.0, 0.0, 0.0), intercept=-12.0, threshold=0.9)
MODEL = AnswerModel(
    origin="fixed",
    weights=FusionWeights(),
    first=SURE,
    first_two=EITHER,
    promised_error=0.1,
    token_length=None,
    encoder_fingerprint="e",
    num_answers=3,
    mean_length=1.0,
)


def answers(*scores: float, hashes: str = "abc") -> list[Answer]:
    return [Answer(("s", str(at)), score, hashes[at].encode(), score, None, None) for at, score in enumerate(scores)]


@pytest.mark.parametrize(
    ("candidates", "is_unknown", "decision", "reason"),
    [
        (answers(0.9, 0.5, 0.4), False, AnswerDecision.ANSWER, Reason.NONE),
        (answers(0.9, 0.89, 0.4), False, AnswerDecision.CLARIFY, Reason.TWO_ANSWERS),
        (answers(0.9, 0.89, 0.88, hashes="aab"), False, AnswerDecision.CLARIFY, Reason.TWO_ANSWERS),
        (answers(0.9, 0.89, hashes="aa"), False, AnswerDecision.ABSTAIN, Reason.UNSURE),
        (answers(0.5, 0.49, 0.4), False, AnswerDecision.ABSTAIN, Reason.UNSURE),
        (answers(0.9, 0.5, 0.4), True, AnswerDecision.ABSTAIN, Reason.UNKNOWN_LANGUAGE),
        ([], False, AnswerDecision.ABSTAIN, Reason.NO_ANSWERS),
        ([], True, AnswerDecision.ABSTAIN, Reason.NO_ANSWERS),
    ],
    ids=["one is best", "two are good", "the same twice and another", "the same twice", "none is good", "language",
         "no answers", "no answers, language"],
)  # fmt: skip
def test_a_decision_follows_from_the_list(
    candidates: list[Answer], is_unknown: bool, decision: AnswerDecision, reason: Reason
) -> None:
    (decided,) = decide([candidates], [is_unknown], MODEL)
    assert decided.decision == decision
    assert decided.reason == reason
    assert 0 <= decided.probability <= 1


def two_near() -> tuple[int, int]:
    """Return the numbers of two answers that are about equally near to question 0, and near to it."""
    question = unit_vector(0)
    near = sorted((float(question @ unit_vector(number)), number) for number in range(1, 2_000))
    near = [each for each in near if 0.94 < each[0] < 0.96]
    gap, at = min((near[at + 1][0] - near[at][0], at) for at in range(len(near) - 1))
    assert gap < 1e-3
    return near[at][1], near[at + 1][1]


def test_a_question_between_two_answers_asks_which_is_meant(tmp_path: Path) -> None:
    """The promise is one that the two answers keep together, and neither keeps alone; "same" is one of them word by word."""
    questions, table, out = (str(tmp_path / name) for name in ("questions", "answers", "out"))
    left, right = two_near()
    far = [number for number in range(2_000, 2_100) if unit_vector(0) @ unit_vector(number) < 0]
    make_version(questions, {"q": {"between": 0, "same": left}})
    make_version(table, {"a": {"left": left, "right": right, **{str(number): number for number in far[:10]}}})
    report = answer_questions(
        questions,
        table,
        out,
        AnswerSettings(k=3, promised_error=0.023, weights=FusionWeights(cosine=1, answer_cosine=0, words=0)),
    )
    rows = {row["id"]: row for row in DerivedTable.open(out).scan().collect().to_dicts()}
    between = rows["between"]
    assert between["decision"] == "clarify"
    assert between["reason"] == "two answers"
    assert {each["id"] for each in between["answers"][:2]} == {"left", "right"}
    assert np.diff([each["score"] for each in between["answers"][:2]]) > -1e-3
    assert report.decisions["clarify"] == 1
    assert report.reasons["two answers"] == 1
    assert rows["same"]["decision"] == "answer"
    assert "two answers" in Path(report.report_uri).read_text()

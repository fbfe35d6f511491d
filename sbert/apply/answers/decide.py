"""Turn the list of answers of a question into a probability and a decision."""

from collections.abc import Sequence
from enum import StrEnum
from typing import NamedTuple

import numpy as np

from sbert.apply.answers.best_answers import Answer
from sbert.apply.answers.model import FEATURES, AnswerModel, Float64

__all__ = ["AnswerDecision", "Decided", "Reason", "decide", "features"]


class AnswerDecision(StrEnum):
    """Decision about a question."""

    ANSWER = "answer"
    CLARIFY = "clarify"
    ABSTAIN = "abstain"


class Reason(StrEnum):
    """Reason that a question is not answered."""

    NONE = ""
    UNSURE = "unsure"
    TWO_ANSWERS = "two answers"
    NO_ANSWERS = "no answers"
    UNKNOWN_LANGUAGE = "unknown language"


class Decided(NamedTuple):
    """The probability that the best answer is right, and the decision that follows from it."""

    probability: float
    decision: AnswerDecision
    reason: Reason


def features(lists: Sequence[Sequence[Answer]]) -> Float64:
    """Return the features of the probability, shape (questions, `FEATURES`).

    ``margin`` is the distance of the best score to that of the next *other* answer: an equal answer in second place is no
    reason for doubt.
    ``lead`` is the distance to the mean of all scores of the list but the first. Both are 0 without a second answer.
    """
    values = np.zeros((len(lists), len(FEATURES)))
    for row, answers in enumerate(lists):
        if not answers:
            continue
        best = answers[0]
        others = [answer.score for answer in answers if answer.text_hash != best.text_hash]
        values[row] = (
            best.score,
            best.score - others[0] if others else 0.0,
            best.cosine,
            best.answer_cosine or 0.0,
            best.words or 0.0,
            best.score - sum(others) / len(others) if others else 0.0,
        )
    return values


def decide(lists: Sequence[Sequence[Answer]], is_unknown: Sequence[bool], model: AnswerModel) -> list[Decided]:
    """Decide on each question.

    The best answer is given if it is right with enough probability. Otherwise the reader is asked to choose between the two
    best, if one of them is right with enough probability.

    Args:
        lists: answers of each question, the best first.
        is_unknown: whether a question is in a language that the encoder does not know.
        model: calibration and thresholds.
    """
    values = features(lists)
    first, two = model.first.probability(values).tolist(), model.first_two.probability(values).tolist()
    decided = []
    for answers, unknown, best, either in zip(lists, is_unknown, first, two, strict=True):
        if not answers:
            decided.append(Decided(0.0, AnswerDecision.ABSTAIN, Reason.NO_ANSWERS))
        elif unknown:
            decided.append(Decided(best, AnswerDecision.ABSTAIN, Reason.UNKNOWN_LANGUAGE))
        elif best >= model.first.threshold:
            decided.append(Decided(best, AnswerDecision.ANSWER, Reason.NONE))
        elif len({answer.text_hash for answer in answers}) > 1 and either >= model.first_two.threshold:
            decided.append(Decided(best, AnswerDecision.CLARIFY, Reason.TWO_ANSWERS))
        else:
            decided.append(Decided(best, AnswerDecision.ABSTAIN, Reason.UNSURE))
    return decided

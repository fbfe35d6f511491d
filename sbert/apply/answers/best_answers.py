"""The k best answers of many questions, exactly: of all answers, by the whole score.

One matrix product gives the vectors' part for all pairs, a sparse product adds the words. The score of the pairs that were
found is then computed once more from its parts in double precision, so that a pair has the same score in every run.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import NamedTuple

import numpy as np
import numpy.typing as npt
import scipy.sparse

from sbert.apply.answers.answer_pool import ROWS_PER_BLOCK, AnswerPool
from sbert.apply.answers.settings import FusionWeights
from sbert.apply.answers.shared_words import QuestionWords
from sbert.apply.nearest_rows import Key
from sbert.index.top_k import NO_ROW, Int64, TopK
from sbert.vectors.precision import Float32

__all__ = ["Answer", "Questions", "best_answers"]

QUESTIONS_PER_PASS = 1_024
ROUNDING = np.float32(1e-4)
"""Bound of the difference between a score of the search and the stored score."""
DIGITS = 6
"""Decimal places of stored scores: sums of 32-bit numbers differ beyond them."""


class Answer(NamedTuple):
    """An answer that was found for a question."""

    key: Key
    score: float
    text_hash: bytes
    """Hash of the answer's text; equal answers have equal hashes."""
    cosine: float
    answer_cosine: float | None
    words: float | None


@dataclass(frozen=True)
class Questions:
    """Questions that are compared."""

    vectors_QD: Float32
    """Unit vectors."""
    words: QuestionWords | None

    def __len__(self) -> int:
        return len(self.vectors_QD)

    def take(self, places: Sequence[int]) -> "Questions":
        """Return some of the questions."""
        words = self.words
        words_taken = None if words is None else QuestionWords(words.terms_T, words.weights_QT[list(places)])
        return Questions(self.vectors_QD[list(places)], words_taken)


def best_answers(
    questions: Questions, pool: AnswerPool, weights: FusionWeights, k: int, at_least: Float32 | None = None
) -> list[list[Answer]]:
    """Return up to k answers of each question, the best first.

    Args:
        questions: what is asked.
        pool: the answers.
        weights: of the parts of the score.
        k: answers of each question.
        at_least: a score for each question: answers below it need not be found.
    """
    if not len(pool):
        return [[] for _ in range(len(questions))]
    lists: list[list[Answer]] = []
    for first in range(0, len(questions), QUESTIONS_PER_PASS):
        places = list(range(first, min(first + QUESTIONS_PER_PASS, len(questions))))
        least = None if at_least is None else at_least[places]
        lists += _pass(questions.take(places), pool, weights, k, least)
    return lists


def _pass(
    questions: Questions, pool: AnswerPool, weights: FusionWeights, k: int, at_least: Float32 | None
) -> list[list[Answer]]:
    top = TopK(pool.scaled(questions.vectors_QD), k)
    matches: list[scipy.sparse.csr_array] = []
    for block in pool.blocks():
        numbers = np.arange(block.first, block.first + len(block.scoring_ND), dtype=np.int64)
        if questions.words is None or block.words is None or not weights.words:
            top.add(block.scoring_ND, numbers)
            continue
        match = questions.words.scores(block.words)
        matches.append(match)
        weighted = match * np.float32(weights.words)

        def added(rows: slice, answers: slice, weighted: scipy.sparse.csr_array = weighted) -> Float32:
            return np.asarray(weighted[rows, answers].toarray(), np.float32)

        top.add(block.scoring_ND, numbers, added)
    numbers_QK = top.numbers_QK
    if at_least is not None:
        numbers_QK = np.where(top.scores_QK < (at_least - ROUNDING)[:, None], NO_ROW, numbers_QK)
    return _described(questions, pool, weights, numbers_QK, matches)


def _described(
    questions: Questions,
    pool: AnswerPool,
    weights: FusionWeights,
    numbers_QK: Int64,
    matches: list[scipy.sparse.csr_array],
) -> list[list[Answer]]:
    """Compute each part of the score of the best answers."""
    rows, columns = np.nonzero(numbers_QK != NO_ROW)
    numbers = numbers_QK[rows, columns]
    ours = questions.vectors_QD[rows].astype(np.float64)
    cosine = np.einsum("nd,nd->n", ours, pool.vectors_ND[numbers].astype(np.float64)).round(DIGITS)
    score = weights.cosine * cosine
    answer_cosine = np.zeros(len(numbers))
    if pool.answer_vectors_ND is not None:
        theirs = pool.answer_vectors_ND[numbers].astype(np.float64)
        answer_cosine = np.einsum("nd,nd->n", ours, theirs).round(DIGITS)
        score = score + weights.answer_cosine * answer_cosine
    words = _word_matches(matches, rows, numbers)
    score = score + weights.words * words
    score = score.round(DIGITS)
    keys = pool.keys.take(numbers).to_pydict()
    lists: list[list[Answer]] = [[] for _ in range(len(questions))]
    has_answer = pool.has_answer_N[numbers]
    for at, row in enumerate(rows.tolist()):
        lists[row].append(
            Answer(
                (keys["source"][at], keys["id"][at]),
                float(score[at]),
                keys["text_hash"][at],
                float(cosine[at]),
                float(answer_cosine[at]) if has_answer[at] else None,
                float(words[at]) if matches else None,
            )
        )
    return [sorted(answers, key=lambda answer: (-answer.score, answer.key)) for answers in lists]


def _word_matches(matches: list[scipy.sparse.csr_array], rows: Int64, numbers: Int64) -> npt.NDArray[np.float64]:
    """Return the word match of pairs of a question and an answer."""
    words = np.zeros(len(numbers))
    blocks, places = numbers // ROWS_PER_BLOCK, numbers % ROWS_PER_BLOCK
    for number, match in enumerate(matches):
        here = np.flatnonzero(blocks == number)
        if len(here):
            words[here] = np.asarray(match[rows[here], places[here]]).ravel()
    return np.asarray(words.round(DIGITS))

"""The match of words: between 0 and 1, worked by hand, and the same whatever other answers there are."""

import numpy as np
import polars as pl
import pytest

from sbert.apply.answers.shared_words import answer_words, count_words, question_words

TEXTS = pl.Series(["reset the password", "password", "invoice by mail", ""])


def test_scores_are_those_of_bm25_over_the_best_there_could_be() -> None:
    counts = count_words(TEXTS)
    scores = question_words(["password invoice"], counts).scores(answer_words(TEXTS, counts)).toarray()[0]
    # password is in 2 of 4 answers, invoice in 1; the mean length is 7 / 4; k1 = 1.6, b = 0.9
    password, invoice = np.log1p(2.5 / 2.5), np.log1p(3.5 / 1.5)
    weights = [1 / (1 + 1.6 * (0.1 + 0.9 * length / 1.75)) for length in (3, 1, 3)]
    expected = np.array([password * weights[0], password * weights[1], invoice * weights[2], 0]) / (password + invoice)
    np.testing.assert_allclose(scores, expected, rtol=1e-5)


def test_a_new_answer_changes_no_score() -> None:
    counts = count_words(TEXTS)
    more = pl.concat([TEXTS, pl.Series(["password and invoice"])])
    questions = question_words(["reset password", "who", ""], counts)
    before = questions.scores(answer_words(TEXTS, counts)).toarray()
    after = questions.scores(answer_words(more, counts)).toarray()
    np.testing.assert_array_equal(before, after[:, :4])
    assert after[0, 4] > 0


def test_a_term_in_many_of_many_answers_is_left_out() -> None:
    counts = count_words(pl.Series(["the answer"] * 900 + ["a fuse"] * 200))
    assert question_words(["the fuse"], counts).weights_QT.toarray().max() == pytest.approx(1)

"""LexRank, ROUGE and the choice of sentences, against values worked by hand and against the reference implementation."""

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from rouge_score import rouge_scorer

from sbert.apply.summaries.lexrank import lexrank, word_cosines
from sbert.apply.summaries.rouge import best_rouge, ngrams, rouge_f
from sbert.apply.summaries.selection import choose_sentences, join_sentences
from sbert.apply.summaries.sentences import terms_of_texts
from sbert.apply.summaries.settings import SummaryBudget
from sbert.vectors.precision import Float32


def unit(vectors: list[list[float]]) -> Float32:
    matrix = np.array(vectors, np.float32)
    scaled: Float32 = matrix / np.linalg.norm(matrix, axis=1, keepdims=True)
    return scaled


def cosines(vectors: list[list[float]]) -> Float32:
    similarities: Float32 = unit(vectors) @ unit(vectors).T
    return similarities


def test_words_that_few_sentences_have_make_two_sentences_alike() -> None:
    # Three sentences: "a" stands in all and weighs ln(4/3), "b" in two and weighs ln 2, "c" and "d" in one and weigh ln 4.
    a, b, c = np.log(4 / 3), np.log(2), np.log(4)
    similarities = word_cosines([("a", "b"), ("b", "a", "b"), ("a", "c", "d")])
    assert similarities[0, 1] == pytest.approx(1)
    assert similarities[0, 2] == pytest.approx(a * a / (np.hypot(a, b) * np.sqrt(a * a + 2 * c * c)))
    np.testing.assert_allclose(similarities, similarities.T)
    assert word_cosines([(), ()]).tolist() == [[1, 0], [0, 1]]


def test_lexrank_is_the_fixed_point_of_the_walk() -> None:
    # Two equal sentences and one that is unlike both: cosines [[1, 1, 0], [1, 1, 0], [0, 0, 1]]. Every step stays in its
    # part, jumps go anywhere, so each sentence keeps 1/3.
    np.testing.assert_allclose(lexrank(cosines([[1, 0], [1, 0], [0, 1]])), [1 / 3] * 3, atol=1e-6)
    # A sentence between two unlike ones is the most central.
    between = lexrank(cosines([[1, 0], [1, 1], [0, 1]]))
    assert between.argmax() == 1
    steps = np.array([[1, 0.5**0.5, 0], [0.5**0.5, 1, 0.5**0.5], [0, 0.5**0.5, 1]])
    steps /= steps.sum(axis=1, keepdims=True)
    walk = 0.15 / 3 + 0.85 * steps
    values, vectors = np.linalg.eig(walk.T)
    expected = np.real(vectors[:, np.argmax(values.real)])
    np.testing.assert_allclose(between, expected / expected.sum(), atol=1e-5)


@pytest.mark.parametrize("num", [0, 1])
def test_sentences_that_are_all_alike_have_the_same_lexrank(num: int) -> None:
    assert lexrank(np.ones((num, num), np.float32)).tolist() == [1.0] * num


WORDS = st.lists(st.sampled_from("the cat sat on a mat dog ran".split()), max_size=12)


@settings(deadline=None)
@given(WORDS, WORDS)
def test_rouge_is_that_of_the_reference_implementation(summary: list[str], reference: list[str]) -> None:
    scorer = rouge_scorer.RougeScorer(["rouge1", "rouge2"], use_stemmer=False)
    expected = scorer.score(" ".join(reference), " ".join(summary))
    for size, name in ((1, "rouge1"), (2, "rouge2")):
        assert rouge_f(ngrams(summary, size), ngrams(reference, size)) == pytest.approx(expected[name].fmeasure)


def test_of_several_references_the_best_counts() -> None:
    summary, *references = (ngrams(terms) for terms in terms_of_texts(["A cat.", "The dog", "the CAT"]))
    assert best_rouge(summary, references) == pytest.approx(0.5)
    assert best_rouge(summary, []) == 0


VECTORS = unit([[1, 0], [0, 1], [1, 0.01], [1, 1]])
SCORES = np.array([4, 3, 2, 1], np.float32)
LENGTHS = np.array([10, 5, 3, 2])


@pytest.mark.parametrize(
    ("budget", "expected"),
    [
        ({"max_words": 100}, [0, 1, 3]),  # the third repeats the first
        ({"max_words": 100, "max_similarity": 1}, [0, 1, 2, 3]),
        ({"max_words": 100, "max_similarity": 0.5}, [0, 1]),
        ({"max_words": 9}, [1]),  # the first does not fit, and the worse half fills no gap
        ({"max_words": 13}, [0]),
        ({"max_words": 1}, [0]),  # nothing fits: the best alone
        ({"max_words": None, "max_sentences": 2}, [0, 1]),
        ({"max_words": 9, "max_sentences": 1}, [1]),
    ],
)
def test_the_best_are_chosen_within_the_budget_in_their_order(
    budget: dict[str, float | None], expected: list[int]
) -> None:
    asked = SummaryBudget.model_validate(budget)
    assert choose_sentences(SCORES, LENGTHS, VECTORS, asked).tolist() == expected
    back = choose_sentences(SCORES[::-1], LENGTHS[::-1], VECTORS[::-1], asked)
    assert sorted(3 - back) == expected


def test_a_budget_without_a_limit_is_refused() -> None:
    with pytest.raises(ValueError, match="set at least one"):
        SummaryBudget(max_words=None)


def test_sentences_are_joined_on_one_line() -> None:
    assert join_sentences(["A cat\nsat.", "It ran."]) == "A cat sat. It ran."
    assert join_sentences(["明天见。", "好。"]) == "明天见。好。"

"""Retrieval, geometry, bias and perturbations, by hand and against trusted implementations."""

import numpy as np
import pytest
import sklearn.metrics

from sbert.evaluation.bias import TESTS, association_effect
from sbert.evaluation.geometry import alignment, effective_rank, measure_geometry, uniformity
from sbert.evaluation.perturb import perturb
from sbert.evaluation.retrieval import RetrievalTask, pairs_as_retrieval, rank_scores
from sbert.evaluation.settings import Perturbation


def test_pairs_become_queries_and_a_corpus() -> None:
    task = pairs_as_retrieval(["a", "b", "a"], ["x", "y", "z"], ["x", "w"])
    assert task.queries == ["a", "b"]
    assert task.corpus == ["x", "y", "z", "w"]
    assert task.relevant == [frozenset({0, 2}), frozenset({1})]


def test_retrieval_metrics_are_those_worked_by_hand() -> None:
    # One query; cosines with the corpus fall with the number, so ranks are 1, 2, 3, 4; relevant are ranks 2 and 4.
    angles = np.array([0.1, 0.2, 0.3, 0.4])
    corpus = np.stack([np.cos(angles), np.sin(angles)], axis=1).astype(np.float32)
    task = RetrievalTask(["q"], ["x", "y", "z", "w"], [frozenset({1, 3})])
    metrics = rank_scores(task, np.array([[1.0, 0.0]], dtype=np.float32), corpus, ks=(1, 2, 10))
    # DCG = 1/log2(3) + 1/log2(5) = 0.6309 + 0.4307; ideal = 1 + 1/log2(3) = 1.6309
    assert metrics["ndcg@10"][0] == pytest.approx((0.6309 + 0.4307) / 1.6309, abs=1e-4)
    assert metrics["mrr@10"][0] == pytest.approx(1 / 2)
    assert [metrics[f"recall@{k}"][0] for k in (1, 2, 10)] == [0.0, 0.5, 1.0]


def test_ndcg_is_that_of_scikit_learn() -> None:
    rng = np.random.default_rng(0)
    queries, corpus = rng.normal(size=(7, 8)).astype(np.float32), rng.normal(size=(150, 8)).astype(np.float32)
    relevant = [frozenset(rng.choice(150, size=5, replace=False).tolist()) for _ in range(7)]
    task = RetrievalTask([f"q{n}" for n in range(7)], [f"d{n}" for n in range(150)], relevant)
    ndcg = rank_scores(task, queries, corpus, ks=(10,))["ndcg@10"]
    unit = corpus / np.linalg.norm(corpus, axis=1, keepdims=True)
    scores = (queries / np.linalg.norm(queries, axis=1, keepdims=True)) @ unit.T
    truth = np.array([[float(number in hits) for number in range(150)] for hits in relevant])
    expected = [sklearn.metrics.ndcg_score([a], [b], k=10) for a, b in zip(truth, scores, strict=True)]
    assert ndcg == pytest.approx(expected, abs=1e-6)


def test_a_query_is_not_its_own_answer() -> None:
    vectors = np.eye(3, dtype=np.float32)
    task = RetrievalTask(["q"], ["q", "answer", "other"], [frozenset({1})])
    query = np.array([[1.0, 0.5, 0.0]], dtype=np.float32)
    assert rank_scores(task, query, vectors)["mrr@10"][0] == 1.0
    itself = RetrievalTask(["q"], ["q", "answer", "other"], [frozenset({0})])
    assert rank_scores(itself, query, vectors)["mrr@10"][0] == 1.0


def test_alignment_and_uniformity_are_those_worked_by_hand() -> None:
    left = np.array([[1.0, 0.0], [2.0, 0.0]], dtype=np.float32)
    right = np.array([[0.0, 3.0], [1.0, 0.0]], dtype=np.float32)
    assert alignment(left, right) == pytest.approx([2.0, 0.0])  # orthogonal units are sqrt(2) apart
    # Two orthogonal vectors: squared distance 2, log exp(-2 * 2) = -4. Equal vectors: 0.
    assert uniformity(np.eye(2, dtype=np.float32)) == pytest.approx(-4.0)
    assert uniformity(np.ones((3, 2), dtype=np.float32)) == pytest.approx(0.0, abs=1e-9)


def test_effective_rank_is_the_number_of_dimensions_in_use() -> None:
    assert effective_rank(np.eye(5, dtype=np.float32)) == pytest.approx(5.0)
    assert effective_rank(np.ones((9, 4), dtype=np.float32)) == pytest.approx(1.0)
    # Singular values of three copies of e1 and one of e2: sqrt(3) and 1; p = 0.634, 0.366; exp(entropy) = 1.928
    stacked = np.array([[1, 0], [1, 0], [1, 0], [0, 1]], dtype=np.float32)
    assert effective_rank(stacked) == pytest.approx(1.928, abs=1e-3)


def test_a_collapsed_space_has_a_high_mean_cosine_and_few_dimensions_in_use() -> None:
    rng = np.random.default_rng(0)
    spread, noise = rng.normal(size=(200, 16)).astype(np.float32), rng.normal(size=(200, 16)).astype(np.float32)
    collapsed = np.ones(16, dtype=np.float32) + 0.02 * noise
    good, bad = measure_geometry(spread), measure_geometry(collapsed)
    assert good.mean_cosine < 0.05 < 0.99 < bad.mean_cosine
    assert bad.effective_rank < 2.5 < 10 < good.effective_rank
    assert good.uniformity < bad.uniformity


def test_the_association_effect_is_that_worked_by_hand() -> None:
    x, y = np.array([1.0, 0.0]), np.array([0.0, 1.0])
    first, second = np.stack([x, x]).astype(np.float32), np.stack([y, y]).astype(np.float32)
    effect, p_value = association_effect((first, second), (first, second), num_permutations=2_000, seed=0)
    # s = +1, +1, -1, -1: difference of means 2, sample standard deviation sqrt(4/3)
    assert effect == pytest.approx(2 / np.sqrt(4 / 3))
    assert p_value == pytest.approx(1 / 6, abs=0.03)  # one of the six splits of four words is as far apart
    none, p_value = association_effect((first, first), (first, second), num_permutations=200, seed=0)
    assert none == 0.0
    assert p_value == 1.0


def test_the_word_sets_of_an_association_test_are_of_one_size() -> None:
    for test in TESTS:
        assert len(test.targets[0]) == len(test.targets[1])
        assert len(test.attributes[0]) == len(test.attributes[1])
        assert not set(test.targets[0]) & set(test.targets[1])


@pytest.mark.parametrize(
    ("kind", "expected"),
    [
        (Perturbation.LOWER_CASE, "how do i reset my password"),
        (Perturbation.UPPER_CASE, "HOW DO I RESET MY PASSWORD"),
        (Perturbation.TRUNCATION, "How do I"),
    ],
)
def test_a_perturbation_changes_a_text_as_it_says(kind: Perturbation, expected: str) -> None:
    assert perturb(["How do I reset my password"], kind, seed=0) == [expected]


def test_random_perturbations_depend_on_the_text_alone() -> None:
    text = "How do I reset my password when the mail never arrives"
    for kind in (Perturbation.TYPOS, Perturbation.WORD_ORDER):
        [changed] = perturb([text], kind, seed=0)
        assert changed != text
        assert perturb(["another text", text], kind, seed=0)[1] == changed
    [shuffled] = perturb([text], Perturbation.WORD_ORDER, seed=0)
    assert sorted(shuffled.split()) == sorted(text.split())
    assert perturb(["", "x", "42"], Perturbation.TYPOS, seed=0)[0::2] == ["", "42"]

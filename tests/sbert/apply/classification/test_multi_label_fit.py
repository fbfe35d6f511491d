"""A head of several classes a row: each class against the rest, calibrated, with a threshold, and honest about its lists."""

from pathlib import Path

import numpy as np
import numpy.typing as npt
import pytest
from sklearn.calibration import CalibratedClassifierCV
from sklearn.frozen import FrozenEstimator
from sklearn.linear_model import LogisticRegression
from sklearn.metrics import f1_score

from sbert.apply.classification.fit import HeadRules, head_fingerprint
from sbert.apply.classification.multi_label_calibration import best_f1, fit_sigmoid, possible_scores, thresholds
from sbert.apply.classification.multi_label_fit import fit_multi_label_head, truth_matrix
from sbert.apply.classification.multi_label_head import MULTI_LABEL_HEADS, MultiLabelHead
from sbert.apply.classification.multi_label_quality import difference_of_macro_f1, measure_multi_label_head
from sbert.apply.classification.regression import fit_one_against_rest
from sbert.apply.classification.rules import Rule
from sbert.apply.classification.settings import HeadKind, HeadSettings
from sbert.apply.classification.words import HeadWords
from sbert.errors import TooFewLabelsError
from tests.sbert.apply.classification.blobs import ORIGIN

QUICK = HeadSettings(kinds=(HeadKind.LINEAR,), strengths=(10.0,), num_folds=3)
Vectors = npt.NDArray[np.float32]


def overlapping(
    num_rows: int, *, num_classes: int = 3, noise: float = 0.4, seed: int = 0
) -> tuple[Vectors, list[list[str]]]:
    """Return vectors whose first values say which classes a row has; a class is rarer the later it comes."""
    random = np.random.default_rng(seed)
    has_NC = random.random((num_rows, num_classes)) < 0.5 / (1 + np.arange(num_classes))
    vectors_ND = np.concatenate([2.0 * has_NC - 1, np.ones((num_rows, 2))], axis=1)
    vectors_ND += noise * random.standard_normal(vectors_ND.shape)
    vectors_ND /= np.linalg.norm(vectors_ND, axis=1, keepdims=True)
    return vectors_ND.astype(np.float32), [[f"class {at}" for at in np.flatnonzero(row)] for row in has_NC]


def fitted(
    vectors_ND: Vectors, labels: list[list[str]], settings: HeadSettings = QUICK, **more: object
) -> MultiLabelHead:
    return fit_multi_label_head(vectors_ND, labels, settings, ORIGIN, **more)


def test_each_class_is_logistic_regression_against_the_rest() -> None:
    vectors_ND, labels = overlapping(400)
    truth_NC = truth_matrix(labels, ["class 0", "class 1", "class 2"])
    weights_FC, bias_C = fit_one_against_rest(vectors_ND, truth_NC, 10.0)
    for at in range(3):
        model = LogisticRegression(C=10.0, tol=1e-6, max_iter=1_000).fit(vectors_ND, truth_NC[:, at])
        ours, theirs = vectors_ND @ weights_FC[:, at] + bias_C[at], model.decision_function(vectors_ND)
        np.testing.assert_allclose(ours, theirs, atol=0.05)


def test_a_class_that_no_row_has_and_one_that_every_row_has_are_settled() -> None:
    vectors_ND, labels = overlapping(50)
    truth_NC = truth_matrix([[*names, "all"] for names in labels], ["all", "class 0", "none"])
    weights_FC, bias_C = fit_one_against_rest(vectors_ND, truth_NC, 1.0)
    scores_NC = vectors_ND @ weights_FC + bias_C
    assert (scores_NC[:, 0] > 100).all()
    assert (scores_NC[:, 2] < -100).all()


def test_the_calibration_of_a_class_is_that_of_platt() -> None:
    random = np.random.default_rng(0)
    scores_N = 3 * random.standard_normal(500)
    truth_N = random.random(500) < 1 / (1 + np.exp(-(0.5 * scores_N - 1)))
    model = LogisticRegression(C=1e6).fit(scores_N[:, None], truth_N)
    reference = CalibratedClassifierCV(FrozenEstimator(model), method="sigmoid").fit(scores_N[:, None], truth_N)
    slope, offset = fit_sigmoid(scores_N, truth_N)
    ours = 1 / (1 + np.exp(-(slope * scores_N + offset)))
    np.testing.assert_allclose(ours, reference.predict_proba(scores_N[:, None])[:, 1], atol=0.01)
    assert ours.mean() == pytest.approx(truth_N.mean(), abs=0.005)
    worse, _ = fit_sigmoid(-scores_N, truth_N)
    assert worse > 0  # a higher score never means a lower probability


def test_the_threshold_of_a_class_has_the_best_f1_of_all() -> None:
    random = np.random.default_rng(1)
    truth_N = random.random(300) < 0.2
    scores_N = truth_N + random.standard_normal(300)
    value, threshold = best_f1(scores_N, truth_N)
    tried = [f1_score(truth_N, scores_N >= score) for score in scores_N]
    assert value == pytest.approx(max(tried))
    assert f1_score(truth_N, scores_N >= threshold) == pytest.approx(value)
    value, threshold = best_f1(np.array([0.5, 0.5, 0.5, 0.1]), np.array([True, False, True, False]))
    assert value == pytest.approx(0.8)  # 2 of 3 right, 2 of 2 reached: 2 · 2 / (3 + 2)
    assert threshold == pytest.approx(0.3)
    value, threshold = best_f1(scores_N, np.zeros(300, bool))
    assert value == 0
    assert threshold == float("inf")


def test_small_classes_share_a_threshold_and_a_least_possible_score() -> None:
    random = np.random.default_rng(2)
    truth_NC = random.random((400, 3)) < np.array([0.4, 0.03, 0.03])
    probabilities_NC = np.clip(0.5 * truth_NC + 0.5 * random.random((400, 3)), 0, 1)
    own, *shared = thresholds(probabilities_NC, truth_NC, 50)
    assert shared[0] == shared[1] == best_f1(probabilities_NC[:, 1:].ravel(), truth_NC[:, 1:].ravel())[1]
    assert own == best_f1(probabilities_NC[:, 0], truth_NC[:, 0])[1]
    first, *others = possible_scores(probabilities_NC, truth_NC, 0.9, 50)
    assert others[0] == others[1]
    true_scores = np.sort(1 - probabilities_NC[truth_NC[:, 0], 0])
    assert first == true_scores[int(np.ceil((len(true_scores) + 1) * 0.9)) - 1]


def test_what_is_promised_holds_on_rows_that_chose_nothing() -> None:
    vectors_ND, labels = overlapping(3_000, noise=0.6)
    head = fitted(vectors_ND[:1_500], labels[:1_500])
    texts = [f"text {row}" for row in range(1_500)]
    quality = measure_multi_label_head(head, vectors_ND[1_500:], labels[1_500:], texts)
    assert quality is not None
    assert quality.calibration_error < 0.03
    assert quality.possible_coverage is not None
    assert 0.87 < quality.possible_coverage.value < 0.96  # named classes are possible too, whatever the threshold says
    assert quality.answered_error is not None
    assert quality.answered_error.value <= 0.06
    assert 0.2 < quality.answered.value < 1
    assert quality.subset_accuracy.value > 0.75


def test_possible_classes_hold_as_many_true_ones_as_asked() -> None:
    vectors_ND, labels = overlapping(3_000, noise=1.0)
    head = fitted(vectors_ND[:1_500], labels[:1_500])
    truth_NC = truth_matrix(labels[1_500:], head.classes) > 0
    possible_NC = head.possible(head.probabilities(vectors_ND[1_500:]))
    for at in range(3):
        assert 0.85 < possible_NC[truth_NC[:, at], at].mean() < 0.95
    assert possible_NC.mean() < 0.7


def test_the_measures_are_those_of_scikit_learn() -> None:
    vectors_ND, labels = overlapping(900, noise=0.8)
    head = fitted(vectors_ND[:600], labels[:600])
    labels[700] = ["unheard of"]
    rest, truth = vectors_ND[600:], labels[600:]
    region = ["north" if row % 3 else "south" for row in range(300)]
    quality = measure_multi_label_head(head, rest, truth, [f"text {row}" for row in range(300)], {"region": region})
    assert quality is not None
    names = [*head.classes, "unheard of"]
    truth_NC = truth_matrix(truth, names)
    named_NC = np.concatenate([head.named(head.probabilities(rest)), np.zeros((300, 1), bool)], axis=1).astype(int)
    exact = (truth_NC == named_NC).all(axis=1)
    assert quality.subset_accuracy.value == exact.mean()
    for measured, average in ((quality.micro_f1, "micro"), (quality.macro_f1, "macro")):
        assert measured.value == pytest.approx(f1_score(truth_NC, named_NC, average=average))
        assert measured.low < measured.value < measured.high
    assert [item.label for item in quality.classes] == names
    assert quality.classes[-1].recall is not None
    assert quality.classes[-1].recall.value == 0
    assert [item.num_rows for item in quality.classes] == truth_NC.sum(axis=0).tolist()
    north = next(group for group in quality.groups if group.value == "north")
    assert north.error.value == pytest.approx((~exact)[np.array(region) == "north"].mean())
    assert all(set(row.truth) != set(row.named) for row in quality.wrong)
    sure = [row.probability for row in quality.wrong]
    assert sure == sorted(sure, reverse=True)
    assert sum(count for _, _, count in quality.reliability) == 300 * 3
    assert measure_multi_label_head(head, rest[:0], [], []) is None


def test_a_head_is_compared_with_another_on_the_same_rows() -> None:
    vectors_ND, labels = overlapping(900)
    good, poor = fitted(vectors_ND[:600], labels[:600]), fitted(vectors_ND[:40], labels[:40])
    rest, truth, texts = vectors_ND[600:], labels[600:], [""] * 300
    after, before, gain = difference_of_macro_f1(good, poor, rest, truth, texts, num_resamples=200, confidence=0.95)
    assert gain.value == pytest.approx(after - before)
    assert gain.low <= gain.value <= gain.high
    truth_NC = truth_matrix(truth, good.classes)
    assert after == pytest.approx(f1_score(truth_NC, good.named(good.probabilities(rest)), average="macro"))
    _, _, none = difference_of_macro_f1(good, good, rest, truth, texts, num_resamples=50, confidence=0.95)
    assert none.low == none.value == none.high == 0


def test_words_and_rules_are_features_of_each_class() -> None:
    random = np.random.default_rng(3)
    vectors_ND = random.standard_normal((400, 4)).astype(np.float32)  # they say nothing
    labels = [[name for at, name in enumerate(("billing", "urgent")) if random.random() < 0.4] for _ in range(400)]
    texts = [
        " ".join(["the", *(f"{name}word" for name in names), "of", f"day{row}"]) for row, names in enumerate(labels)
    ]
    head = fitted(vectors_ND, labels, words=HeadWords("text", texts))
    assert head.words is not None
    speaking = head.words.speaking(head.classes, against_others=False)["billing"]
    assert "billingword" in speaking
    assert all("billingword" in term for term in speaking)
    right = (head.named(head.probabilities(vectors_ND, texts)) == truth_matrix(labels, head.classes)).all(axis=1)
    assert right.mean() > 0.95
    with pytest.raises(ValueError, match="reads words: give the texts"):
        head.probabilities(vectors_ND)
    rule = Rule.model_validate({"class": "urgent", "terms": ["urgentword"]})
    ruled = fitted(vectors_ND, labels, rules=HeadRules((rule,), "text", texts))
    assert ruled.rule_weights_KC is not None
    assert ruled.rule_weights_KC[0, 1] > 3
    assert abs(ruled.rule_weights_KC[0, 0]) < 1  # the rule says nothing of the other class
    assert ruled.record.num_weak_rows == 0


def test_the_kind_is_chosen_by_what_it_gives() -> None:
    random = np.random.default_rng(0)
    vectors_ND = random.standard_normal((600, 2)).astype(np.float32)
    vectors_ND /= np.linalg.norm(vectors_ND, axis=1, keepdims=True)
    is_same = vectors_ND[:, 0] * vectors_ND[:, 1] > 0  # no line separates it
    labels = [
        (["same"] if same else []) + (["right"] if right else [])
        for same, right in zip(is_same, vectors_ND[:, 0] > 0, strict=True)
    ]
    head = fitted(vectors_ND, labels, HeadSettings(strengths=(10.0,), num_landmarks=200, num_folds=2))
    assert head.record.kind is HeadKind.KERNEL
    assert len(head.record.chosen) == 2


def test_a_head_comes_back_from_storage_as_it_was(tmp_path: Path) -> None:
    vectors_ND, labels = overlapping(200)
    head = fitted(vectors_ND, labels)
    again = fitted(vectors_ND, labels)
    assert again.record == head.record
    head.save(str(tmp_path))
    stored = MULTI_LABEL_HEADS.find(str(tmp_path), "f" * 32)
    assert stored is not None
    assert stored.record == head.record
    np.testing.assert_array_equal(stored.probabilities(vectors_ND), head.probabilities(vectors_ND))


def test_lists_have_a_name_of_their_own() -> None:
    assert head_fingerprint("l", "e", "", QUICK) != head_fingerprint("l", "e", "", QUICK, is_multi_label=True)


@pytest.mark.parametrize(
    ("labels", "message"),
    [
        ([[]] * 20, "none of 20 labelled rows has a class: add rows that have one"),
        ([["a"]] * 10 + [["b", "a"]] + [[]] * 9, "1 of 2 classes have one row, such as 'b': add a row to each"),
        ([["a", "b"]] * 10 + [["a"]] * 10, "at least 19 of 20 rows have the class 'a': add 2 rows without it"),
    ],
)
def test_labels_that_cannot_be_learned_are_named(labels: list[list[str]], message: str) -> None:
    with pytest.raises(TooFewLabelsError, match=message):
        fitted(overlapping(20)[0], labels)


def test_a_promise_that_cannot_be_kept_is_said_and_every_row_abstains(caplog: pytest.LogCaptureFixture) -> None:
    vectors_ND, labels = overlapping(40)
    head = fitted(vectors_ND, labels, QUICK.model_copy(update={"promised_error": 0.001}))
    assert head.abstains(head.probabilities(vectors_ND)).all()
    assert "no threshold keeps the promised error of 0.001 for whole lists on 40 labelled rows" in caplog.text

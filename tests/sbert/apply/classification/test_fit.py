"""A head is chosen and calibrated on rows that were predicted unseen, and is the same when it comes back from storage."""

import json
from pathlib import Path

import numpy as np
import pytest
from sklearn.linear_model import LogisticRegression

from sbert.apply.classification.fit import fit_head, head_fingerprint
from sbert.apply.classification.head import HEADS, Head, centred
from sbert.apply.classification.quality import measure_head
from sbert.apply.classification.settings import HeadKind, HeadSettings
from sbert.errors import TableError, TooFewLabelsError
from tests.sbert.apply.classification.blobs import ORIGIN, blobs


def fitted(vectors: np.ndarray, labels: list[str], **settings: object) -> Head:
    return fit_head(vectors, labels, HeadSettings(**settings), ORIGIN)


def test_a_linear_head_is_logistic_regression_on_centred_unit_vectors() -> None:
    vectors, labels = blobs(300)
    head = fitted(vectors, labels, kinds=("linear",), strengths=(10.0,))
    features = centred(vectors, vectors.mean(axis=0))
    model = LogisticRegression(C=10.0, max_iter=300, tol=1e-4).fit(features, labels)
    assert head.classes == model.classes_.tolist()
    np.testing.assert_allclose(head.scores(vectors), features @ model.coef_.T + model.intercept_, atol=1e-4)
    np.testing.assert_allclose(head.probabilities(vectors).sum(axis=1), 1)


def test_a_kernel_head_learns_what_no_line_can_separate() -> None:
    random = np.random.default_rng(0)
    vectors = random.standard_normal((600, 2)).astype(np.float32)
    labels = np.where(vectors[:, 0] * vectors[:, 1] > 0, "same", "other").tolist()  # the XOR of signs
    vectors /= np.linalg.norm(vectors, axis=1, keepdims=True)
    head = fitted(vectors, labels, strengths=(10.0,), num_landmarks=200, num_folds=2)
    assert head.record.kind is HeadKind.KERNEL
    right = np.array(head.classes)[head.scores(vectors).argmax(axis=1)] == labels
    assert right.mean() > 0.9
    assert {item["kind"] for item in head.record.chosen} == {"linear", "kernel"}


def test_two_classes_have_the_probabilities_of_one_score() -> None:
    vectors, labels = blobs(200, num_classes=2)
    head = fitted(vectors, labels, kinds=("linear",), strengths=(1.0,))
    model = LogisticRegression(C=1.0, max_iter=300, tol=1e-4).fit(centred(vectors, vectors.mean(axis=0)), labels)
    expected = model.decision_function(centred(vectors, vectors.mean(axis=0)))
    scores = head.scores(vectors)
    np.testing.assert_allclose(scores[:, 1] - scores[:, 0], expected, atol=1e-4)


def test_the_confusion_is_of_rows_that_the_head_had_not_seen() -> None:
    vectors, labels = blobs(200, spread=2.0)  # noise: a head that has seen the rows would look better than it is
    head = fitted(vectors, labels, kinds=("kernel",), strengths=(1_000.0,))
    seen = np.array(head.classes)[head.scores(vectors).argmax(axis=1)] == labels
    assert head.confusion.sum() == 200
    assert np.trace(head.confusion) / 200 < seen.mean() - 0.2


def test_a_head_comes_back_from_storage_as_it_was(tmp_path: Path) -> None:
    vectors, labels = blobs(200)
    head = fitted(vectors, labels)
    assert HEADS.find(str(tmp_path), "f" * 32) is None
    head.save(str(tmp_path))
    stored = HEADS.find(str(tmp_path), "f" * 32)
    assert stored is not None
    assert stored.record == head.record
    np.testing.assert_array_equal(stored.probabilities(vectors), head.probabilities(vectors))
    (tmp_path / "_heads" / ("f" * 32) / "head.safetensors").write_bytes(b"broken")
    with pytest.raises(
        TableError, match=r"the files of the head are damaged .*: remove this folder, then run again to fit a new head"
    ):
        HEADS.find(str(tmp_path), "f" * 32)
    record = tmp_path / "_heads" / ("f" * 32) / "head.json"
    record.write_text(json.dumps({"fingerprint": "x"}))
    with pytest.raises(TableError, match="the files of the head are damaged"):
        HEADS.find(str(tmp_path), "f" * 32)


def test_the_same_labels_give_the_same_head() -> None:
    vectors, labels = blobs(150)
    first, second = (fitted(vectors, labels, strengths=(3.0, 10.0), num_folds=2) for _ in range(2))
    assert first.record == second.record
    np.testing.assert_array_equal(first.weights_FC, second.weights_FC)


def test_whatever_decides_a_head_changes_its_name() -> None:
    settings = HeadSettings()
    names = {
        head_fingerprint("l", "e", "", settings),
        head_fingerprint("m", "e", "", settings),
        head_fingerprint("l", "f", "", settings),
        head_fingerprint("l", "e", "tone", settings),
        head_fingerprint("l", "e", "", HeadSettings(seed=1)),
    }
    assert len(names) == 5


@pytest.mark.parametrize(
    ("labels", "message"),
    [
        (["a"] * 20, "the labels have 1 class, 'a', at least 2 are needed"),
        (["a"] * 10 + ["b"] * 9 + ["c"], "1 of 3 classes have one row, such as 'c'"),
    ],
)
def test_labels_that_cannot_be_learned_are_named(labels: list[str], message: str) -> None:
    with pytest.raises(TooFewLabelsError, match=message):
        fitted(blobs(20)[0], labels)


def test_quality_counts_errors_by_class_and_group_with_intervals() -> None:
    vectors, labels = blobs(600, spread=0.8)
    head = fitted(vectors[:400], labels[:400], kinds=("linear",), num_folds=2)
    region = ["north" if row % 3 else "south" for row in range(200)]
    truth = [*labels[400:599], "unheard of"]
    quality = measure_head(head, vectors[400:], truth, [f"text {row}" for row in range(200)], {"region": region})
    assert quality is not None
    predicted = np.array(head.classes)[head.scores(vectors[400:]).argmax(axis=1)]
    right = predicted == truth
    assert quality.accuracy.value == right.mean()
    assert quality.accuracy.low < quality.accuracy.value < quality.accuracy.high
    assert np.array(quality.confusion).sum() == 200
    assert [item.label for item in quality.classes] == [*head.classes, "unheard of"]
    assert quality.classes[-1].recall is not None
    assert quality.classes[-1].recall.value == 0
    north = next(group for group in quality.groups if group.value == "north")
    inside = np.array(region) == "north"
    assert north.gap.value == pytest.approx((~right[inside]).mean() - (~right[~inside]).mean())
    assert north.gap.low < north.gap.value < north.gap.high
    assert [row.probability for row in quality.wrong] == sorted(
        (row.probability for row in quality.wrong), reverse=True
    )
    assert all(row.truth != row.predicted for row in quality.wrong)
    assert measure_head(head, vectors[:0], [], []) is None

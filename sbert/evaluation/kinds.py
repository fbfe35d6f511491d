"""Which metrics a kind of labels has, and how each is measured from an encoder's vectors.

================ ==================================================== ================
kind             metrics (the first decides)                          rows
================ ==================================================== ================
scored_pairs     spearman, pearson                                    pairs
pairs            ndcg@10, mrr@10, recall@k, alignment                 queries; pairs
triplets         average_precision, triplet_accuracy, ndcg@10, …      pairs; triplets; queries
nli              average_precision, f1, accuracy (probe)              pairs
classes          accuracy, macro_f1 (probe), knn_accuracy             texts
================ ==================================================== ================

Higher is better for every metric but alignment.
"""

from collections.abc import Callable, Sequence

import numpy as np
import numpy.typing as npt
import polars as pl
from sklearn.linear_model import LogisticRegression
from sklearn.metrics import precision_recall_curve
from sklearn.neighbors import KNeighborsClassifier
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import StandardScaler

from sbert.errors import EvaluationError
from sbert.evaluation import statistics
from sbert.evaluation.geometry import Vectors, alignment, unit
from sbert.evaluation.metric import Metric
from sbert.evaluation.retrieval import pairs_as_retrieval, rank_scores
from sbert.evaluation.sets import EvaluationSet
from sbert.evaluation.settings import EvaluationSettings
from sbert.labels import LabelKind

__all__ = ["PRIMARY_METRICS", "measure"]

Encode = Callable[[Sequence[str]], Vectors]

PRIMARY_METRICS: dict[LabelKind, str] = {
    LabelKind.SCORED_PAIRS: "spearman",
    LabelKind.PAIRS: "ndcg@10",
    LabelKind.TRIPLETS: "average_precision",
    LabelKind.NLI: "average_precision",
    LabelKind.CLASSES: "accuracy",
}
POSITIVE_NLI = "entailment"


def measure(chosen: EvaluationSet, encode: Encode, settings: EvaluationSettings) -> dict[str, Metric]:
    """Measure an encoder on frozen rows; give its metrics by name, the kind's primary metric first.

    Raises:
        EvaluationError: when rows of this kind say nothing about what is right (plain texts).
    """
    if chosen.kind not in MEASURES:
        raise EvaluationError(
            f"{chosen.name}: {chosen.kind.value} have no labels to measure on: name a labelled set as evaluation set"
        )
    found = MEASURES[chosen.kind](chosen, encode, settings)
    return {metric.name: metric for metric in found}


def cosines(left_ND: Vectors, right_ND: Vectors) -> npt.NDArray[np.float64]:
    """Give the cosine of each pair of rows."""
    return np.asarray((unit(left_ND) * unit(right_ND)).sum(axis=1))


def _scored_pairs(chosen: EvaluationSet, encode: Encode, settings: EvaluationSettings) -> list[Metric]:  # noqa: ARG001
    rows = chosen.rows
    found = cosines(encode(rows["sentence1"].to_list()), encode(rows["sentence2"].to_list()))
    truth = rows["score"].to_numpy().astype(np.float64)
    return [
        Metric("spearman", (truth, found), statistics.spearman),
        Metric("pearson", (truth, found), statistics.pearson),
    ]


def _retrieval(frame: pl.DataFrame, encode: Encode, settings: EvaluationSettings) -> list[Metric]:
    others = frame["negative"].to_list() if "negative" in frame.columns else []
    task = pairs_as_retrieval(frame["anchor"].to_list(), frame["positive"].to_list(), others)
    found = rank_scores(task, encode(task.queries), encode(task.corpus), settings.recall_at)
    return [Metric(name, (values,), statistics.mean) for name, values in found.items()]


def _pairs(chosen: EvaluationSet, encode: Encode, settings: EvaluationSettings) -> list[Metric]:
    rows = chosen.rows
    distances = alignment(encode(rows["anchor"].to_list()), encode(rows["positive"].to_list()))
    return [*_retrieval(rows, encode, settings), Metric("alignment", (distances,), statistics.mean)]


def _triplets(chosen: EvaluationSet, encode: Encode, settings: EvaluationSettings) -> list[Metric]:
    rows = chosen.rows
    anchors, positives, negatives = (encode(rows[name].to_list()) for name in ("anchor", "positive", "negative"))
    near, far = cosines(anchors, positives), cosines(anchors, negatives)
    truth = np.tile([1, 0], (rows.height, 1))  # one row is a triplet: a resample takes or leaves both of its pairs
    scores = np.stack([near, far], axis=1)
    return [
        Metric("average_precision", (truth, scores), _paired_average_precision),
        Metric("triplet_accuracy", ((near > far).astype(np.float64),), statistics.mean),
        *_retrieval(rows, encode, settings),
        Metric("alignment", (alignment(anchors, positives),), statistics.mean),
    ]


def _paired_average_precision(truth: npt.NDArray[np.generic], scores: npt.NDArray[np.generic]) -> statistics.Values:
    """Average precision of rows of two pairs each."""
    flat = (*truth.shape[:-2], -1)
    return statistics.average_precision(truth.reshape(flat), scores.reshape(flat))


def _nli(chosen: EvaluationSet, encode: Encode, settings: EvaluationSettings) -> list[Metric]:
    def pair(frame: pl.DataFrame) -> tuple[Vectors, Vectors]:
        return encode(frame["premise"].to_list()), encode(frame["hypothesis"].to_list())

    def features(u_ND: Vectors, v_ND: Vectors) -> Vectors:
        return np.concatenate([u_ND, v_ND, np.abs(u_ND - v_ND)], axis=1)  # Reimers and Gurevych 2019, section 3

    rows = pair(chosen.rows)
    truth = (chosen.rows["label"] == POSITIVE_NLI).to_numpy()
    scores = cosines(*rows)
    average_precision = Metric("average_precision", (truth, scores), statistics.average_precision)
    if chosen.train.is_empty():
        return [average_precision]  # the others are fitted on train rows
    train = pair(chosen.train)
    threshold = best_threshold((chosen.train["label"] == POSITIVE_NLI).to_numpy(), cosines(*train))
    predicted = probe(features(*train), chosen.train["label"].to_list(), features(*rows), settings)
    right = (predicted == np.asarray(chosen.rows["label"].to_list(), dtype=object)).astype(np.float64)
    return [
        average_precision,
        Metric("f1", (truth, scores >= threshold), statistics.f1),
        Metric("accuracy", (right,), statistics.mean),
    ]


def _classes(chosen: EvaluationSet, encode: Encode, settings: EvaluationSettings) -> list[Metric]:
    train_ND, rows_ND = encode(chosen.train["text"].to_list()), encode(chosen.rows["text"].to_list())
    labels = chosen.train["label"].to_list()
    names = sorted({*labels, *chosen.rows["label"].to_list()})
    number = {name: at for at, name in enumerate(names)}
    truth = np.array([number[name] for name in chosen.rows["label"].to_list()])
    by_probe = np.array([number[name] for name in probe(train_ND, labels, rows_ND, settings)])
    neighbors = KNeighborsClassifier(n_neighbors=min(settings.num_neighbors, len(labels)), metric="cosine")
    by_neighbors = neighbors.fit(train_ND, [number[name] for name in labels]).predict(rows_ND)
    return [
        Metric("accuracy", ((by_probe == truth).astype(np.float64),), statistics.mean),
        Metric("macro_f1", (truth, by_probe), statistics.macro_f1),
        Metric("knn_accuracy", ((by_neighbors == truth).astype(np.float64),), statistics.mean),
    ]


def probe(
    train_ND: Vectors, labels: Sequence[str], rows_ND: Vectors, settings: EvaluationSettings
) -> npt.NDArray[np.object_]:
    """Fit a logistic regression on frozen vectors and give its classes for other vectors.

    Vectors are centred and scaled by one factor, so that the penalty weighs alike for encoders whose vectors are
    longer or shorter. With a single class in `labels` that class is the answer.
    """
    if len(set(labels)) < 2:
        return np.full(len(rows_ND), labels[0] if labels else "", dtype=object)
    spread = max(float(train_ND.std(axis=0).mean()), 1e-12)
    model = make_pipeline(
        StandardScaler(with_std=False), LogisticRegression(C=settings.probe_strength, max_iter=1_000)
    ).fit(train_ND / spread / np.sqrt(train_ND.shape[1]), labels)
    return np.asarray(model.predict(rows_ND / spread / np.sqrt(train_ND.shape[1])), dtype=object)


def best_threshold(truth: npt.NDArray[np.bool_], scores: npt.NDArray[np.float64]) -> float:
    """Give the score from which calling a row positive has the best F1, on rows other than those it is used on."""
    if not truth.any():
        return float("inf")
    precision, recall, thresholds = precision_recall_curve(truth, scores)
    total = np.maximum(precision + recall, 1e-12)
    return float(thresholds[int(np.argmax((2 * precision * recall / total)[:-1]))])


MEASURES: dict[LabelKind, Callable[[EvaluationSet, Encode, EvaluationSettings], list[Metric]]] = {
    LabelKind.SCORED_PAIRS: _scored_pairs,
    LabelKind.PAIRS: _pairs,
    LabelKind.TRIPLETS: _triplets,
    LabelKind.NLI: _nli,
    LabelKind.CLASSES: _classes,
}

"""The metrics of each kind of labels, and how each is measured from an encoder's vectors.

================ ========================================================== ================
kind             metrics (the first decides)                                rows
================ ========================================================== ================
scored_pairs     spearman, pearson; of scores 0 and 1 average_precision, f1 pairs
pairs            ndcg@10, mrr@10, recall@k, alignment                       queries; pairs
triplets         average_precision, triplet_accuracy, ndcg@10, …, f1        pairs; triplets; queries
nli              average_precision, f1, accuracy (probe)                    pairs
classes          accuracy, macro_f1 (probe), knn_accuracy, knn_macro_f1     texts
================ ========================================================== ================

Higher is better for every metric but those in `LOWER_IS_BETTER`. Thresholds of F1 are fitted on train rows, like probes.
"""

from collections.abc import Callable, Iterator, Sequence
from typing import assert_never

import numpy as np
import numpy.typing as npt
import polars as pl
from sklearn.linear_model import LogisticRegression
from sklearn.metrics import precision_recall_curve
from sklearn.neighbors import KNeighborsClassifier
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import StandardScaler

from sbert.encoder.side import Side
from sbert.errors import EvaluationError, SettingsError
from sbert.evaluation import statistics
from sbert.evaluation.frozen_sets import EvaluationSet
from sbert.evaluation.geometry import Vectors, alignment, unit
from sbert.evaluation.metric import Metric
from sbert.evaluation.retrieval import pairs_as_retrieval, rank_scores
from sbert.evaluation.settings import EvaluationSettings
from sbert.labels.label_kinds import LabelKind, side_of

__all__ = [
    "LOWER_IS_BETTER",
    "PRIMARY_METRICS",
    "check_contrast",
    "check_metric",
    "measure",
    "measure_one",
    "metric_names",
]

Encode = Callable[[Sequence[str], Side], Vectors]
"""Returns the vectors of texts that are all on one side: the side decides the prompt."""

PRIMARY_METRICS: dict[LabelKind, str] = {
    LabelKind.SCORED_PAIRS: "spearman",
    LabelKind.PAIRS: "ndcg@10",
    LabelKind.TRIPLETS: "average_precision",
    LabelKind.NLI: "average_precision",
    LabelKind.CLASSES: "accuracy",
}
LOWER_IS_BETTER = frozenset({"alignment"})
POSITIVE_NLI = "entailment"
MAX_THRESHOLD_ROWS = 2_000
"""Train rows of pairs and triplets that a threshold is fitted on."""


def measure(frozen: EvaluationSet, encode: Encode, settings: EvaluationSettings) -> dict[str, Metric]:
    """Measure an encoder on frozen rows; return its metrics by name, with the primary metric of the kind first.

    Raises:
        EvaluationError: when rows of this kind have no labels to measure on (plain texts).
    """
    metric_names(frozen, settings)
    return {metric.name: metric for metric in MEASURES[frozen.kind](frozen, encode, settings)}


def measure_one(frozen: EvaluationSet, encode: Encode, settings: EvaluationSettings, name: str) -> Metric:
    """Measure one metric, without the metrics that come after it.

    Raises:
        EvaluationError: as `measure`.
        SettingsError: when the rows do not have this metric.
    """
    check_metric(frozen, settings, name)
    return next(metric for metric in MEASURES[frozen.kind](frozen, encode, settings) if metric.name == name)


def metric_names(frozen: EvaluationSet, settings: EvaluationSettings) -> tuple[str, ...]:
    """Return the names of the metrics that frozen rows have, without measuring.

    Raises:
        EvaluationError: when rows of this kind have no labels to measure on (plain texts).
    """
    retrieval = ("ndcg@10", "mrr@10", *(f"recall@{k}" for k in settings.recall_at))
    is_fitted = frozen.train.height > 0
    names: tuple[str, ...]
    match frozen.kind:
        case LabelKind.SCORED_PAIRS:
            names = ("spearman", "pearson", *(("average_precision", "f1") if _is_binary(frozen) else ()))
        case LabelKind.PAIRS:
            names = (*retrieval, "alignment")
        case LabelKind.TRIPLETS:
            names = ("average_precision", "triplet_accuracy", *retrieval, "alignment", *(("f1",) if is_fitted else ()))
        case LabelKind.NLI:
            names = ("average_precision", *(("f1", "accuracy") if is_fitted else ()))
        case LabelKind.CLASSES:
            names = ("accuracy", "macro_f1", "knn_accuracy", "knn_macro_f1")
        case LabelKind.TEXTS:
            raise EvaluationError(
                f"{frozen.name}: {frozen.kind.value} have no labels to measure on: name a labelled set as evaluation set"
            )
        case _:
            assert_never(frozen.kind)
    return names


def check_metric(frozen: EvaluationSet, settings: EvaluationSettings, name: str) -> None:
    """Check that frozen rows have a metric.

    Raises:
        EvaluationError: as `metric_names`.
        SettingsError: when the rows do not have this metric; the message lists the metrics they have.
    """
    names = metric_names(frozen, settings)
    if name not in names:
        raise SettingsError(
            f"{frozen.name}: evaluation.primary_metric is {name!r}, {frozen.kind.value} have {', '.join(names)}"
        )


def check_contrast(frozen: EvaluationSet, name: str) -> None:
    """Check that a metric can tell one encoder from another on frozen rows.

    Raises:
        EvaluationError: when every encoder has the same value, such as the rank correlation with scores that are all equal.
    """
    rows, why = frozen.rows, ""
    if frozen.kind is LabelKind.SCORED_PAIRS and rows["score"].n_unique() < 2:
        why = f"have the score {rows['score'][0]:g}"
    elif frozen.kind is LabelKind.NLI and name in {"average_precision", "f1"}:
        entailed = int((rows["label"] == POSITIVE_NLI).sum())
        if entailed in {0, rows.height}:
            why = f"are {POSITIVE_NLI}" if entailed else f"are not {POSITIVE_NLI}"
    elif frozen.kind is LabelKind.CLASSES and not set(rows["label"]) & set(frozen.train["label"]):
        why = "are of classes that no train row has"
    elif frozen.kind in {LabelKind.PAIRS, LabelKind.TRIPLETS} and "@" in name:
        columns = [rows[column] for column in ("positive", "negative") if column in rows.columns]
        num_answers = pl.concat(columns).n_unique()
        depth = int(name.split("@")[1]) if name.startswith("recall@") else 1
        if num_answers <= depth:
            why = f"search the same {num_answers:,} texts"
    if why:
        raise EvaluationError(
            f"{frozen.name}: all {rows.height:,} rows {why}, so that every encoder has the same {name}: add other rows, or "
            "choose another evaluation.primary_metric"
        )


def _is_binary(frozen: EvaluationSet) -> bool:
    """Return whether all scores are 0 or 1, in the frozen rows and in the rows that a threshold is fitted on."""
    return all(set(frame["score"].unique().to_list()) == {0.0, 1.0} for frame in (frozen.rows, frozen.train))


def cosines(left_ND: Vectors, right_ND: Vectors) -> npt.NDArray[np.float64]:
    """Return the cosine of each pair of rows."""
    return np.asarray((unit(left_ND) * unit(right_ND)).sum(axis=1))


def _vectors(frame: pl.DataFrame, encode: Encode, column: str) -> Vectors:
    return encode(frame[column].to_list(), side_of(column))


def _between(frame: pl.DataFrame, encode: Encode, left: str, right: str) -> npt.NDArray[np.float64]:
    return cosines(_vectors(frame, encode, left), _vectors(frame, encode, right))


def _scored_pairs(
    frozen: EvaluationSet,
    encode: Encode,
    settings: EvaluationSettings,  # noqa: ARG001  (same signature as the others)
) -> Iterator[Metric]:
    similarities = _between(frozen.rows, encode, "sentence1", "sentence2")
    truth = frozen.rows["score"].to_numpy().astype(np.float64)
    yield Metric("spearman", (truth, similarities), statistics.spearman)
    yield Metric("pearson", (truth, similarities), statistics.pearson)
    if _is_binary(frozen):
        yield Metric("average_precision", (truth, similarities), statistics.average_precision)
        train = frozen.train.head(MAX_THRESHOLD_ROWS)
        threshold = best_threshold(
            (train["score"] == 1.0).to_numpy(), _between(train, encode, "sentence1", "sentence2")
        )
        yield Metric("f1", (truth, similarities >= threshold), statistics.f1)


def _retrieval(frame: pl.DataFrame, encode: Encode, settings: EvaluationSettings) -> Iterator[Metric]:
    others = frame["negative"].to_list() if "negative" in frame.columns else []
    task = pairs_as_retrieval(frame["anchor"].to_list(), frame["positive"].to_list(), others)
    values_by_name = rank_scores(
        task, encode(task.queries, Side.QUERY), encode(task.corpus, Side.DOCUMENT), settings.recall_at
    )
    yield from (Metric(name, (values,), statistics.mean) for name, values in values_by_name.items())


def _pairs(frozen: EvaluationSet, encode: Encode, settings: EvaluationSettings) -> Iterator[Metric]:
    rows = frozen.rows
    yield from _retrieval(rows, encode, settings)
    distances = alignment(_vectors(rows, encode, "anchor"), _vectors(rows, encode, "positive"))
    yield Metric("alignment", (distances,), statistics.mean)


def _triplets(frozen: EvaluationSet, encode: Encode, settings: EvaluationSettings) -> Iterator[Metric]:
    rows = frozen.rows
    truth, scores = _two_pairs(rows, encode)
    yield Metric("average_precision", (truth, scores), _paired_average_precision)
    yield Metric("triplet_accuracy", ((scores[:, 0] > scores[:, 1]).astype(np.float64),), statistics.mean)
    yield from _retrieval(rows, encode, settings)
    distances = alignment(_vectors(rows, encode, "anchor"), _vectors(rows, encode, "positive"))
    yield Metric("alignment", (distances,), statistics.mean)
    if frozen.train.height:
        train_truth, train_scores = _two_pairs(frozen.train.head(MAX_THRESHOLD_ROWS), encode)
        threshold = best_threshold(train_truth.reshape(-1) == 1, train_scores.reshape(-1))
        yield Metric("f1", (truth, scores >= threshold), _paired_f1)


def _two_pairs(frame: pl.DataFrame, encode: Encode) -> tuple[npt.NDArray[np.int64], npt.NDArray[np.float64]]:
    """Return truth and cosines of triplets as two pairs each, shapes (N, 2). A resample takes both pairs or none."""
    near, far = (_between(frame, encode, "anchor", name) for name in ("positive", "negative"))
    return np.tile([1, 0], (frame.height, 1)), np.stack([near, far], axis=1)


def _paired_average_precision(truth: npt.NDArray[np.generic], scores: npt.NDArray[np.generic]) -> statistics.Values:
    """Average precision of rows of two pairs each."""
    flat = (*truth.shape[:-2], -1)
    return statistics.average_precision(truth.reshape(flat), scores.reshape(flat))


def _paired_f1(truth: npt.NDArray[np.generic], predicted: npt.NDArray[np.generic]) -> statistics.Values:
    """F1 of rows of two pairs each."""
    flat = (*truth.shape[:-2], -1)
    return statistics.f1(truth.reshape(flat), predicted.reshape(flat))


def _nli(frozen: EvaluationSet, encode: Encode, settings: EvaluationSettings) -> Iterator[Metric]:
    def pair(frame: pl.DataFrame) -> tuple[Vectors, Vectors]:
        return _vectors(frame, encode, "premise"), _vectors(frame, encode, "hypothesis")

    def features(u_ND: Vectors, v_ND: Vectors) -> Vectors:
        return np.concatenate([u_ND, v_ND, np.abs(u_ND - v_ND)], axis=1)  # Reimers and Gurevych 2019, section 3

    rows = pair(frozen.rows)
    truth = (frozen.rows["label"] == POSITIVE_NLI).to_numpy()
    scores = cosines(*rows)
    yield Metric("average_precision", (truth, scores), statistics.average_precision)
    if frozen.train.is_empty():
        return  # the others are fitted on train rows
    train = pair(frozen.train)
    threshold = best_threshold((frozen.train["label"] == POSITIVE_NLI).to_numpy(), cosines(*train))
    yield Metric("f1", (truth, scores >= threshold), statistics.f1)
    predicted = probe(features(*train), frozen.train["label"].to_list(), features(*rows), settings)
    right = (predicted == np.asarray(frozen.rows["label"].to_list(), dtype=object)).astype(np.float64)
    yield Metric("accuracy", (right,), statistics.mean)


def _classes(frozen: EvaluationSet, encode: Encode, settings: EvaluationSettings) -> Iterator[Metric]:
    train_ND, rows_ND = _vectors(frozen.train, encode, "text"), _vectors(frozen.rows, encode, "text")
    labels = frozen.train["label"].to_list()
    names = sorted({*labels, *frozen.rows["label"].to_list()})
    number = {name: at for at, name in enumerate(names)}
    truth = np.array([number[name] for name in frozen.rows["label"].to_list()])
    by_probe = np.array([number[name] for name in probe(train_ND, labels, rows_ND, settings)])
    yield Metric("accuracy", ((by_probe == truth).astype(np.float64),), statistics.mean)
    yield Metric("macro_f1", (truth, by_probe), statistics.macro_f1)
    neighbors = KNeighborsClassifier(n_neighbors=min(settings.num_neighbors, len(labels)), metric="cosine")
    by_neighbors = neighbors.fit(train_ND, [number[name] for name in labels]).predict(rows_ND)
    yield Metric("knn_accuracy", ((by_neighbors == truth).astype(np.float64),), statistics.mean)
    yield Metric("knn_macro_f1", (truth, by_neighbors), statistics.macro_f1)


def probe(
    train_ND: Vectors, labels: Sequence[str], rows_ND: Vectors, settings: EvaluationSettings
) -> npt.NDArray[np.object_]:
    """Fit a logistic regression on frozen vectors and return its classes for other vectors.

    Vectors are centred and scaled by one factor, so that the penalty has the same weight for encoders with longer or
    shorter vectors. When `labels` has a single class, this class is the answer.
    """
    if len(set(labels)) < 2:
        return np.full(len(rows_ND), labels[0] if labels else "", dtype=object)
    spread = max(float(train_ND.std(axis=0).mean()), 1e-12)
    model = make_pipeline(
        StandardScaler(with_std=False), LogisticRegression(C=settings.probe_strength, max_iter=1_000)
    ).fit(train_ND / spread / np.sqrt(train_ND.shape[1]), labels)
    return np.asarray(model.predict(rows_ND / spread / np.sqrt(train_ND.shape[1])), dtype=object)


def best_threshold(truth: npt.NDArray[np.bool_], scores: npt.NDArray[np.float64]) -> float:
    """Return the threshold with the best F1. It is fitted on other rows than the rows it is used on."""
    if not truth.any():
        return float("inf")
    precision, recall, thresholds = precision_recall_curve(truth, scores)
    total = np.maximum(precision + recall, 1e-12)
    return float(thresholds[int(np.argmax((2 * precision * recall / total)[:-1]))])


MEASURES: dict[LabelKind, Callable[[EvaluationSet, Encode, EvaluationSettings], Iterator[Metric]]] = {
    LabelKind.SCORED_PAIRS: _scored_pairs,
    LabelKind.PAIRS: _pairs,
    LabelKind.TRIPLETS: _triplets,
    LabelKind.NLI: _nli,
    LabelKind.CLASSES: _classes,
}

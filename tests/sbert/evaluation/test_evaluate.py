"""Evaluating an encoder: frozen rows, metrics of every kind of label, slices, robustness."""

from dataclasses import replace

import numpy as np
import polars as pl
import pytest
from scipy.stats import spearmanr
from sklearn.linear_model import LogisticRegression
from sklearn.metrics import average_precision_score, f1_score
from sklearn.neighbors import KNeighborsClassifier

from sbert.encoder.sentence_encoder import SentenceEncoder
from sbert.errors import EvaluationError, SettingsError
from sbert.evaluation.evaluate import TextVectors, evaluate, primary_metric
from sbert.evaluation.frozen_sets import frozen_set
from sbert.evaluation.label_metrics import PRIMARY_METRICS, measure_one, metric_names
from sbert.evaluation.settings import EvaluationSettings
from sbert.labels.label_kinds import LabelKind
from sbert.labels.load import make_label_set
from sbert.labels.settings import LabelSettings
from tests.support.tiny_models import tiny_encoder
from tests.support.toy_training import toy_labels, toy_rows

QUICK = EvaluationSettings(num_resamples=200, num_permutations=100, speed_texts=16, min_test_rows=4)


@pytest.fixture(scope="module")
def encoder() -> SentenceEncoder:
    return tiny_encoder()


@pytest.mark.parametrize("kind", list(PRIMARY_METRICS))
def test_every_kind_has_its_metrics(encoder: SentenceEncoder, kind: LabelKind) -> None:
    rows = frozen_set(toy_labels(kind, 200), QUICK)
    held_out = evaluate(encoder, [rows], QUICK).summary.sets["held-out"]
    assert held_out.kind == kind.value
    assert held_out.primary_metric == PRIMARY_METRICS[kind]
    assert held_out.num_rows == rows.rows.height
    for value in held_out.metrics.values():
        assert value.low <= value.value <= value.high or value.low == value.high
        assert 0 <= value.value <= 4
    assert set(held_out.robustness) == {"clean", "typos", "lower_case", "upper_case", "truncation", "word_order"}
    clean, lower = held_out.robustness["clean"], held_out.robustness["lower_case"]
    assert clean.value == pytest.approx(held_out.metrics[held_out.primary_metric].value)
    assert lower.value == pytest.approx(clean.value)  # the tokenizer lower-cases
    assert clean.low < clean.value < clean.high or clean.low == clean.high
    assert metric_names(rows, QUICK) == tuple(held_out.metrics)
    for name, value in held_out.metrics.items():
        assert measure_one(rows, TextVectors(encoder), QUICK, name).value == pytest.approx(value.value)


def test_spearman_equals_that_of_scipy(encoder: SentenceEncoder) -> None:
    rows = frozen_set(toy_labels(LabelKind.SCORED_PAIRS), QUICK).rows
    left, right = encoder.encode(rows["sentence1"]), encoder.encode(rows["sentence2"])
    expected = spearmanr((left * right).sum(axis=1), rows["score"].to_numpy()).statistic
    evaluation = evaluate(encoder, [frozen_set(toy_labels(LabelKind.SCORED_PAIRS), QUICK)], QUICK)
    assert evaluation.summary.sets["held-out"].metrics["spearman"].value == pytest.approx(expected)


def test_the_probe_is_a_logistic_regression_on_frozen_vectors(encoder: SentenceEncoder) -> None:
    evaluation_set = frozen_set(toy_labels(LabelKind.CLASSES, 500), QUICK)
    train, rows = encoder.encode(evaluation_set.train["text"]), encoder.encode(evaluation_set.rows["text"])
    plain = LogisticRegression(C=1e3, max_iter=5_000).fit(train, evaluation_set.train["label"].to_list())
    expected = plain.score(rows, evaluation_set.rows["label"].to_list())
    evaluation = evaluate(encoder, [evaluation_set], QUICK.model_copy(update={"probe_strength": 1e3}))
    assert evaluation.summary.sets["held-out"].metrics["accuracy"].value == pytest.approx(expected, abs=0.1)
    assert expected > 0.3  # by chance 0.1


def test_macro_f1_of_the_neighbours_is_scikit_learns(encoder: SentenceEncoder) -> None:
    evaluation_set = frozen_set(toy_labels(LabelKind.CLASSES, 400), QUICK)
    neighbors = KNeighborsClassifier(n_neighbors=QUICK.num_neighbors, metric="cosine")
    neighbors.fit(encoder.encode(evaluation_set.train["text"]), evaluation_set.train["label"].to_list())
    predicted = neighbors.predict(encoder.encode(evaluation_set.rows["text"]))
    expected = f1_score(evaluation_set.rows["label"].to_list(), predicted, average="macro")
    macro_f1 = evaluate(encoder, [evaluation_set], QUICK).summary.sets["held-out"].metrics["knn_macro_f1"]
    assert macro_f1.value == pytest.approx(expected)


def best_f1_threshold(truth: np.ndarray, scores: np.ndarray) -> float:
    return max(sorted(scores.tolist()), key=lambda threshold: f1_score(truth, scores >= threshold))


def test_scores_that_say_yes_or_no_have_precision_and_f1(encoder: SentenceEncoder) -> None:
    evaluation_set = frozen_set(toy_labels(LabelKind.SCORED_PAIRS, 300), QUICK)

    def told(frame: pl.DataFrame) -> tuple[np.ndarray, np.ndarray]:
        cosines = (encoder.encode(frame["sentence1"]) * encoder.encode(frame["sentence2"])).sum(axis=1)
        return (frame["score"] == 1.0).to_numpy(), cosines

    (truth, scores), train = told(evaluation_set.rows), told(evaluation_set.train)
    metrics = evaluate(encoder, [evaluation_set], QUICK).summary.sets["held-out"].metrics
    assert metrics["average_precision"].value == pytest.approx(average_precision_score(truth, scores))
    assert metrics["f1"].value == pytest.approx(f1_score(truth, scores >= best_f1_threshold(*train) - 1e-6))
    graded = toy_rows(LabelKind.SCORED_PAIRS, 300).with_columns(score=pl.col("score") * 0.7)
    labels = make_label_set(graded, LabelKind.SCORED_PAIRS, LabelSettings(near_duplicate_similarity=1.0))
    assert metric_names(frozen_set(labels, QUICK), QUICK) == ("spearman", "pearson")


def test_f1_of_triplets_is_that_of_their_pairs(encoder: SentenceEncoder) -> None:
    evaluation_set = frozen_set(toy_labels(LabelKind.TRIPLETS, 200), QUICK)

    def told(frame: pl.DataFrame) -> tuple[np.ndarray, np.ndarray]:
        anchors = encoder.encode(frame["anchor"])
        cosines = [(anchors * encoder.encode(frame[name])).sum(axis=1) for name in ("positive", "negative")]
        return np.repeat([True, False], frame.height), np.concatenate(cosines)

    (truth, scores), train = told(evaluation_set.rows), told(evaluation_set.train)
    f1 = evaluate(encoder, [evaluation_set], QUICK).summary.sets["held-out"].metrics["f1"]
    assert f1.num_rows == evaluation_set.rows.height
    assert f1.value == pytest.approx(f1_score(truth, scores >= best_f1_threshold(*train) - 1e-6))


def test_without_train_rows_nothing_is_fitted(encoder: SentenceEncoder) -> None:
    evaluation_set = frozen_set(toy_labels(LabelKind.NLI, 200), QUICK)
    alone = replace(evaluation_set, train=evaluation_set.train.clear())
    metrics = evaluate(encoder, [alone], QUICK).summary.sets["held-out"].metrics
    assert list(metrics) == ["average_precision"] == list(metric_names(alone, QUICK))
    labels = toy_labels(LabelKind.CLASSES, 200)
    with pytest.raises(
        EvaluationError, match="the 0 train rows that a classifier is fitted on have 0 classes, but it needs at least 2"
    ):
        frozen_set(replace(labels, train=labels.train.clear()), QUICK)


def test_frozen_rows_do_not_depend_on_reading_order() -> None:
    rows, settings = toy_rows(LabelKind.SCORED_PAIRS, 200), LabelSettings(near_duplicate_similarity=1.0)
    one = frozen_set(make_label_set(rows, LabelKind.SCORED_PAIRS, settings), QUICK)
    two = frozen_set(
        make_label_set(rows.sample(fraction=1, shuffle=True, seed=1), LabelKind.SCORED_PAIRS, settings), QUICK
    )
    assert one.fingerprint == two.fingerprint
    assert one.rows.equals(two.rows)
    other = frozen_set(make_label_set(rows.head(190), LabelKind.SCORED_PAIRS, settings), QUICK)
    assert other.fingerprint != one.fingerprint
    fewer = QUICK.model_copy(update={"max_test_rows": 5})
    assert frozen_set(toy_labels(LabelKind.SCORED_PAIRS), fewer).rows.height == 5


def test_slices_are_by_length_and_by_the_values_of_a_column(encoder: SentenceEncoder) -> None:
    settings = QUICK.model_copy(update={"slice_columns": ("label",), "min_slice_rows": 2})
    evaluation = evaluate(encoder, [frozen_set(toy_labels(LabelKind.CLASSES, 400), settings)], settings)
    slices = evaluation.summary.sets["held-out"].slices
    assert {"length: short", "length: middle", "length: long"} < set(slices)
    by_label = {name: value for name, value in slices.items() if name.startswith("label: topic")}
    total = sum(value.value * value.num_rows for value in by_label.values())
    num_rows = sum(value.num_rows for value in by_label.values())
    assert len(by_label) > 2
    if num_rows == evaluation.summary.sets["held-out"].num_rows:
        assert total / num_rows == pytest.approx(evaluation.summary.sets["held-out"].metrics["accuracy"].value)


def test_a_query_of_several_rows_is_in_the_slice_of_its_first(encoder: SentenceEncoder) -> None:
    rows = toy_rows(LabelKind.PAIRS, 90)
    twice = pl.concat([rows, rows.with_columns(positive=pl.col("positive").str.to_uppercase() + pl.lit(" again"))])
    loose = LabelSettings(near_duplicate_similarity=1.0, dev_share=0, test_share=0.5)
    labels = make_label_set(twice, LabelKind.PAIRS, loose)
    labels = replace(
        labels, test=labels.test.with_columns(lang=pl.col("positive").str.contains("again").cast(pl.String))
    )
    settings = QUICK.model_copy(update={"min_slice_rows": 2, "slice_columns": ("lang",)})
    evaluation_set = frozen_set(labels, settings)
    queries = evaluation_set.rows.unique("anchor", keep="first", maintain_order=True)
    assert queries.height < evaluation_set.rows.height
    evaluation = evaluate(encoder, [evaluation_set], settings)
    slices = evaluation.summary.sets["held-out"].slices
    assert sum(value.num_rows for name, value in slices.items() if name.startswith("length")) == queries.height
    values = evaluation.metrics["held-out"]["ndcg@10"].rows[0]
    assert slices["lang: true"].value == pytest.approx(values[(queries["lang"] == "true").to_numpy()].mean())
    assert slices["lang: true"].num_rows + slices["lang: false"].num_rows == queries.height


def test_slicing_by_a_missing_column_is_refused() -> None:
    settings = QUICK.model_copy(update={"slice_columns": ("country",)})
    with pytest.raises(SettingsError, match=r"no column \['country'\] to slice by; their columns are text, label"):
        frozen_set(toy_labels(LabelKind.CLASSES), settings)


def test_a_metric_that_the_kind_does_not_have_is_refused(encoder: SentenceEncoder) -> None:
    settings = QUICK.model_copy(update={"primary_metric": "bleu"})
    with pytest.raises(SettingsError, match="primary_metric is 'bleu', scored_pairs have spearman, pearson"):
        evaluate(encoder, [frozen_set(toy_labels(LabelKind.SCORED_PAIRS), settings)], settings)


def test_too_few_rows_to_compare_on_are_refused() -> None:
    with pytest.raises(EvaluationError, match=r"held-out: there are \d+ test rows, but .* needs at least 5000"):
        frozen_set(toy_labels(LabelKind.PAIRS), QUICK.model_copy(update={"min_test_rows": 5000}))


def test_a_missing_test_split_is_refused_with_the_remedy() -> None:
    named = toy_rows(LabelKind.PAIRS, 100).with_columns(pl.Series("split", ["train"] * 60 + ["dev"] * 40))
    exact = LabelSettings(near_duplicate_similarity=1.0, max_leakage=1)
    with pytest.raises(
        EvaluationError,
        match=r"held-out: there are no test rows, but .* at least 4: add test rows to the source, or split all rows by hash",
    ):
        frozen_set(make_label_set(named, LabelKind.PAIRS, exact), QUICK)
    few = named.with_columns(pl.Series("split", ["train"] * 98 + ["test"] * 2))
    with pytest.raises(
        EvaluationError, match=r"there are 2 test rows, but .* needs at least 4: add test labels, or lower"
    ):
        frozen_set(make_label_set(few, LabelKind.PAIRS, exact), QUICK)


@pytest.mark.parametrize("kind", list(PRIMARY_METRICS))
def test_test_rows_alone_are_measured_where_nothing_is_fitted(encoder: SentenceEncoder, kind: LabelKind) -> None:
    rows = toy_rows(kind, 60).with_columns(pl.lit("test").alias("split"))
    labels = make_label_set(rows, kind, to_train=False)
    if kind is LabelKind.CLASSES:
        with pytest.raises(EvaluationError, match=r"held-out: the 0 train rows .* have 0 classes"):
            frozen_set(labels, QUICK)
        return
    held_out = evaluate(encoder, [frozen_set(labels, QUICK)], QUICK).summary.sets["held-out"]
    assert held_out.num_rows == rows.height
    assert PRIMARY_METRICS[kind] in held_out.metrics
    assert "accuracy" not in held_out.metrics
    assert "f1" not in held_out.metrics


def test_plain_texts_cannot_decide(encoder: SentenceEncoder) -> None:
    with pytest.raises(EvaluationError, match="texts have no labels to measure on"):
        evaluate(encoder, [frozen_set(toy_labels(LabelKind.TEXTS), QUICK)], QUICK)


def test_nli_rows_of_one_label_are_refused() -> None:
    rows = pl.DataFrame({"premise": [f"a {n}" for n in range(60)], "hypothesis": [f"b {n}" for n in range(60)],
                         "label": ["neutral"] * 60})  # fmt: skip
    labels = make_label_set(rows, LabelKind.NLI, LabelSettings(near_duplicate_similarity=1.0, test_share=0.3))
    with pytest.raises(EvaluationError, match="have the label neutral, but the metric needs at least 2 labels"):
        frozen_set(labels, QUICK)


def test_geometry_tells_encoders_apart(encoder: SentenceEncoder) -> None:
    rows = frozen_set(toy_labels(LabelKind.SCORED_PAIRS), QUICK)
    summary = evaluate(encoder, [rows], QUICK).summary
    assert summary.fingerprint == encoder.fingerprint
    vectors = encoder.encode(rows.texts())
    assert summary.geometry.num_texts == len(rows.texts()) + 12
    assert -1 < summary.geometry.mean_cosine < 1
    assert 1 < summary.geometry.effective_rank <= vectors.shape[1]
    assert np.isfinite(summary.geometry.uniformity)


@pytest.mark.parametrize(
    ("kind", "change", "metric", "why"),
    [
        (LabelKind.SCORED_PAIRS, {"score": 0.5}, "spearman", "rows have the score 0.5"),
        (LabelKind.PAIRS, {"positive": "one answer"}, "ndcg@10", "rows search the same 1 texts"),
        (LabelKind.PAIRS, {}, "recall@100", "rows search the same 20 texts"),
        (LabelKind.CLASSES, {"label": "strange"}, "accuracy", "rows are of classes that no train row has"),
        (LabelKind.NLI, {"label": "entailment"}, "average_precision", "rows are entailment"),
        (LabelKind.NLI, {"label": "neutral"}, "average_precision", "rows are not entailment"),
    ],
)
def test_rows_that_give_every_encoder_the_same_value_are_refused(
    kind: LabelKind, change: dict[str, object], metric: str, why: str
) -> None:
    rows = frozen_set(toy_labels(kind, 300), QUICK)
    changed = replace(rows, rows=rows.rows.head(20).with_columns(**{name: pl.lit(x) for name, x in change.items()}))
    with pytest.raises(EvaluationError, match=rf"all 20 {why}, so that every encoder has the same {metric}"):
        primary_metric(changed, QUICK.model_copy(update={"primary_metric": metric}))


def test_without_depths_there_is_no_recall(encoder: SentenceEncoder) -> None:
    settings = QUICK.model_copy(update={"recall_at": ()})
    rows = frozen_set(toy_labels(LabelKind.PAIRS, 200), settings)
    metrics = evaluate(encoder, [rows], settings).summary.sets["held-out"].metrics
    assert set(metrics) == {"ndcg@10", "mrr@10", "alignment"}

"""Fit weights, probability and thresholds to labelled questions.

Each labelled question is looked up twice: among all answers, and with its right answers held out. The second look shows what
a question without an answer looks like *in the neighbourhood of this table*: the best answer that is left is a near miss, as
it is for a real question that nobody has answered yet. Far questions would make any threshold look good.
"""

import logging
from collections.abc import Collection, Sequence
from dataclasses import dataclass, replace

import numpy as np
import numpy.typing as npt
import polars as pl
from sklearn.linear_model import LogisticRegression
from sklearn.metrics import roc_auc_score
from sklearn.model_selection import GroupKFold

from sbert.apply.answers.answer_pool import AnswerPool, AnswerTables
from sbert.apply.answers.best_answers import Answer, Questions, best_answers
from sbert.apply.answers.decide import features
from sbert.apply.answers.model import Calibration, CurvePoint, FitQuality, FittedModel, Float64
from sbert.apply.answers.settings import AnswerSettings, FusionWeights
from sbert.apply.answers.shared_words import question_words
from sbert.apply.nearest_rows import Key, keys_of
from sbert.apply.text_vectors import table_texts, vectors_of_texts
from sbert.counted import counted
from sbert.errors import TooFewLabelsError
from sbert.labels.checks import fold_texts
from sbert.table.delta import Table
from sbert.vectors.unit import unit_rows

__all__ = ["Labelled", "fit_labelled", "fit_model", "threshold_for"]

log = logging.getLogger(__name__)

MIN_QUESTIONS = 20
MAX_RIGHT = 50
"""Right answers of one question that are held out."""
NUM_CANDIDATES = 20
"""Answers of each question that the weights are fitted on."""
NEVER = 2.0
NUM_RESAMPLES = 200
PROMISES = (0.01, 0.02, 0.05, 0.1, 0.15, 0.2, 0.3)
FOLDED = "folded"

Bools = npt.NDArray[np.bool_]
Int64 = npt.NDArray[np.int64]


@dataclass(frozen=True)
class Labelled:
    """Questions whose right answers are known."""

    questions: Questions
    right: Sequence[Collection[Key]]
    """Keys of the right answers of each question, at least one."""
    num_unmatched: int = 0
    """Labels whose answer is no row of the answers table."""


def fit_model(
    rows: pl.DataFrame, tables: AnswerTables, questions: Table, fixed: FittedModel, settings: AnswerSettings
) -> FittedModel:
    """Fit to labels of the kind ``pairs``: ``anchor`` is a question, ``positive`` the text of its answer.

    Args:
        rows: the labels.
        tables: the answers; a kept column must hold the text of the answer.
        questions: the questions table, by whose rules the labelled questions are encoded.
        fixed: the model without labels, with the counts of words.
        settings: of the fit.

    Raises:
        TooFewLabelsError: fewer than 20 questions have an answer that is in the table.
        ModelError: the encoder of the table cannot be loaded.
    """
    folded = rows.with_columns(fold_texts(rows["positive"]).alias(FOLDED))
    places = _places(tables, set(folded[FOLDED].to_list()))
    right: dict[str, set[Key]] = {}
    num_unmatched = 0
    for question, answer in folded.select("anchor", FOLDED).iter_rows():
        if answer in places:
            right.setdefault(question, set()).update(places[answer])
        else:
            num_unmatched += 1
    if num_unmatched:
        log.warning("%d of %d labels are left out, because their answer is not a row of %s",
                    num_unmatched, rows.height, tables.first.table.uri)  # fmt: skip
    if len(right) < MIN_QUESTIONS:
        raise TooFewLabelsError(_too_few(len(right), num_unmatched, tables))
    words = question_words(table_texts(questions, list(right)).to_list(), fixed.counts) if tables.text_columns else None
    vectors_QD = unit_rows(vectors_of_texts(questions, list(right)))
    labelled = Labelled(Questions(vectors_QD, words), list(right.values()), num_unmatched)
    return fit_labelled(labelled, tables, fixed, settings)


def fit_labelled(labelled: Labelled, tables: AnswerTables, fixed: FittedModel, settings: AnswerSettings) -> FittedModel:
    """Fit to questions that have vectors.

    Raises:
        TooFewLabelsError: there are fewer than 20 questions, or all their best answers are right or all are wrong.
    """
    if len(labelled.right) < MIN_QUESTIONS:
        raise TooFewLabelsError(_too_few(len(labelled.right), labelled.num_unmatched, tables))
    weights = settings.weights
    pool = AnswerPool(tables, weights, fixed.counts)
    labelled = replace(labelled, right=_with_equal_texts(labelled.right, pool))
    if len(labelled.right) >= settings.min_labels:
        weights = _fit_weights(labelled, pool, weights)
        pool = AnswerPool(tables, weights, fixed.counts)
    most = min(max(len(right) for right in labelled.right), MAX_RIGHT)
    lists = best_answers(labelled.questions, pool, weights, settings.k + most)
    held_out = [
        [answer for answer in answers if answer.key not in right]
        for answers, right in zip(lists, labelled.right, strict=True)
    ]
    examples = _examples([each[: settings.k] for each in lists], [each[: settings.k] for each in held_out], labelled)
    if len(np.unique(examples.first)) < 2:
        raise TooFewLabelsError(
            "the best answers of the labelled questions are all right or all wrong, so there is nothing to learn: label "
            "more questions"
        )
    groups = np.tile(_groups(labelled.right), 2)
    sample = np.repeat([1 - settings.unanswerable_share, settings.unanswerable_share], len(lists))
    expected = [_cross_fitted(examples.values, truth, sample, groups, settings) for truth in examples.truths]
    first_threshold = threshold_for(expected[0], examples.first, sample, settings.promised_error)
    rest = expected[0] < first_threshold
    two_threshold = threshold_for(expected[1][rest], examples.first_two[rest], sample[rest], settings.promised_error)
    first, two = (
        _calibration(examples.values, truth, sample, threshold)
        for truth, threshold in zip(examples.truths, (first_threshold, two_threshold), strict=True)
    )
    quality = _quality(expected[0], examples.first, sample, groups, first_threshold, settings, labelled)
    record = fixed.record.model_copy(
        update={"origin": "labels", "weights": weights, "first": first, "first_two": two, "quality": quality}
    )
    return FittedModel(record=record, counts=fixed.counts)


def threshold_for(probability_N: Float64, is_right_N: Bools, weight_N: Float64, promised_error: float) -> float:
    """Return the least probability from which on answers keep the promise; 2 if there is none.

    One wrong answer is added to those that were seen. So the expected error of the next answer is at most the promise, as in
    conformal risk control (Angelopoulos et al. 2022).
    """
    if not len(probability_N):
        return NEVER
    order = np.argsort(-probability_N, kind="stable")
    extra = float(weight_N.mean())
    wrong = np.cumsum(weight_N[order] * ~is_right_N[order]) + extra
    error = wrong / (np.cumsum(weight_N[order]) + extra)
    sorted_N = probability_N[order]
    is_last = np.append(sorted_N[1:] < sorted_N[:-1], True)  # a threshold takes all equal probabilities or none
    good = np.flatnonzero((error <= promised_error) & is_last)
    return float(sorted_N[good[-1]]) if len(good) else NEVER


@dataclass(frozen=True)
class _Examples:
    """Features of all looks at all questions: first with all answers, then with the right ones held out."""

    values: Float64
    first: Bools
    first_two: Bools

    @property
    def truths(self) -> tuple[Bools, Bools]:
        return self.first, self.first_two


def _examples(lists: Sequence[Sequence[Answer]], held_out: Sequence[Sequence[Answer]], labelled: Labelled) -> _Examples:
    first, two = [], []
    for answers, right in zip(lists, labelled.right, strict=True):
        is_right = [answer.key in right for answer in answers]
        other = next((at for at, each in enumerate(answers) if each.text_hash != answers[0].text_hash), 0)
        first.append(bool(is_right) and is_right[0])
        two.append(bool(is_right) and (is_right[0] or is_right[other]))
    nothing = [False] * len(held_out)
    return _Examples(
        np.concatenate([features(lists), features(held_out)]), np.array(first + nothing), np.array(two + nothing)
    )


def _with_equal_texts(right: Sequence[Collection[Key]], pool: AnswerPool) -> list[Collection[Key]]:
    """Return for each question its right answers and the answers with equal texts, which are no near misses."""
    types = {"source": "string", "id": "string", "text_hash": "binary"}
    keys = pl.DataFrame({name: pl.Series(pool.keys[name].cast(kind)) for name, kind in types.items()})
    named = pl.DataFrame(
        [(at, *key) for at, own in enumerate(right) for key in own],
        schema={"question": pl.Int64, "source": pl.String, "id": pl.String},
        orient="row",
    )
    hashes = named.join(keys, on=["source", "id"]).select("question", "text_hash").unique()
    every = [set(own) for own in right]
    for question, source, row_id in hashes.join(keys, on="text_hash").select("question", "source", "id").iter_rows():
        every[question].add((source, row_id))
    return list(every)


def _fit_weights(labelled: Labelled, pool: AnswerPool, weights: FusionWeights) -> FusionWeights:
    """Fit the weights so that right answers come before wrong ones: a logistic regression on differences of pairs."""
    lists = best_answers(labelled.questions, pool, weights, NUM_CANDIDATES)
    differences = []
    for answers, right in zip(lists, labelled.right, strict=True):
        parts = np.array([[each.cosine, each.answer_cosine or 0.0, each.words or 0.0] for each in answers])
        is_right = np.array([each.key in right for each in answers], np.bool_)
        if is_right.any() and not is_right.all():
            differences.append(parts[is_right].max(axis=0) - parts[~is_right])
    if not differences:
        return weights
    rows = np.concatenate(differences)
    sample = np.concatenate([np.full(len(each), 1 / len(each)) for each in differences])
    fitted = LogisticRegression(fit_intercept=False, C=10.0).fit(
        np.concatenate([rows, -rows]), np.repeat([1, 0], len(rows)), sample_weight=np.tile(sample, 2)
    )
    positive_weights = np.maximum(fitted.coef_[0], 0)
    if not positive_weights.sum() or not positive_weights[:2].sum():
        return weights
    positive_weights = (positive_weights / positive_weights.sum()).round(6)
    return FusionWeights(cosine=positive_weights[0], answer_cosine=positive_weights[1], words=positive_weights[2])


def _regression(values: Float64, truth: Bools, sample: Float64) -> tuple[Float64, float]:
    """Return coefficients and intercept for features as they are, fitted on standardized ones."""
    mean, spread = values.mean(axis=0), np.maximum(values.std(axis=0), 1e-6)
    fitted = LogisticRegression(max_iter=1_000).fit((values - mean) / spread, truth, sample_weight=sample)
    coefficients = fitted.coef_[0] / spread
    return coefficients, float(fitted.intercept_[0] - coefficients @ mean)


def _calibration(values: Float64, truth: Bools, sample: Float64, threshold: float) -> Calibration:
    coefficients, intercept = _regression(values, truth, sample)
    return Calibration(coefficients=tuple(coefficients.tolist()), intercept=intercept, threshold=threshold)


def _cross_fitted(values: Float64, truth: Bools, sample: Float64, groups: Int64, settings: AnswerSettings) -> Float64:
    """Return the probability of each example from a fit without the questions of its answer."""
    probability = np.full(len(truth), float(np.average(truth, weights=sample)))
    folds = min(settings.num_folds, len(np.unique(groups)))
    if folds < 2:
        return probability
    splits = GroupKFold(folds, shuffle=True, random_state=settings.seed).split(values, truth, groups)
    for rest, part in splits:
        if len(np.unique(truth[rest])) == 2:
            probability[part] = _calibration(values[rest], truth[rest], sample[rest], NEVER).probability(values[part])
    return probability


def _quality(
    probability: Float64,
    truth: Bools,
    sample: Float64,
    groups: Int64,
    threshold: float,
    settings: AnswerSettings,
    labelled: Labelled,
) -> FitQuality:
    """Measure the error of the threshold on questions that the calibration has not seen, with intervals over answers.

    The weights of the score have seen all questions: they are two free numbers, and a fit of them in each fold would search
    all answers again for each fold.
    """
    num = len(labelled.right)
    names, inverse = np.unique(groups, return_inverse=True)
    members = [np.flatnonzero(inverse == name) for name in range(len(names))]
    chance = np.random.default_rng(settings.seed)
    aurocs, errors = [], []
    for _ in range(NUM_RESAMPLES):
        resample = np.concatenate([members[at] for at in chance.integers(0, len(members), len(members))])
        if len(np.unique(truth[resample])) == 2:
            aurocs.append(roc_auc_score(truth[resample], probability[resample], sample_weight=sample[resample]))
        errors.append(_error(probability[resample], truth[resample], sample[resample], threshold)[1])
    coverage, error = _error(probability, truth, sample, threshold)
    curve = []
    for promise in PROMISES:
        own = threshold_for(probability, truth, sample, promise)
        share, wrong = _error(probability, truth, sample, own)
        curve.append(CurvePoint(promised_error=promise, coverage=share, error=wrong))
    return FitQuality(
        num_questions=num,
        num_unmatched=labelled.num_unmatched,
        best_is_right=float(truth[:num].mean()),
        auroc=float(roc_auc_score(truth, probability, sample_weight=sample)),
        auroc_low=float(np.quantile(aurocs, 0.025)),
        auroc_high=float(np.quantile(aurocs, 0.975)),
        coverage=coverage,
        error=error,
        error_low=float(np.quantile(errors, 0.025)),
        error_high=float(np.quantile(errors, 0.975)),
        curve=tuple(curve),
    )


def _error(probability: Float64, truth: Bools, sample: Float64, threshold: float) -> tuple[float, float]:
    """Return the share of questions that are answered, and the share of wrong ones among the answers."""
    given = probability >= threshold
    answered = float(sample[given].sum())
    wrong = float(sample[given & ~truth].sum())
    return answered / float(sample.sum()), wrong / answered if answered else 0.0


def _groups(right: Sequence[Collection[Key]]) -> Int64:
    """Number questions by their first right answer: questions of one answer are never on both sides of a fold."""
    names: dict[Key, int] = {}
    return np.array([names.setdefault(min(keys), len(names)) for keys in right], np.int64)


def _places(tables: AnswerTables, wanted: set[str]) -> dict[str, set[Key]]:
    """Return the keys of the answers whose text is wanted, by the folded text of any kept column of texts."""
    places: dict[str, set[Key]] = {}
    for each in (tables.first, tables.second):
        if each is None:
            continue
        columns = [name for name, kind in each.table.kept_schema.items() if kind == pl.String]
        for rows in each.rows(each.num_rows, ["source", "id", *columns]):
            keys = keys_of(rows)
            for name in columns:
                folded = fold_texts(pl.Series(rows[name].cast("string")).fill_null(""))
                for at in folded.is_in(list(wanted)).arg_true().to_list():
                    places.setdefault(folded[at], set()).add(keys[at])
    return places


def _too_few(num_matched: int, unmatched: int, tables: AnswerTables) -> str:
    return (
        f"{counted(num_matched, 'labelled question')} with an answer that is a row of {tables.first.table.uri}, and "
        f"{unmatched} with another answer; a fit needs "
        f"{MIN_QUESTIONS}: keep the column of answers with `sbert refresh --keep-columns`, or give more labels"
    )

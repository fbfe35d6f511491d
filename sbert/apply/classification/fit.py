"""Fit a head: choose its kind and strength by cross-validation, then calibrate it on rows that were predicted unseen."""

import hashlib
import logging
import warnings
from collections.abc import Iterator
from dataclasses import dataclass, replace

import numpy as np
import numpy.typing as npt
from sklearn.exceptions import ConvergenceWarning
from sklearn.linear_model import LogisticRegression
from sklearn.metrics import f1_score
from sklearn.model_selection import StratifiedKFold

from sbert.apply.classification.calibration import abstention_threshold, calibrated, fit_temperature, set_scores
from sbert.apply.classification.head import Float32, Float64, Head, HeadRecord, Texts, centred, features
from sbert.apply.classification.rules import Rule, rule_features
from sbert.apply.classification.settings import HeadKind, HeadSettings
from sbert.apply.classification.weak_labels import WeakLabels
from sbert.errors import TooFewLabelsError

__all__ = ["CODE_VERSION", "HeadRules", "check_classes", "fit_head", "head_fingerprint"]

log = logging.getLogger(__name__)

CODE_VERSION = 1
"""Raise it when the code changes so that the same labels make another head."""
GAMMA = 1.0
MAX_ITERATIONS = 300
CHOICE_FOLDS = 3

Int64 = npt.NDArray[np.int64]


@dataclass(frozen=True)
class HeadRules:
    """Rules that a head takes as features, and the rows that they labelled."""

    rules: tuple[Rule, ...]
    text_column: str
    texts: Texts
    """The N labelled texts, to match the rules with."""
    weak: WeakLabels | None = None


def head_fingerprint(
    labels_fingerprint: str, encoder_fingerprint: str, task: str, settings: HeadSettings, rules: str = ""
) -> str:
    """Return a hash of everything that decides a head; `rules` is that of its rules, empty without rules."""
    parts = [labels_fingerprint, encoder_fingerprint, task, settings.model_dump_json(), str(CODE_VERSION)]
    parts += [rules] if rules else []
    return hashlib.sha256("|".join(parts).encode()).hexdigest()[:32]


def check_classes(labels: list[str], where: str) -> None:
    """Check that labels can be learned.

    Raises:
        TooFewLabelsError: there is a single class, or a class has a single row.
    """
    counts: dict[str, int] = {}
    for label in labels:
        counts[label] = counts.get(label, 0) + 1
    if len(counts) < 2:
        only = f", {next(iter(counts))!r}" if counts else ""
        raise TooFewLabelsError(
            f"{where}: the labels have {len(counts)} class{only}, at least 2 are needed: add rows of other classes"
        )
    alone = sorted(name for name, count in counts.items() if count == 1)
    if alone:
        named = ", ".join(map(repr, alone[:5]))
        raise TooFewLabelsError(
            f"{where}: {len(alone):,} of {len(counts):,} classes have one row, such as {named}: add a row to each, or leave "
            "them out"
        )
    largest = max(counts, key=lambda name: counts[name])
    share = counts[largest] / len(labels)
    if share >= 0.9:
        log.warning("%s: %.0f %% of the rows have the class %r: judge the head by macro-F1, not by accuracy",
                    where, 100 * share, largest)  # fmt: skip


@dataclass(frozen=True)
class _Choice:
    kind: HeadKind
    strength: float


@dataclass(frozen=True)
class _Fitted:
    """Weights of one kind of head."""

    mean_D: Float32
    landmarks_LD: Float32
    weights_FC: Float32
    bias_C: Float32
    rule_weights_KC: Float32

    def scores(self, vectors_ND: Float32, rules_NK: Float32) -> Float64:
        """Return scores before calibration, shape (N, C)."""
        scores_NC = features(vectors_ND, self.mean_D, self.landmarks_LD, GAMMA) @ self.weights_FC + self.bias_C
        scores_NC += rules_NK @ self.rule_weights_KC
        return np.asarray(scores_NC, np.float64)


@dataclass(frozen=True)
class _Rows:
    """N labelled rows to learn from, and M rows that rules labelled, which nothing is measured on."""

    vectors_ND: Float32
    rules_NK: Float32
    truth_N: Int64
    weak_MD: Float32
    weak_M: Int64
    weak_weights_M: Float64

    def take(self, rows: Int64) -> "_Rows":
        """Return some of the labelled rows, with all that rules labelled."""
        return replace(self, vectors_ND=self.vectors_ND[rows], rules_NK=self.rules_NK[rows], truth_N=self.truth_N[rows])


def _rows(vectors_ND: Float32, truth_N: Int64, number: dict[str, int], rules: HeadRules | None) -> _Rows:
    weak = None if rules is None else rules.weak
    return _Rows(
        vectors_ND=vectors_ND,
        rules_NK=np.zeros((len(truth_N), 0), np.float32) if rules is None else rule_features(rules.rules, rules.texts),
        truth_N=truth_N,
        weak_MD=np.zeros((0, vectors_ND.shape[1]), np.float32) if weak is None else weak.vectors_ND,
        weak_M=np.array([] if weak is None else [number[label] for label in weak.labels], np.int64),
        weak_weights_M=np.zeros(0) if weak is None else weak.weights_N,
    )


def fit_head(
    vectors_ND: Float32,
    labels: list[str],
    settings: HeadSettings,
    *,
    fingerprint: str,
    encoder_fingerprint: str,
    labels_fingerprint: str,
    task: str = "",
    rules: HeadRules | None = None,
) -> Head:
    """Fit a head to labelled vectors.

    Args:
        vectors_ND: vectors of N labelled texts.
        labels: their N classes.
        settings: what to choose from, and what to promise.
        fingerprint: name of the head, as `head_fingerprint` gives it.
        encoder_fingerprint: the encoder that made the vectors.
        labels_fingerprint: hash of the labelled rows.
        task: column of the labels; empty for the label column.
        rules: rules as prior knowledge; None for none.

    Raises:
        TooFewLabelsError: there is a single class, or a class has a single row.
    """
    check_classes(labels, task or "labels")
    classes = sorted(set(labels))
    number = {name: at for at, name in enumerate(classes)}
    truth_N = np.array([number[name] for name in labels], np.int64)
    rows = _rows(vectors_ND, truth_N, number, rules)
    choice, tried = _choose(rows, settings)
    scores_NC = _unseen_scores(rows, choice, settings, len(classes), settings.num_folds)
    temperature = fit_temperature(scores_NC, truth_N)
    probabilities_NC = calibrated(scores_NC, temperature)
    predicted_N = probabilities_NC.argmax(axis=1)
    confusion = np.zeros((len(classes), len(classes)), np.int64)
    np.add.at(confusion, (truth_N, predicted_N), 1)
    threshold = abstention_threshold(
        probabilities_NC.max(axis=1), predicted_N == truth_N, settings.promised_error, settings.promise_confidence
    )
    if threshold > 1:
        log.warning(
            "%s: no threshold keeps the promised error of %g on %d labelled rows: the head abstains on every row; add "
            "labels, or raise head.promised_error", task or "labels", settings.promised_error, len(labels),
        )  # fmt: skip
    fitted = _fit(rows, choice, settings, len(classes))
    return Head(
        record=HeadRecord(
            fingerprint=fingerprint,
            encoder_fingerprint=encoder_fingerprint,
            labels_fingerprint=labels_fingerprint,
            task=task,
            kind=choice.kind,
            strength=choice.strength,
            classes=classes,
            confusion=confusion.tolist(),
            temperature=temperature,
            abstain_below=threshold,
            set_scores=set_scores(probabilities_NC, truth_N, settings.coverage, settings.min_class_rows),
            num_rows=len(labels),
            chosen=tried,
            rules=() if rules is None else rules.rules,
            text_column="" if rules is None else rules.text_column,
            num_weak_rows=len(rows.weak_M),
        ),
        mean_D=fitted.mean_D,
        landmarks_LD=fitted.landmarks_LD,
        gamma=GAMMA,
        weights_FC=fitted.weights_FC,
        bias_C=fitted.bias_C,
        rule_weights_KC=None if rules is None else fitted.rule_weights_KC,
    )


def _choose(rows: _Rows, settings: HeadSettings) -> tuple[_Choice, list[dict[str, float | str]]]:
    """Return the kind and strength with the best macro-F1 on unseen rows; of equals the first, which is the simplest."""
    choices = [_Choice(kind, strength) for kind in settings.kinds for strength in sorted(settings.strengths)]
    if len(choices) == 1:
        return choices[0], []
    num_rows = len(rows.truth_N)
    num_classes = 1 + int(rows.truth_N.max())
    if num_rows > settings.max_choice_rows:
        taken = np.sort(np.random.default_rng(settings.seed).permutation(num_rows)[: settings.max_choice_rows])
        rows = rows.take(taken)
    values = [
        float(
            f1_score(
                rows.truth_N,
                _unseen_scores(rows, choice, settings, num_classes, CHOICE_FOLDS).argmax(axis=1),
                average="macro",
            )
        )
        for choice in choices
    ]
    tried: list[dict[str, float | str]] = [
        {"kind": choice.kind.value, "strength": choice.strength, "macro_f1": round(value, 6)}
        for choice, value in zip(choices, values, strict=True)
    ]
    return choices[int(np.argmax(values))], tried


def _unseen_scores(rows: _Rows, choice: _Choice, settings: HeadSettings, num_classes: int, num_folds: int) -> Float64:
    """Return the scores of each row by a head that was fitted on other rows, shape (N, C)."""
    scores_NC = np.full((len(rows.truth_N), num_classes), -np.inf)
    for seen, unseen in _folds(rows.truth_N, settings.seed, num_folds):
        fitted = _fit(rows.take(seen), choice, settings, num_classes)
        scores_NC[unseen] = fitted.scores(rows.vectors_ND[unseen], rows.rules_NK[unseen])
    return scores_NC


def _folds(truth_N: Int64, seed: int, num_folds: int) -> Iterator[tuple[Int64, Int64]]:
    """Cut rows into parts of like shares of each class; a class with fewer rows than parts is in some of them only."""
    splitter = StratifiedKFold(num_folds, shuffle=True, random_state=seed)
    with warnings.catch_warnings():
        warnings.filterwarnings("ignore", message="The least populated class")
        yield from splitter.split(np.zeros(len(truth_N)), truth_N)


def _fit(rows: _Rows, choice: _Choice, settings: HeadSettings, num_classes: int) -> _Fitted:
    """Fit one head of a given kind; a class without rows gets a score that no row reaches.

    Rows that rules labelled teach the weights of vectors only. There the rules are silent: otherwise the head would learn
    from the rules that the rules are right.
    """
    vectors_ND = rows.vectors_ND
    mean_D = vectors_ND.mean(axis=0)
    landmarks_LD = np.zeros((0, vectors_ND.shape[1]), np.float32)
    if choice.kind is HeadKind.KERNEL:
        places = np.random.default_rng(settings.seed).permutation(len(vectors_ND))[: settings.num_landmarks]
        landmarks_LD = centred(vectors_ND[np.sort(places)], mean_D)
    all_ND = np.concatenate([vectors_ND, rows.weak_MD]) if len(rows.weak_MD) else vectors_ND
    features_NF = features(all_ND, mean_D, landmarks_LD, GAMMA)
    whitening_FF = None
    if choice.kind is HeadKind.KERNEL:
        whitening_FF = _inverse_root(features(vectors_ND[np.sort(places)], mean_D, landmarks_LD, GAMMA))
        features_NF = features_NF @ whitening_FF
    num_features = features_NF.shape[1]
    if rows.rules_NK.shape[1]:
        silent_MK = np.zeros((len(rows.weak_M), rows.rules_NK.shape[1]), np.float32)
        features_NF = np.concatenate([features_NF, np.concatenate([rows.rules_NK, silent_MK])], axis=1)
    model = LogisticRegression(C=choice.strength, max_iter=MAX_ITERATIONS, tol=1e-3)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", ConvergenceWarning)  # cross-validation judges what was reached
        sample_weights = np.concatenate([np.ones(len(rows.truth_N)), rows.weak_weights_M]) if len(rows.weak_M) else None
        model.fit(features_NF, np.concatenate([rows.truth_N, rows.weak_M]), sample_weight=sample_weights)
    weights_CF, bias = model.coef_, model.intercept_
    if len(model.classes_) == 2:  # sklearn keeps one score of two classes
        weights_CF, bias = np.concatenate([-weights_CF, weights_CF]) / 2, np.concatenate([-bias, bias]) / 2
    weights_FC = np.zeros((features_NF.shape[1], num_classes))
    bias_C = np.full(num_classes, -1e3)
    weights_FC[:, model.classes_], bias_C[model.classes_] = weights_CF.T, bias
    weights_FC, rule_weights_KC = weights_FC[:num_features], weights_FC[num_features:]
    if whitening_FF is not None:
        weights_FC = whitening_FF @ weights_FC
    return _Fitted(
        mean_D,
        landmarks_LD,
        weights_FC.astype(np.float32),
        bias_C.astype(np.float32),
        rule_weights_KC.astype(np.float32),
    )


def _inverse_root(similarities_LL: Float32) -> Float32:
    """Return the inverse square root of a matrix of similarities; directions without weight are left out."""
    values_L, vectors_LL = np.linalg.eigh(similarities_LL.astype(np.float64))
    roots_L = np.where(values_L > 1e-6 * values_L[-1], 1 / np.sqrt(np.maximum(values_L, 1e-12)), 0.0)
    return np.asarray((vectors_LL * roots_L) @ vectors_LL.T, np.float32)

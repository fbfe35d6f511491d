"""Fit a head: choose its kind and strength by cross-validation, then calibrate it on rows that were predicted unseen."""

import hashlib
import logging
from dataclasses import dataclass, replace
from typing import Any

import numpy as np
import numpy.typing as npt

from sbert.apply.classification.calibration import abstention_threshold, calibrated, fit_temperature, set_scores
from sbert.apply.classification.choice import HeadSelection, choose_head
from sbert.apply.classification.cross_validation import unseen_scores
from sbert.apply.classification.encoder_classifier import EncoderClassifier
from sbert.apply.classification.encoder_use import ClassifierUse
from sbert.apply.classification.head import Float32, Float64, Head, HeadRecord
from sbert.apply.classification.learned_rows import DecidingRows
from sbert.apply.classification.rules import Rule, rule_features
from sbert.apply.classification.rules_choice import choose_rules
from sbert.apply.classification.rules_use import RulesPart
from sbert.apply.classification.settings import HeadKind, HeadSettings
from sbert.apply.classification.trained import Int64, LabelledRows, TrainedHead, train_head
from sbert.apply.classification.weak_labels import WeakLabels
from sbert.apply.classification.words import HeadWords, TermCounts, Texts, WordScorer, WordsUse, count_terms
from sbert.errors import TooFewLabelsError
from sbert.index.words.terms import TERMS_VERSION

__all__ = [
    "CODE_VERSION",
    "HeadClassifier",
    "HeadOrigin",
    "HeadRules",
    "abstention_limit",
    "check_classes",
    "check_no_class_of_one_row",
    "earlier_fingerprint",
    "fit_head",
    "head_fingerprint",
    "labelled_rows",
    "record_fields",
    "scorer_fields",
]

log = logging.getLogger(__name__)

CODE_VERSION = 2
"""Raise it when the code changes so that the same labels make another head."""
MULTI_LABEL_CODE_VERSION = 1
"""The same for heads of rows with several classes alone."""
FIRST_CODE_VERSION = 1
"""Heads that did not know of words."""


@dataclass(frozen=True, kw_only=True)
class HeadOrigin:
    """The name of a head, and of what it is fitted to."""

    fingerprint: str
    """Name of the head, as `head_fingerprint` gives it."""
    encoder_fingerprint: str
    """The encoder that made the vectors."""
    labels_fingerprint: str
    """Hash of the labelled rows."""
    task: str = ""
    """Column of the labels; empty for the label column."""

    @property
    def where(self) -> str:
        """The labels, as messages name them."""
        return self.task or "labels"


@dataclass(frozen=True)
class HeadRules:
    """Rules that a head takes as features, and the rows that they labelled."""

    rules: tuple[Rule, ...]
    text_column: str
    texts: Texts
    """The N labelled texts, to match the rules with."""
    weak: WeakLabels | None = None


@dataclass(frozen=True)
class HeadClassifier:
    """The encoder's classifier for the classes of a head."""

    weights: EncoderClassifier
    use: ClassifierUse


def head_fingerprint(
    labels_fingerprint: str,
    encoder_fingerprint: str,
    task: str,
    settings: HeadSettings,
    *,
    rules: str = "",
    words_column: str = "",
    is_multi_label: bool = False,
    learned: str = "",
) -> str:
    """Return a hash of everything that decides a head.

    Args:
        labels_fingerprint: hash of the labelled rows.
        encoder_fingerprint: the encoder that made the vectors.
        task: column of the labels.
        settings: of the head.
        rules: hash of its rules; empty without rules.
        words_column: column of the table whose words the head may read; empty for none.
        is_multi_label: whether a row can have several classes.
        learned: hash of the texts that the encoder learned from, and of its classifier where it is considered; empty where
            all rows decide and there is no classifier.
    """
    words = f"words:{words_column}:{TERMS_VERSION}" if words_column else ""
    several = f"multi_label:{MULTI_LABEL_CODE_VERSION}" if is_multi_label else ""
    named = (labels_fingerprint, encoder_fingerprint, task, settings, CODE_VERSION)
    return _hash(*named, rules, words, several, learned)


def earlier_fingerprint(
    labels_fingerprint: str, encoder_fingerprint: str, task: str, settings: HeadSettings
) -> str | None:
    """Return the name that an earlier release gave a head without rules; None with settings that it did not know.

    Such a head stays in use as long as nothing changes, so that a new release alone classifies no table again.
    """
    if settings.has_newer:
        return None
    return _hash(labels_fingerprint, encoder_fingerprint, task, settings, FIRST_CODE_VERSION)


def _hash(labels: str, encoder: str, task: str, settings: HeadSettings, code_version: int, *others: str) -> str:
    parts = [labels, encoder, task, settings.model_dump_json(), str(code_version), *filter(None, others)]
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
    check_no_class_of_one_row(dict(sorted(counts.items())), where)


def check_no_class_of_one_row(counts: dict[str, int], where: str) -> None:
    """Check that each class has two rows, so that one of them can be predicted by a head that saw the other.

    Raises:
        TooFewLabelsError: a class has a single row.
    """
    alone = [name for name, count in counts.items() if count == 1]
    if alone:
        named = ", ".join(map(repr, alone[:5]))
        raise TooFewLabelsError(
            f"{where}: {len(alone):,} of {len(counts):,} classes have one row, such as {named}: add a row to each, or leave "
            "them out"
        )


def labelled_rows(
    vectors_ND: Float32,
    truth: Int64,
    number: dict[str, int],
    rules: HeadRules | None,
    terms: TermCounts | None,
    deciding: DecidingRows | None,
) -> LabelledRows:
    """Return the rows that a head learns from.

    Args:
        vectors_ND: vectors of N labelled texts.
        truth: their classes, as `fit_regression` takes them.
        number: the number of each class, for the classes that rules give.
        rules: rules as prior knowledge; None for none.
        terms: the terms of the texts; None for vectors alone.
        deciding: the rows that the encoder has not learned from; None where all rows decide.
    """
    weak = None if rules is None else rules.weak
    return LabelledRows(
        vectors_ND=vectors_ND,
        rules_NK=np.zeros((len(truth), 0), np.float32) if rules is None else rule_features(rules.rules, rules.texts),
        truth=truth,
        weak_MD=np.zeros((0, vectors_ND.shape[1]), np.float32) if weak is None else weak.vectors_ND,
        weak_M=np.array([] if weak is None else [number[label] for label in weak.labels], np.int64),
        weak_weights_M=np.zeros(0) if weak is None else weak.weights_N,
        terms=terms,
        is_unseen_N=None if deciding is None else deciding.is_unseen_N,
    )


def fit_head(
    vectors_ND: Float32,
    labels: list[str],
    settings: HeadSettings,
    origin: HeadOrigin,
    *,
    rules: HeadRules | None = None,
    words: HeadWords | None = None,
    classifier: HeadClassifier | None = None,
    deciding: DecidingRows | None = None,
    search_uri: str | None = None,
) -> Head:
    """Fit a head to labelled vectors, or take the classifier of their encoder.

    Args:
        vectors_ND: vectors of N labelled texts.
        labels: their N classes.
        settings: what to choose from, and what to promise.
        origin: name of the head, and of what it is fitted to.
        rules: rules as prior knowledge, of which the head takes what does not surely harm (`choose_rules`); None for none.
        words: the labelled texts, whose words cross-validation may add to the vectors; None for vectors alone.
        classifier: the encoder's classifier for these classes; None for none.
        deciding: the rows that the encoder has not learned from. They alone choose and calibrate the head, whichever is
            taken. None where all rows do.
        search_uri: file in which a search keeps its trials; None for memory alone.

    Raises:
        TooFewLabelsError: there is a single class, or a class has a single row.
        SettingsError: a search is asked for, and Optuna is not installed.
    """
    check_classes(labels, origin.where)
    classes = sorted(set(labels))
    number = {name: at for at, name in enumerate(classes)}
    truth_N = np.array([number[name] for name in labels], np.int64)
    terms = None if words is None else count_terms(words.texts)
    rows = labelled_rows(vectors_ND, truth_N, number, rules, terms, deciding)
    rules_use = None
    if rules is not None:
        rows, rules_use = choose_rules(rows, settings, len(classes))
    if classifier is not None:
        rows = replace(rows, classifier=_tempered(classifier.weights, rows))
    selection = choose_head(rows, settings, len(classes), search_uri)
    choice = selection.choice
    use = None if classifier is None else _classifier_use(classifier.use, selection, rules)
    if choice.kind is HeadKind.CLASSIFIER:
        rules = rules_use = None  # it reads none
    elif rules_use is not None and rules_use.part is RulesPart.NOTHING:
        rules = None
    scores_NC = unseen_scores(rows, choice, settings, len(classes), settings.num_folds)[rows.deciding]
    truth_N = truth_N[rows.deciding]
    temperature = fit_temperature(scores_NC, truth_N)
    probabilities_NC = calibrated(scores_NC, temperature)
    predicted_N = probabilities_NC.argmax(axis=1)
    confusion = np.zeros((len(classes), len(classes)), np.int64)
    np.add.at(confusion, (truth_N, predicted_N), 1)
    trained = train_head(rows, choice, settings, len(classes))
    return Head(
        record=HeadRecord(
            classes=classes,
            confusion=confusion.tolist(),
            temperature=temperature,
            abstain_below=abstention_limit(probabilities_NC.max(axis=1), predicted_N == truth_N, settings, origin),
            set_scores=set_scores(probabilities_NC, truth_N, settings.coverage, settings.min_class_rows),
            classifier=use,
            rules_use=rules_use,
            **record_fields(origin, rows, selection, trained, rules, words, deciding),
        ),
        **scorer_fields(rows, trained, rules),
    )


def abstention_limit(
    confidence_N: Float64, is_right_N: npt.NDArray[np.bool_], settings: HeadSettings, origin: HeadOrigin, of: str = ""
) -> float:
    """Return the confidence below which a head abstains; warn where the head abstains on every row.

    Args:
        confidence_N: confidence of N labelled rows, by heads that had not seen them.
        is_right_N: whether these heads were right.
        settings: the promised error, and how sure the promise is.
        origin: named in the warning.
        of: what the promise is about, if not about a class: " for whole lists".
    """
    threshold = abstention_threshold(confidence_N, is_right_N, settings.promised_error, settings.promise_confidence)
    if threshold > 1:
        log.warning(
            "%s: no threshold keeps the promised error of %g%s on %d labelled rows: the head abstains on every row: add "
            "labels, or raise head.promised_error", origin.where, settings.promised_error, of, len(is_right_N),
        )  # fmt: skip
    return threshold


def _tempered(classifier: EncoderClassifier, rows: LabelledRows) -> EncoderClassifier:
    """Return the classifier with calibrated scores, to which those of words can be added."""
    unseen = rows.deciding
    scores_NC = np.asarray(rows.vectors_ND[unseen] @ classifier.weights_DC + classifier.bias_C, np.float64)
    return classifier.scaled(1 / fit_temperature(scores_NC, rows.truth[unseen]))


def _classifier_use(use: ClassifierUse, selection: HeadSelection, rules: HeadRules | None) -> ClassifierUse:
    is_used = selection.choice.kind is HeadKind.CLASSIFIER
    return use.model_copy(
        update={
            "is_used": is_used,
            "drops_rules": is_used and rules is not None,
            "macro_f1": selection.macro_f1_classifier,
            "macro_f1_fitted": selection.macro_f1_fitted,
        }
    )


def record_fields(
    origin: HeadOrigin,
    rows: LabelledRows,
    selection: HeadSelection,
    trained: TrainedHead,
    rules: HeadRules | None,
    words: HeadWords | None,
    deciding: DecidingRows | None,
) -> dict[str, Any]:
    """Return the fields of the record of any head that say how it was fitted, and to what."""
    return {
        "fingerprint": origin.fingerprint,
        "encoder_fingerprint": origin.encoder_fingerprint,
        "labels_fingerprint": origin.labels_fingerprint,
        "task": origin.task,
        "kind": selection.choice.kind,
        "strength": selection.choice.strength,
        "num_rows": len(rows.truth),
        "chosen": selection.tried,
        "rules": () if rules is None else rules.rules,
        "text_column": "" if rules is None else rules.text_column,
        "num_weak_rows": 0 if rules is None else len(rows.weak_M),
        "words": None if words is None else _words_use(words, selection, trained),
        "learned": None if deciding is None else deciding.use,
        "search": selection.search,
    }


def scorer_fields(rows: LabelledRows, trained: TrainedHead, rules: HeadRules | None) -> dict[str, Any]:
    """Return the weights of any head."""
    return {
        "mean_D": trained.mean_D,
        "landmarks_LD": trained.landmarks_LD,
        "gamma": trained.gamma,
        "weights_FC": trained.weights_FC,
        "bias_C": trained.bias_C,
        "rule_weights_KC": None if rules is None else trained.rule_weights_KC,
        "words": _word_scorer(rows, trained),
    }


def _words_use(words: HeadWords, selection: HeadSelection, trained: TrainedHead) -> WordsUse:
    assert selection.macro_f1 is not None
    assert selection.macro_f1_with_words is not None
    return WordsUse(
        column=words.column,
        weight=selection.choice.word_weight,
        strength=selection.choice.word_strength,
        num_terms=0 if trained.words is None else len(trained.words.columns_V),
        macro_f1=selection.macro_f1_with_words,
        macro_f1_without=selection.macro_f1,
    )


def _word_scorer(rows: LabelledRows, trained: TrainedHead) -> WordScorer | None:
    """Return the weights of words as the head stores them, times the weight of words."""
    if trained.words is None or rows.terms is None:
        return None
    words, weight = trained.words, np.float32(trained.word_weight)
    return WordScorer(
        rows.terms.terms_V.gather(words.columns_V), words.idf_V, weight * words.weights_VC, weight * words.bias_C
    )

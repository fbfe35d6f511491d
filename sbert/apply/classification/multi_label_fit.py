"""Fit a head of texts that can have several classes at once: one class against the rest, calibrated on unseen rows."""

from collections.abc import Sequence

import numpy as np

from sbert.apply.classification.choice import choose_head
from sbert.apply.classification.cross_validation import unseen_scores
from sbert.apply.classification.fit import (
    HeadOrigin,
    HeadRules,
    abstention_limit,
    check_no_class_of_one_row,
    labelled_rows,
    record_fields,
    scorer_fields,
)
from sbert.apply.classification.head import Float32
from sbert.apply.classification.learned_rows import DecidingRows
from sbert.apply.classification.multi_label_calibration import count_decisions, fit_sigmoid, possible_scores, thresholds
from sbert.apply.classification.multi_label_head import (
    MultiLabelHead,
    MultiLabelRecord,
    list_scores,
    sigmoid_probabilities,
)
from sbert.apply.classification.settings import HeadSettings
from sbert.apply.classification.trained import Int64, train_head
from sbert.apply.classification.words import HeadWords, count_terms
from sbert.errors import TooFewLabelsError

__all__ = ["check_class_lists", "fit_multi_label_head", "truth_matrix"]

MIN_ROWS = 2
"""Rows that have a class, and rows that do not have it, at least."""


def truth_matrix(labels: Sequence[Sequence[str]], classes: Sequence[str]) -> Int64:
    """Return 1 for each class of a row and 0 for the others, shape (N, C); a class that is not in `classes` is left out."""
    number = {name: at for at, name in enumerate(classes)}
    truth_NC = np.zeros((len(labels), len(classes)), np.int64)
    for row, names in enumerate(labels):
        truth_NC[row, [number[name] for name in names if name in number]] = 1
    return truth_NC


def check_class_lists(labels: Sequence[Sequence[str]], where: str) -> None:
    """Check that labels can be learned.

    Raises:
        TooFewLabelsError: no row has a class, a class has a single row, or all rows but one have it.
    """
    classes = sorted({name for names in labels for name in names})
    if not classes:
        raise TooFewLabelsError(f"{where}: none of {len(labels):,} labelled rows has a class: add rows that have one")
    counts_C = truth_matrix(labels, classes).sum(axis=0)
    check_no_class_of_one_row(dict(zip(classes, counts_C.tolist(), strict=True)), where)
    everywhere = [
        name for name, count in zip(classes, counts_C.tolist(), strict=True) if len(labels) - count < MIN_ROWS
    ]
    if everywhere:
        named = ", ".join(map(repr, everywhere[:5]))
        raise TooFewLabelsError(
            f"{where}: at least {len(labels) - 1:,} of {len(labels):,} rows have the class {named}: add {MIN_ROWS} rows "
            "without it, or leave it out"
        )


def fit_multi_label_head(
    vectors_ND: Float32,
    labels: Sequence[Sequence[str]],
    settings: HeadSettings,
    origin: HeadOrigin,
    *,
    rules: HeadRules | None = None,
    words: HeadWords | None = None,
    deciding: DecidingRows | None = None,
    search_uri: str | None = None,
) -> MultiLabelHead:
    """Fit a head to labelled vectors.

    Args:
        vectors_ND: vectors of N labelled texts.
        labels: the classes of each, in any order; none for a text that has none of them.
        settings: what to choose from, and what to promise.
        origin: name of the head, and of what it is fitted to.
        rules: rules as features. They label no rows: a rule that is silent does not say that a class is absent.
        words: the labelled texts, whose words cross-validation may add to the vectors; None for vectors alone.
        deciding: the rows that the encoder has not learned from. They alone choose and calibrate the head; None where all
            rows do.
        search_uri: file in which a search keeps its trials; None for memory alone.

    Raises:
        TooFewLabelsError: as `check_class_lists`.
        SettingsError: a search is asked for, and Optuna is not installed.
    """
    check_class_lists(labels, origin.where)
    classes = sorted({name for names in labels for name in names})
    terms = None if words is None else count_terms(words.texts)
    rows = labelled_rows(vectors_ND, truth_matrix(labels, classes), {}, rules, terms, deciding)
    selection = choose_head(rows, settings, len(classes), search_uri)
    scores_NC = unseen_scores(rows, selection.choice, settings, len(classes), settings.num_folds)[rows.deciding]
    truth_NC = rows.truth[rows.deciding] > 0
    sigmoids = [fit_sigmoid(scores_NC[:, at], truth_NC[:, at]) for at in range(len(classes))]
    slopes, offsets = [slope for slope, _ in sigmoids], [offset for _, offset in sigmoids]
    probabilities_NC = sigmoid_probabilities(scores_NC, np.array(slopes), np.array(offsets))
    least = thresholds(probabilities_NC, truth_NC, settings.min_class_rows)
    named_NC = probabilities_NC >= np.array(least)
    right_N = (named_NC == truth_NC).all(axis=1)
    of_lists_N = list_scores(probabilities_NC, named_NC)
    list_slope, list_offset = fit_sigmoid(of_lists_N, right_N)
    sure_N = sigmoid_probabilities(of_lists_N, np.array(list_slope), np.array(list_offset))
    trained = train_head(rows, selection.choice, settings, len(classes))
    return MultiLabelHead(
        record=MultiLabelRecord(
            classes=classes,
            slopes=slopes,
            offsets=offsets,
            thresholds=least,
            possible_scores=possible_scores(probabilities_NC, truth_NC, settings.coverage, settings.min_class_rows),
            decisions=count_decisions(
                probabilities_NC, truth_NC, settings.min_class_rows, num_folds=settings.num_folds, seed=settings.seed
            ),
            list_slope=list_slope,
            list_offset=list_offset,
            abstain_below=abstention_limit(sure_N, right_N, settings, origin, of=" for whole lists"),
            **record_fields(origin, rows, selection, trained, rules, words, deciding),
        ),
        **scorer_fields(rows, trained, rules),
    )

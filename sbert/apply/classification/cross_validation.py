"""Score rows by heads that were trained on other rows, fold by fold."""

import warnings
from collections.abc import Callable, Iterator

import numpy as np
from sklearn.metrics import f1_score
from sklearn.model_selection import StratifiedKFold

from sbert.apply.classification.head import Float64
from sbert.apply.classification.multi_label_calibration import best_f1
from sbert.apply.classification.settings import HeadSettings
from sbert.apply.classification.trained import HeadChoice, Int64, LabelledRows, train_head

__all__ = ["CHOICE_FOLDS", "Score", "folds", "macro_f1", "scores_of_unseen", "unseen_scores"]

CHOICE_FOLDS = 3
"""Parts of the cross-validation that chooses a head."""

Score = Callable[[LabelledRows, LabelledRows], Float64]
"""Learns from some rows and returns the scores of others."""


def unseen_scores(
    rows: LabelledRows, choice: HeadChoice, settings: HeadSettings, num_classes: int, num_folds: int
) -> Float64:
    """Return the scores of each row by a head that was trained on other rows, shape (N, C)."""
    return scores_of_unseen(
        rows,
        lambda seen, unseen: train_head(seen, choice, settings, num_classes).scores(unseen),
        settings.seed,
        num_folds,
        num_classes,
    )


def scores_of_unseen(rows: LabelledRows, score: Score, seed: int, num_folds: int, num_classes: int) -> Float64:
    """Return the scores of each row by whatever learned from other rows, shape (N, C)."""
    scores_NC = np.full((len(rows.truth), num_classes), -np.inf)
    for seen, unseen in folds(rows.truth, seed, num_folds):
        scores_NC[unseen] = score(rows.take(seen), rows.take(unseen))
    return scores_NC


def folds(truth: Int64, seed: int, num_folds: int) -> Iterator[tuple[Int64, Int64]]:
    """Cut rows into parts of like shares of each class, and yield the places outside and inside of each part.

    A class with fewer rows than parts is in some of them only, and there are at most as many parts as the largest class has
    rows. A row of several classes counts as one of its rarest, which is hardest to share out.
    """
    class_N = truth if truth.ndim == 1 else _rarest(truth)
    most = int(np.unique(class_N, return_counts=True)[1].max())
    splitter = StratifiedKFold(min(num_folds, most), shuffle=True, random_state=seed)
    with warnings.catch_warnings():
        warnings.filterwarnings("ignore", message="The least populated class")
        yield from splitter.split(np.zeros(len(truth)), class_N)


def macro_f1(rows: LabelledRows, scores_NC: Float64, among: Int64 | None = None) -> float:
    """Return macro-F1 on rows that decide; where a row can have several classes, the F1 of a class at its best threshold.

    Args:
        rows: N rows and their classes.
        scores_NC: scores of each row by a head that had not seen it.
        among: places of some rows that decide, at least one; None for all of them.
    """
    deciding = rows.deciding if among is None else among
    truth, scores_NC = rows.truth[deciding], scores_NC[deciding]
    if truth.ndim == 2:
        truth_NC = truth > 0
        return float(np.mean([best_f1(scores_NC[:, at], truth_NC[:, at])[0] for at in range(truth_NC.shape[1])]))
    return float(f1_score(truth, scores_NC.argmax(axis=1), average="macro"))


def _rarest(truth_NC: Int64) -> Int64:
    """Return the number of the rarest class of each row; C for a row without a class."""
    counts_C = truth_NC.sum(axis=0)
    sizes_NC = np.where(truth_NC > 0, counts_C, len(truth_NC) + 1)
    return np.asarray(np.where(truth_NC.any(axis=1), sizes_NC.argmin(axis=1), truth_NC.shape[1]), np.int64)

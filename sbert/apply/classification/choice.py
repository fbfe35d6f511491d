"""Choose kind and strength of a head, and whether it reads words, by cross-validation.

Where the encoder brings a classifier of its own, this is one more choice. Where it has learned from some of the rows, the
others decide.
"""

import warnings
from collections.abc import Callable, Iterator
from dataclasses import dataclass, replace

import numpy as np
from sklearn.metrics import f1_score
from sklearn.model_selection import StratifiedKFold

from sbert.apply.classification.head import Float32, Float64
from sbert.apply.classification.multi_label_calibration import best_f1
from sbert.apply.classification.settings import HeadKind, HeadSettings
from sbert.apply.classification.trained import HeadChoice, Int64, LabelledRows, train_head
from sbert.apply.classification.words import train_words

__all__ = ["HeadSelection", "choose_head", "unseen_scores"]

CHOICE_FOLDS = 3
WORD_WEIGHTS = (0.25, 0.5, 1.0)
MIN_WORDS_GAIN = 0.005
"""Macro-F1 that words must add. There are more choices with words than without, so the best of them is better by chance."""

Tried = list[dict[str, float | str]]
Score = Callable[[LabelledRows, LabelledRows], Float64]
"""Learns from some rows and returns the scores of others."""


@dataclass(frozen=True)
class HeadSelection:
    """The choice, the settings tried, and the best macro-F1 with words and without; None where nothing was compared."""

    choice: HeadChoice
    tried: Tried
    macro_f1: float | None = None
    macro_f1_with_words: float | None = None
    macro_f1_fitted: float | None = None
    """Best macro-F1 of a head that is fitted; None where the encoder has no classifier."""
    macro_f1_classifier: float | None = None
    """Macro-F1 of the encoder's classifier; None where it has none."""

    @property
    def chosen_macro_f1(self) -> float:
        """Macro-F1 of the choice, where choices were compared."""
        found = self.macro_f1_with_words if self.choice.word_weight else self.macro_f1
        assert found is not None
        return found


def choose_head(rows: LabelledRows, settings: HeadSettings, num_classes: int) -> HeadSelection:
    """Return the choice with the best macro-F1 on unseen rows; of equals the first, which is the simplest.

    Words are taken where they add at least `MIN_WORDS_GAIN`. Where a row can have several classes, the F1 of a class is that
    at its best threshold. The encoder's classifier is taken where it is not worse than the best head that is fitted.
    """
    fitted = [HeadChoice(kind, strength) for kind in settings.kinds for strength in sorted(settings.strengths)]
    if len(fitted) == 1 and rows.terms is None and rows.classifier is None:
        return HeadSelection(fitted[0], [])
    rows = _at_most(rows, settings)
    by_words = _word_scores(rows, settings, num_classes)
    best = _best_of(fitted, rows, by_words, settings, num_classes)
    if rows.classifier is None:
        return best
    ready = _best_of([HeadChoice(HeadKind.CLASSIFIER, 1.0)], rows, by_words, settings, num_classes)
    better = ready if ready.chosen_macro_f1 >= best.chosen_macro_f1 else best
    return replace(
        better,
        tried=[*best.tried, *ready.tried],
        macro_f1_fitted=best.chosen_macro_f1,
        macro_f1_classifier=ready.chosen_macro_f1,
    )


def _best_of(
    choices: list[HeadChoice],
    rows: LabelledRows,
    by_words: list[tuple[float, Float32]],
    settings: HeadSettings,
    num_classes: int,
) -> HeadSelection:
    """Return the best of some choices, with words where they add enough."""
    plain, mixed = [], []
    tried: Tried = []
    for choice in choices:
        scores_NC = unseen_scores(rows, choice, settings, num_classes, CHOICE_FOLDS)
        plain.append((_macro_f1(rows, scores_NC), choice))
        tried.append(_told(*plain[-1]))
        with_words = [
            (
                _macro_f1(rows, scores_NC + weight * words_NC),
                HeadChoice(choice.kind, choice.strength, strength, weight),
            )
            for strength, words_NC in by_words
            for weight in WORD_WEIGHTS
        ]
        if with_words:
            mixed.append(_best(with_words))
            tried.append(_told(*mixed[-1]))
    best, best_choice = _best(plain)
    if not mixed:
        return HeadSelection(best_choice, tried, best)
    best_mixed, best_mixed_choice = _best(mixed)
    return HeadSelection(
        best_mixed_choice if best_mixed - best >= MIN_WORDS_GAIN else best_choice, tried, best, best_mixed
    )


def unseen_scores(
    rows: LabelledRows, choice: HeadChoice, settings: HeadSettings, num_classes: int, num_folds: int
) -> Float64:
    """Return the scores of each row by a head that was trained on other rows, shape (N, C)."""
    return _unseen(
        rows,
        lambda seen, unseen: train_head(seen, choice, settings, num_classes).scores(unseen),
        settings.seed,
        num_folds,
        num_classes,
    )


def _word_scores(rows: LabelledRows, settings: HeadSettings, num_classes: int) -> list[tuple[float, Float32]]:
    """Return the scores of unseen rows by words alone, for each strength; none without words."""
    if rows.terms is None:
        return []

    def score(strength: float) -> Score:
        def of(seen: LabelledRows, unseen: LabelledRows) -> Float64:
            assert seen.terms is not None
            assert unseen.terms is not None
            scorer = train_words(
                seen.terms, seen.truth, strength, num_classes=num_classes, max_terms=settings.max_terms
            )
            return scorer.scores(unseen.terms)

        return of

    return [
        (strength, _unseen(rows, score(strength), settings.seed, CHOICE_FOLDS, num_classes).astype(np.float32))
        for strength in sorted(settings.strengths)
    ]


def _unseen(rows: LabelledRows, score: Score, seed: int, num_folds: int, num_classes: int) -> Float64:
    scores_NC = np.full((len(rows.truth), num_classes), -np.inf)
    for seen, unseen in _folds(rows.truth, seed, num_folds):
        scores_NC[unseen] = score(rows.take(seen), rows.take(unseen))
    return scores_NC


def _folds(truth: Int64, seed: int, num_folds: int) -> Iterator[tuple[Int64, Int64]]:
    """Cut rows into parts of like shares of each class; a class with fewer rows than parts is in some of them only.

    A row of several classes counts as one of its rarest, which is hardest to share out.
    """
    splitter = StratifiedKFold(num_folds, shuffle=True, random_state=seed)
    with warnings.catch_warnings():
        warnings.filterwarnings("ignore", message="The least populated class")
        yield from splitter.split(np.zeros(len(truth)), truth if truth.ndim == 1 else _rarest(truth))


def _rarest(truth_NC: Int64) -> Int64:
    """Return the number of the rarest class of each row; C for a row without a class."""
    counts_C = truth_NC.sum(axis=0)
    sizes_NC = np.where(truth_NC > 0, counts_C, len(truth_NC) + 1)
    return np.asarray(np.where(truth_NC.any(axis=1), sizes_NC.argmin(axis=1), truth_NC.shape[1]), np.int64)


def _at_most(rows: LabelledRows, settings: HeadSettings) -> LabelledRows:
    num_rows = len(rows.truth)
    if num_rows <= settings.max_choice_rows:
        return rows
    order = np.random.default_rng(settings.seed).permutation(num_rows)
    if rows.is_unseen_N is not None:  # the rows that decide come first
        order = order[np.argsort(~rows.is_unseen_N[order], kind="stable")]
    return rows.take(np.sort(order[: settings.max_choice_rows]))


def _macro_f1(rows: LabelledRows, scores_NC: Float64) -> float:
    deciding = rows.deciding
    truth, scores_NC = rows.truth[deciding], scores_NC[deciding]
    if truth.ndim == 2:
        truth_NC = truth > 0
        return float(np.mean([best_f1(scores_NC[:, at], truth_NC[:, at])[0] for at in range(truth_NC.shape[1])]))
    return float(f1_score(truth, scores_NC.argmax(axis=1), average="macro"))


def _best(candidates: list[tuple[float, HeadChoice]]) -> tuple[float, HeadChoice]:
    return max(candidates, key=lambda item: item[0])


def _told(macro_f1: float, choice: HeadChoice) -> dict[str, float | str]:
    words = {"words": choice.word_weight, "word_strength": choice.word_strength} if choice.word_weight else {}
    return {"kind": choice.kind.value, "strength": choice.strength, **words, "macro_f1": round(macro_f1, 6)}

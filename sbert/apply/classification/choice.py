"""Choose kind and strength of a head, and whether it reads words, by cross-validation.

A grid of kinds and strengths is compared first. A search may then try further settings
(`sbert.apply.classification.head_search`). Where the encoder brings a classifier of its own, this is one more choice. Where
it has learned from some of the rows, the others decide.
"""

from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from functools import cache

import numpy as np

from sbert.apply.classification.cross_validation import (
    CHOICE_FOLDS,
    Score,
    folds,
    macro_f1,
    scores_of_unseen,
    unseen_scores,
)
from sbert.apply.classification.head import Float32, Float64
from sbert.apply.classification.head_search import HeadSearch
from sbert.apply.classification.scored_choices import (
    MIN_WORDS_GAIN,
    ScoredChoice,
    Tried,
    best_plain,
    best_with_words,
    value_of,
)
from sbert.apply.classification.search_use import MIN_SEARCH_GAIN, SearchUse
from sbert.apply.classification.settings import HeadKind, HeadSettings
from sbert.apply.classification.trained import HeadChoice, LabelledRows
from sbert.apply.classification.words import train_words

__all__ = ["HeadSelection", "choose_head"]

WORD_WEIGHTS = (0.25, 0.5, 1.0)

WordScores = list[tuple[float, Float32]]
"""Strengths, and the scores of unseen rows by words alone."""


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
    search: SearchUse | None = None
    """Outcome of the search; None without one."""

    @property
    def chosen_macro_f1(self) -> float:
        """Macro-F1 of the choice, where choices were compared."""
        found = self.macro_f1_with_words if self.choice.word_weight else self.macro_f1
        assert found is not None
        return found


def choose_head(
    rows: LabelledRows, settings: HeadSettings, num_classes: int, search_uri: str | None = None
) -> HeadSelection:
    """Return the choice with the best macro-F1 on unseen rows; of equals the first, which is the simplest.

    Words are taken where they add at least `MIN_WORDS_GAIN`. The encoder's classifier is taken where it is not worse than
    the best head that is fitted.

    Args:
        rows: the labelled rows.
        settings: what to choose from.
        num_classes: C.
        search_uri: file in which a search keeps its trials; None for memory alone.

    Raises:
        SettingsError: a search is asked for, and Optuna is not installed.
    """
    fitted = [HeadChoice(kind, strength) for kind in settings.kinds for strength in sorted(settings.strengths)]
    if len(fitted) == 1 and rows.terms is None and rows.classifier is None and settings.search is None:
        return HeadSelection(fitted[0], [])
    rows = rows.at_most(settings.max_choice_rows, settings.seed)
    by_words = cache(lambda: _word_scores(rows, settings, num_classes))

    def scored_grid() -> list[ScoredChoice]:
        return _scored(fitted, rows, by_words(), settings, num_classes)

    if settings.search is None:
        best = _best_of(scored_grid())
    else:
        best = _best_found(HeadSearch(rows, settings, num_classes, search_uri), len(fitted), scored_grid)
    if rows.classifier is None:
        return best
    ready = _best_of(_scored([HeadChoice(HeadKind.CLASSIFIER, 1.0)], rows, by_words(), settings, num_classes))
    better = ready if ready.chosen_macro_f1 >= best.chosen_macro_f1 else best
    return replace(
        better,
        tried=[*best.tried, *ready.tried],
        macro_f1_fitted=best.chosen_macro_f1,
        macro_f1_classifier=ready.chosen_macro_f1,
        search=best.search,
    )


def _best_found(search: HeadSearch, num_choices: int, scored_grid: Callable[[], list[ScoredChoice]]) -> HeadSelection:
    """Return the best choice of the grid; that of a search where it is better by at least `MIN_SEARCH_GAIN`."""
    grid = search.grid(num_choices, scored_grid)
    search.run()
    best_of_grid = _best_of(grid)
    found = _best_of([*grid, *(trial.scored for trial in search.trials() if trial.is_completed)])
    gain = found.chosen_macro_f1 - best_of_grid.chosen_macro_f1
    best = found if gain >= MIN_SEARCH_GAIN else best_of_grid
    tried = [*best_of_grid.tried, *(trial.told for trial in search.trials())]
    use = search.use(best.choice, best.chosen_macro_f1, best_of_grid.chosen_macro_f1)
    return replace(best, tried=tried, search=use)


def _best_of(scored: Sequence[ScoredChoice]) -> HeadSelection:
    """Return the best of some choices, with words where they add enough."""
    tried = [told for each in scored for told in each.told]
    (best, choice), mixed = best_plain(scored), best_with_words(scored)
    if mixed is None:
        return HeadSelection(choice, tried, best)
    chosen = mixed[1] if mixed[0] - best >= MIN_WORDS_GAIN else choice
    return HeadSelection(chosen, tried, best, mixed[0])


def _scored(
    choices: Sequence[HeadChoice], rows: LabelledRows, by_words: WordScores, settings: HeadSettings, num_classes: int
) -> list[ScoredChoice]:
    """Score choices on unseen rows, each with the best strength and weight of words."""
    scored = []
    for choice in choices:
        scores_NC = unseen_scores(rows, choice, settings, num_classes, CHOICE_FOLDS)
        mixed = [
            (macro_f1(rows, scores_NC + weight * words_NC), at, weight)
            for at, (_, words_NC) in enumerate(by_words)
            for weight in WORD_WEIGHTS
        ]
        plain = (macro_f1(rows, scores_NC), choice)
        if not mixed:
            after = _after_folds(rows, settings, scores_NC, None)
            scored.append(ScoredChoice(plain, None, after))
            continue
        value, at, weight = max(mixed, key=lambda item: item[0])
        strength, words_NC = by_words[at]
        after = _after_folds(rows, settings, scores_NC, scores_NC + weight * words_NC)
        scored.append(ScoredChoice(plain, (value, replace(choice, word_strength=strength, word_weight=weight)), after))
    return scored


def _after_folds(
    rows: LabelledRows, settings: HeadSettings, plain_NC: Float64, mixed_NC: Float64 | None
) -> dict[int, float]:
    """Return the value of a choice after each fold, with which a search compares its trials; nothing without one."""
    values: dict[int, float] = {}
    if settings.search is None:
        return values
    done = np.zeros(0, np.int64)
    for number, (_, unseen) in enumerate(folds(rows.truth, settings.seed, CHOICE_FOLDS), start=1):
        done = np.concatenate([done, unseen])
        among = np.intersect1d(rows.deciding, done)
        if len(among):
            mixed = None if mixed_NC is None else macro_f1(rows, mixed_NC, among)
            values[number] = value_of(macro_f1(rows, plain_NC, among), mixed)
    return values


def _word_scores(rows: LabelledRows, settings: HeadSettings, num_classes: int) -> WordScores:
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
        (strength, scores_of_unseen(rows, score(strength), settings.seed, CHOICE_FOLDS, num_classes).astype(np.float32))
        for strength in sorted(settings.strengths)
    ]

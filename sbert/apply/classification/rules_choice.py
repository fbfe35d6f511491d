"""Choose by cross-validation which part of the rules a head takes: all, the features alone, or nothing."""

from collections.abc import Callable
from dataclasses import replace

import numpy as np

from sbert.apply.classification.cross_validation import CHOICE_FOLDS, macro_f1, unseen_scores
from sbert.apply.classification.rules_use import RulesPart, RulesUse
from sbert.apply.classification.settings import HeadSettings
from sbert.apply.classification.trained import HeadChoice, LabelledRows

__all__ = ["MIN_RULES_LOSS", "choose_rules"]

MIN_RULES_LOSS = 0.005
"""Macro-F1 that a part of the rules must cost before the head goes without it. Smaller losses are chance as often as not."""


def choose_rules(rows: LabelledRows, settings: HeadSettings, num_classes: int) -> tuple[LabelledRows, RulesUse]:
    """Return the rows with the largest part of the rules that costs less than `MIN_RULES_LOSS` of macro-F1 on unseen rows.

    Heads of the first kind in the settings are compared, each part with its best strength, on vectors and rules alone.

    Args:
        rows: the labelled rows, with all that the rules give.
        settings: kinds and strengths, and the most rows that choose.
        num_classes: C.
    """
    parts: dict[RulesPart, Callable[[LabelledRows], LabelledRows]] = {RulesPart.ALL: lambda rows: rows}
    if len(rows.weak_M):
        parts[RulesPart.FEATURES] = _as_features
    parts[RulesPart.NOTHING] = _without_rules
    some = rows.at_most(settings.max_choice_rows, settings.seed)
    values = {part: _best(select(some), settings, num_classes) for part, select in parts.items()}
    best = max(values.values())
    part = next(part for part, value in values.items() if best - value < MIN_RULES_LOSS)
    use = RulesUse(
        part=part,
        macro_f1=values[RulesPart.ALL],
        macro_f1_features=values.get(RulesPart.FEATURES),
        macro_f1_without=values[RulesPart.NOTHING],
    )
    return parts[part](rows), use


def _as_features(rows: LabelledRows) -> LabelledRows:
    """Return the labelled rows and their rules as features, without the rows that rules labelled."""
    return replace(
        rows, weak_MD=np.zeros_like(rows.weak_MD[:0]), weak_M=rows.weak_M[:0], weak_weights_M=rows.weak_weights_M[:0]
    )


def _without_rules(rows: LabelledRows) -> LabelledRows:
    """Return the labelled rows as if there were no rules."""
    return replace(_as_features(rows), rules_NK=rows.rules_NK[:, :0])


def _best(rows: LabelledRows, settings: HeadSettings, num_classes: int) -> float:
    """Return macro-F1 on unseen rows with the best strength."""
    choices = [HeadChoice(settings.kinds[0], strength) for strength in settings.strengths]
    return max(macro_f1(rows, unseen_scores(rows, one, settings, num_classes, CHOICE_FOLDS)) for one in choices)

"""Choose by cross-validation which part of the rules a head takes: all, the features alone, or nothing."""

from collections.abc import Callable
from dataclasses import replace

import numpy as np

from sbert.apply.classification.cross_validation import CHOICE_FOLDS, unseen_scores
from sbert.apply.classification.quality import macro_f1
from sbert.apply.classification.rules_use import CONFIDENCE, RulesPart, RulesUse
from sbert.apply.classification.settings import HeadSettings
from sbert.apply.classification.trained import HeadChoice, LabelledRows
from sbert.evaluation.metric import Metric, difference_interval

__all__ = ["choose_rules"]

NUM_RESAMPLES = 500


def choose_rules(rows: LabelledRows, settings: HeadSettings, num_classes: int) -> tuple[LabelledRows, RulesUse]:
    """Return the rows with all that the rules give; where a smaller part is surely better, with the best part.

    Heads of the first kind in the settings are compared by macro-F1 on unseen rows, each part with its best strength, on
    vectors and rules alone. A part is surely better where the paired bootstrap interval of its gain begins above 0. Of
    equally good parts the smallest is the best.

    Args:
        rows: the labelled rows, one class each, with all that the rules give.
        settings: kinds and strengths, and the most rows that choose.
        num_classes: C.
    """
    parts: dict[RulesPart, Callable[[LabelledRows], LabelledRows]] = {}
    if len(rows.weak_M):
        parts[RulesPart.FEATURES] = _as_features
    parts[RulesPart.NOTHING] = _without_rules
    some = rows.at_most(settings.max_choice_rows, settings.seed)
    everything = _best(some, settings, num_classes)
    smaller = {part: _best(select(some), settings, num_classes) for part, select in parts.items()}
    best = max(reversed(smaller), key=lambda part: smaller[part].value)
    gain = difference_interval(
        smaller[best], everything, num_resamples=NUM_RESAMPLES, confidence=CONFIDENCE, seed=settings.seed
    )
    is_worse = gain.low > 0
    use = RulesUse(
        part=best if is_worse else RulesPart.ALL,
        num_rows=everything.num_rows,
        macro_f1=everything.value,
        macro_f1_features=smaller[RulesPart.FEATURES].value if RulesPart.FEATURES in smaller else None,
        macro_f1_without=smaller[RulesPart.NOTHING].value,
        gain=gain.value,
        gain_low=gain.low,
        gain_high=gain.high,
    )
    return parts[best](rows) if is_worse else rows, use


def _as_features(rows: LabelledRows) -> LabelledRows:
    """Return the labelled rows and their rules as features, without the rows that rules labelled."""
    return replace(rows, weak_MD=rows.weak_MD[:0], weak_M=rows.weak_M[:0], weak_weights_M=rows.weak_weights_M[:0])


def _without_rules(rows: LabelledRows) -> LabelledRows:
    """Return the labelled rows as if there were no rules."""
    return replace(_as_features(rows), rules_NK=rows.rules_NK[:, :0])


def _best(rows: LabelledRows, settings: HeadSettings, num_classes: int) -> Metric:
    """Return macro-F1 on the rows that decide, each unseen, with the best strength."""
    found = []
    for strength in settings.strengths:
        scores_NC = unseen_scores(rows, HeadChoice(settings.kinds[0], strength), settings, num_classes, CHOICE_FOLDS)
        predicted_N = np.asarray(scores_NC[rows.deciding].argmax(axis=1), np.int64)
        found.append(macro_f1(rows.truth[rows.deciding], predicted_N))
    return max(found, key=lambda metric: metric.value)

"""Measure the effect of rules on a head: their coefficients, and the held-out rows with and without them."""

import numpy as np
import polars as pl
from pydantic import BaseModel, ConfigDict, Field

from sbert.apply.classification.head import Float32, Head
from sbert.apply.classification.quality import Share, compared_macro_f1, resampled
from sbert.apply.classification.rules import rule_classes, rule_features
from sbert.evaluation.metric import difference_interval

__all__ = ["RuleCoefficient", "RulesEffect", "rules_effect"]

NUM_RESAMPLES = 500
CONFIDENCE = 0.95


class RuleCoefficient(BaseModel):
    """The weight of the rules of one class."""

    model_config = ConfigDict(frozen=True)

    label: str
    num_rules: int
    num_matches: int = Field(description="Held-out rows that one of them matches.")
    coefficient: float = Field(
        description="Added to the score of the class by a rule of weight 1, compared with the mean of the other classes."
    )


class RulesEffect(BaseModel):
    """The effect of rules; held-out values are None without held-out rows."""

    model_config = ConfigDict(frozen=True)

    num_weak_rows: int = Field(description="Rows without a label that were learned from.")
    coefficients: list[RuleCoefficient]
    without_rules: Share | None = Field(description="Macro-F1 of a head that was fitted without rules.")
    gain: Share | None = Field(description="Macro-F1 with rules minus that without, on the same rows.")
    num_changed: int = Field(description="Held-out rows whose label differs because of rules.")


def rules_effect(head: Head, plain: Head, test_ND: Float32, labels: list[str], texts: pl.Series) -> RulesEffect:
    """Return the effect of the rules on a head.

    Args:
        head: a head with rules.
        plain: the head of the same labels without rules.
        test_ND: vectors of N held-out rows.
        labels: their classes.
        texts: their texts.
    """
    assert head.rule_weights_KC is not None
    matches_NK = rule_features(head.record.rules, texts) > 0
    coefficients = []
    for at, label in enumerate(rule_classes(head.record.rules)):
        weights_C, own = head.rule_weights_KC[at], head.classes.index(label)
        coefficients.append(
            RuleCoefficient(
                label=label,
                num_rules=sum(rule.label == label for rule in head.record.rules),
                num_matches=int(matches_NK[:, at].sum()),
                coefficient=float(weights_C[own] - np.delete(weights_C, own).mean()),
            )
        )
    without, gain, num_changed = None, None, 0
    if labels:
        scores_NC = head.scores(test_ND, texts)
        after, before = compared_macro_f1(
            labels, [(head.classes, scores_NC), (plain.classes, plain.scores(test_ND, texts))]
        )
        difference = difference_interval(after, before, num_resamples=NUM_RESAMPLES, confidence=CONFIDENCE, seed=0)
        without, gain = resampled(before), Share(value=difference.value, low=difference.low, high=difference.high)
        silent_NC = head.scores(test_ND, texts, with_rules=False)
        num_changed = int((scores_NC.argmax(axis=1) != silent_NC.argmax(axis=1)).sum())
    return RulesEffect(
        num_weak_rows=head.record.num_weak_rows,
        coefficients=coefficients,
        without_rules=without,
        gain=gain,
        num_changed=num_changed,
    )

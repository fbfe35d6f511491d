"""Measure the effect of rules on a head: their coefficients, and the held-out rows with and without them."""

import numpy as np
import polars as pl
from pydantic import BaseModel, ConfigDict, Field

from sbert.apply.classification.head import Float32
from sbert.apply.classification.head_kinds import AnyHead
from sbert.apply.classification.multi_label_head import MultiLabelHead
from sbert.apply.classification.multi_label_quality import difference_of_macro_f1, measure_multi_label_head
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
        description="Added to the score of the class by a rule of weight 1, compared with the mean of the other classes; "
        "where a row can have several classes, added to its log-odds."
    )


class RulesEffect(BaseModel):
    """The effect of rules; held-out values are None without held-out rows."""

    model_config = ConfigDict(frozen=True)

    num_weak_rows: int = Field(description="Rows without a label that were learned from.")
    coefficients: list[RuleCoefficient]
    without_rules: Share | None = Field(description="Macro-F1 of a head that was fitted without rules.")
    gain: Share | None = Field(description="Macro-F1 with rules minus that without, on the same rows.")
    num_changed: int = Field(description="Held-out rows whose label differs because of rules.")


def rules_effect(head: AnyHead, plain: AnyHead, test_ND: Float32, test: pl.DataFrame) -> RulesEffect:
    """Return the effect of the rules on a head.

    Args:
        head: a head with rules.
        plain: the head of the same labels without rules.
        test_ND: vectors of N held-out rows.
        test: the rows, with the columns ``text`` and ``label``.
    """
    assert head.rule_weights_KC is not None
    texts = test["text"]
    matches_NK = rule_features(head.record.rules, texts) > 0
    coefficients = []
    for at, label in enumerate(rule_classes(head.record.rules)):
        weights_C, own = head.rule_weights_KC[at], head.classes.index(label)
        others = 0.0 if isinstance(head, MultiLabelHead) else float(np.delete(weights_C, own).mean())
        coefficients.append(
            RuleCoefficient(
                label=label,
                num_rules=sum(rule.label == label for rule in head.record.rules),
                num_matches=int(matches_NK[:, at].sum()),
                coefficient=float(weights_C[own]) - others,
            )
        )
    without, gain, num_changed = None, None, 0
    if test.height:
        without, gain = _gain(head, plain, test_ND, test)
        num_changed = _num_changed(head, test_ND, texts)
    return RulesEffect(
        num_weak_rows=head.record.num_weak_rows,
        coefficients=coefficients,
        without_rules=without,
        gain=gain,
        num_changed=num_changed,
    )


def _gain(head: AnyHead, plain: AnyHead, test_ND: Float32, test: pl.DataFrame) -> tuple[Share, Share]:
    """Return macro-F1 without rules, and macro-F1 with rules minus that."""
    labels, texts = test["label"].to_list(), test["text"]
    if isinstance(head, MultiLabelHead):
        assert isinstance(plain, MultiLabelHead)
        named = texts.to_list()
        _, _, difference = difference_of_macro_f1(
            head, plain, test_ND, labels, named, num_resamples=NUM_RESAMPLES, confidence=CONFIDENCE
        )
        quality = measure_multi_label_head(plain, test_ND, labels, named)
        assert quality is not None
        without = quality.macro_f1
    else:
        scored = [(one.classes, one.scores(test_ND, texts)) for one in (head, plain)]
        after, before = compared_macro_f1(labels, scored)
        difference = difference_interval(after, before, num_resamples=NUM_RESAMPLES, confidence=CONFIDENCE, seed=0)
        without = resampled(before)
    return without, Share(value=difference.value, low=difference.low, high=difference.high)


def _num_changed(head: AnyHead, test_ND: Float32, texts: pl.Series) -> int:
    """Return the rows that get something else because of rules."""
    if isinstance(head, MultiLabelHead):
        named_NC, silent_NC = (
            head.named(head.probabilities(test_ND, texts, with_rules=with_rules)) for with_rules in (True, False)
        )
        return int((named_NC != silent_NC).any(axis=1).sum())
    best_N, silent_N = (
        head.scores(test_ND, texts, with_rules=with_rules).argmax(axis=1) for with_rules in (True, False)
    )
    return int((best_N != silent_N).sum())

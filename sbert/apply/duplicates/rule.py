"""The rule that says whether two texts say the same: the cosine of their vectors, a check for conflicts, perhaps a model.

The check keeps texts apart that differ in a number, a name or a negation (`sbert.rows.text_differences`). A model that
was fitted on labelled pairs (`sbert.apply.duplicates.fit`) replaces the bare cosine by a probability.
"""

import logging
import math
from typing import Any

from pydantic import BaseModel, ConfigDict, Field, model_validator

from sbert.errors import SettingsError
from sbert.rows.text_differences import DifferenceKind, TextFacts, compare_facts, has_conflict

__all__ = ["FEATURES", "FittedModel", "PairRule", "pair_features", "shared_words", "with_new_names"]

FEATURES = ("cosine", "overlap", "length", "number", "name", "negation")
"""Features of a fitted model: see `pair_features`."""
OLD_NAMES = {"guard": "conflict_check", "guard_overlap": "conflict_overlap"}
"""Settings by their earlier names, which are read with a warning."""

log = logging.getLogger(__name__)


class FittedModel(BaseModel):
    """A logistic model of the probability that two texts say the same, and how it did on pairs it was not fitted on."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    weights: dict[str, float] = Field(description="Weight of each feature of a pair, by name.")
    intercept: float = Field(description="Constant of the model (log odds).")
    threshold: float = Field(gt=0, lt=1, description="Two texts say the same from this probability on (0 to 1).")
    labels: str = Field(description="Fingerprint of the labelled pairs.")
    num_pairs: int = Field(ge=1, description="Labelled pairs (rows).")
    precision: float = Field(ge=0, le=1, description="Share of right pairs among those called the same (0 to 1).")
    precision_low: float = Field(ge=0, le=1, description="Lower end of its 95 % interval (0 to 1).")
    precision_high: float = Field(ge=0, le=1, description="Upper end of its 95 % interval (0 to 1).")
    recall: float = Field(ge=0, le=1, description="Share of the pairs that say the same which are found (0 to 1).")

    def probability(self, features: tuple[float, ...]) -> float:
        """Return the probability that two texts say the same."""
        odds = self.intercept + sum(self.weights[name] * value for name, value in zip(FEATURES, features, strict=True))
        return 1 / (1 + math.exp(-min(max(odds, -50.0), 50.0)))


class PairRule(BaseModel):
    """The rule that decides whether two texts say the same."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    similarity: float = Field(
        default=0.9,
        ge=0.3,
        lt=1,
        description="Least cosine of two texts that say the same; with a fitted model the least that it looks at.",
    )
    conflict_check: bool = Field(
        default=True,
        description="Keep texts apart that differ in a number, a name or a negation; this needs the texts.",
    )
    conflict_overlap: float = Field(
        default=0.0,
        ge=0,
        le=1,
        description="The check acts on texts that share at least this part of their other words (0 to 1; 0: on all).",
    )
    model: FittedModel | None = Field(default=None, description="Model that was fitted on labelled pairs.")

    @model_validator(mode="before")
    @classmethod
    def _rename(cls, values: Any) -> Any:
        return with_new_names(values)

    @property
    def needs_texts(self) -> bool:
        """Return whether the rule reads texts."""
        return self.conflict_check or self.model is not None

    def is_same(self, cosine: float, left: TextFacts, right: TextFacts) -> bool:
        """Return whether two texts say the same."""
        if cosine < self.similarity:
            return False
        if self.model is not None:
            features = pair_features(cosine, left, right)
            if self.model.probability(features) < self.model.threshold:
                return False
        if not self.conflict_check:
            return True
        if not self.conflict_overlap:
            return not has_conflict(left, right)
        return not (
            has_conflict(left, right) and shared_words(left, right, beside_conflicts=True) >= self.conflict_overlap
        )


def with_new_names(values: Any) -> Any:
    """Return settings with the names that they have now.

    Raises:
        SettingsError: a setting is given by both names.
    """
    old_names = OLD_NAMES.keys() & values.keys() if isinstance(values, dict) else set()
    if not old_names:
        return values
    for old in sorted(old_names):
        if OLD_NAMES[old] in values:
            raise SettingsError(f"{OLD_NAMES[old]} and its old name {old} are both given: remove {old}")
        log.warning("the setting %s is now called %s; the old name will be removed", old, OLD_NAMES[old])
    return {OLD_NAMES.get(name, name): value for name, value in values.items()}


def pair_features(cosine: float, left: TextFacts, right: TextFacts) -> tuple[float, ...]:
    """Return the features of a pair, in the order of `FEATURES`.

    They are the cosine, the Dice coefficient of the words, the difference of the numbers of words as a share of the
    greater one, and for number, name and negation 1 where there is a conflict, else 0.
    """
    conflicts = {difference.kind for difference in compare_facts(left, right) if difference.is_conflict}
    sizes = sorted((len(left.words) + len(left.numbers), len(right.words) + len(right.numbers)))
    length = (sizes[1] - sizes[0]) / sizes[1] if sizes[1] else 0.0
    flags = (float(kind in conflicts) for kind in (DifferenceKind.NUMBER, DifferenceKind.NAME, DifferenceKind.NEGATION))
    return (cosine, shared_words(left, right), length, *flags)


def shared_words(left: TextFacts, right: TextFacts, *, beside_conflicts: bool = False) -> float:
    """Return the Dice coefficient of the words and numbers of two texts (0 to 1).

    Args:
        left: a text.
        right: another.
        beside_conflicts: leave out the numbers, names and negations in which they are in conflict.
    """
    mine, others = left.words | left.numbers, right.words | right.numbers
    total = len(mine) + len(others)
    if beside_conflicts:
        total -= sum(
            len(difference.left) + len(difference.right)
            for difference in compare_facts(left, right)
            if difference.is_conflict
        )
    shared = 2 * len(mine & others)
    return min(1.0, shared / total) if total > 0 else 1.0

"""The part of the rules that a head takes, in words and numbers."""

from enum import StrEnum, auto

from pydantic import BaseModel, ConfigDict, Field

from sbert.counted import counted

__all__ = ["CONFIDENCE", "RulesPart", "RulesUse"]

CONFIDENCE = 0.9
"""Confidence of the interval that decides whether a smaller part of the rules is surely better."""


class RulesPart(StrEnum):
    """What a head takes of its rules."""

    ALL = auto()
    """The rows that they labelled, and whether they match as features."""
    FEATURES = auto()
    """Whether they match as features, and no row that they labelled."""
    NOTHING = auto()
    """Neither: the head is the one that it would be without rules."""


class RulesUse(BaseModel):
    """The part of the rules that a head takes, and the macro-F1 of each part in cross-validation."""

    model_config = ConfigDict(frozen=True)

    part: RulesPart
    num_rows: int = Field(description="Labelled rows that were compared.")
    macro_f1: float = Field(description="With all that the rules give.")
    macro_f1_features: float | None = Field(
        description="With the rules as features alone; None where they label no row, which is the same as all."
    )
    macro_f1_without: float = Field(description="Without rules.")
    gain: float = Field(description="Macro-F1 of the best smaller part minus that of all.")
    gain_low: float = Field(description="Lower end of its 90 % interval; above 0 the smaller part is taken.")
    gain_high: float = Field(description="Upper end of its 90 % interval.")

    def told(self) -> str:
        """Return which part is taken, and why, in sentences."""
        taken = {
            RulesPart.ALL: "The head takes all that the rules give, since no smaller part of it is surely better.",
            RulesPart.FEATURES: "The head takes the rules as features alone, and learns from no row that they labelled, "
            "since these rows make it worse.",
            RulesPart.NOTHING: "The head takes nothing from the rules, since they make it worse: correct them, or label "
            "more rows.",
        }[self.part]
        features = "" if self.macro_f1_features is None else f"{100 * self.macro_f1_features:.1f} as features alone, "
        compared = (
            f"In cross-validation on {counted(self.num_rows, 'labelled row')}, by vectors and rules alone, macro-F1 is "
            f"{100 * self.macro_f1:.1f} with all that the rules give, {features}and {100 * self.macro_f1_without:.1f} "
            "without rules."
        )
        if self.part is RulesPart.ALL:
            return f"{taken} {compared}"
        subject = "Features alone gain" if self.part is RulesPart.FEATURES else "A head without rules gains"
        return (
            f"{taken} {compared} {subject} {100 * self.gain:+.1f} points ({CONFIDENCE:.0%} interval "
            f"{100 * self.gain_low:+.1f} to {100 * self.gain_high:+.1f})."
        )

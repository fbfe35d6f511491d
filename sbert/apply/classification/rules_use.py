"""The part of the rules that a head takes, in words and numbers."""

from enum import StrEnum, auto

from pydantic import BaseModel, ConfigDict, Field

__all__ = ["RulesPart", "RulesUse"]


class RulesPart(StrEnum):
    """What a head takes of its rules."""

    ALL = auto()
    """The rows that they labelled, and whether they match as features."""
    FEATURES = auto()
    """Whether they match as features alone."""
    NOTHING = auto()


class RulesUse(BaseModel):
    """The part of the rules that a head takes, and the macro-F1 of each part in cross-validation."""

    model_config = ConfigDict(frozen=True)

    part: RulesPart
    macro_f1: float = Field(description="With all that the rules give.")
    macro_f1_features: float | None = Field(
        description="With the rules as features alone; None where they label no row, so that these are all."
    )
    macro_f1_without: float = Field(description="Without rules.")

    def told(self) -> str:
        """Return which part is taken, and why, in sentences."""
        taken = {
            RulesPart.ALL: "The head takes all that the rules give.",
            RulesPart.FEATURES: "The head takes the rules as features alone, and learns from no row that they labelled, "
            "since these rows make it worse.",
            RulesPart.NOTHING: "The head takes nothing from the rules, since they make it worse: correct them, or remove "
            "rules_uri.",
        }[self.part]
        features = "" if self.macro_f1_features is None else f", {100 * self.macro_f1_features:.1f} as features alone"
        return (
            f"{taken} Macro-F1 of cross-validation is {100 * self.macro_f1:.1f} with them{features}, and "
            f"{100 * self.macro_f1_without:.1f} without."
        )

"""Settings of the robustness sets: regression sets that are made by rule, so that every installation has them."""

from enum import StrEnum
from typing import Literal

from pydantic import BaseModel, ConfigDict, Field

__all__ = ["RobustnessKind", "RobustnessSettings"]


class RobustnessKind(StrEnum):
    """Abilities that an encoder must not unlearn."""

    NEGATION = "negation"
    """A text is nearer to the same text in other words than to its negation."""
    NUMBER = "number"
    """A text is nearer to the same text in other words than to one with another number."""
    TYPOS = "typos"
    """A text with typos finds the text without them."""
    OTHER_DOMAIN = "other_domain"
    """The first sentence of a documentation of Python finds the rest of it."""


class RobustnessSettings(BaseModel):
    """The robustness sets that a candidate is measured on, and what a loss on them means."""

    model_config = ConfigDict(frozen=True, extra="forbid", allow_inf_nan=False)

    sets: tuple[RobustnessKind, ...] = Field(
        default=tuple(RobustnessKind),
        max_length=len(RobustnessKind),
        description="Sets that are made and measured: negation, number, typos, other_domain; empty for none.",
    )
    action: Literal["refuse", "report"] = Field(
        default="refuse",
        description="Consequence of a proven loss on a set: refuse (no promotion) or report (a note in the report).",
    )
    tolerance: float = Field(
        default=0.0,
        ge=0,
        lt=1,
        description="A loss counts when the whole interval of the gain lies below minus this (units of the metric, 0 to 1).",
    )
    num_texts: int = Field(default=300, ge=20, le=20_000, description="Texts of each set (texts).")

    @property
    def refuses(self) -> bool:
        """Return whether the sets can change a decision."""
        return self.action == "refuse" and bool(self.sets)

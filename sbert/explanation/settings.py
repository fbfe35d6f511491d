"""Settings of an explanation."""

from enum import StrEnum

from pydantic import BaseModel, ConfigDict, Field

__all__ = ["ExplanationSettings", "Method"]


class Method(StrEnum):
    """How a vector is divided among the words of its text."""

    LAST_LAYER = "last-layer"
    """By the vectors that the last layer gives to the tokens; exact. Each of them has seen the whole text."""
    THROUGH_LAYERS = "through-layers"
    """By integrated gradients from the words that were put in; a hundred times the work."""


class ExplanationSettings(BaseModel):
    """Settings of explanations."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    method: Method = Field(
        default=Method.LAST_LAYER, description="How a vector is divided among the words of its text."
    )
    steps: int = Field(
        default=16,
        ge=4,
        le=256,
        description="Places on the path of integrated gradients at first; doubled where needed.",
    )
    max_error: float = Field(
        default=0.05,
        gt=0,
        le=1,
        description="Largest distance between the sum of a text's parts and its unit vector.",
    )
    warn_above: float = Field(
        default=0.85,
        ge=-1,
        le=1,
        description="Cosine from which on vectors have overlooked a number or a negation in which the texts differ.",
    )

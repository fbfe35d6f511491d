"""The settings of the promotion gate."""

from enum import StrEnum
from typing import Annotated

from pydantic import BaseModel, ConfigDict, Field

from sbert.evaluation.robustness_settings import RobustnessSettings

__all__ = ["ApprovalMode", "GateSettings"]


class ApprovalMode(StrEnum):
    """The way to decide about a candidate that passed."""

    AUTOMATIC = "automatic"
    """No one: it is promoted at once."""
    ASK = "ask"
    """A person, who is asked in the Prefect UI, at the terminal, or decides later."""


class GateSettings(BaseModel):
    """Conditions that a candidate must meet."""

    model_config = ConfigDict(frozen=True, extra="forbid", allow_inf_nan=False)

    margin: float = Field(
        default=0.0,
        ge=0,
        lt=1,
        description="Least value of the lower end of the gain's interval (units of the metric).",
    )
    tolerance: float = Field(
        default=0.005,
        ge=0,
        lt=1,
        description="Accepted drop of a regression set's metric (units of the metric).",
    )
    tolerances: dict[str, Annotated[float, Field(ge=0, lt=1)]] = Field(
        default_factory=dict, description="The same for single regression sets, by name: {'sts': 0.01}."
    )
    approval: ApprovalMode = Field(
        default=ApprovalMode.AUTOMATIC,
        description="Whether a candidate that passed is promoted at once, or a person is asked first: automatic or ask.",
    )
    approval_hours: float = Field(
        default=72.0,
        gt=0,
        le=8_760,
        description="A candidate that nobody approves within this time is refused, where a run waits for it (hours).",
    )
    max_mean_cosine: float = Field(
        default=0.9, gt=0, le=1, description="Mean cosine of random pairs above which a space has collapsed (-1 to 1)."
    )
    min_effective_rank_share: float = Field(
        default=0.25,
        ge=0,
        le=1,
        description="Effective rank, as a share of production's, below which a space has collapsed (0 to 1).",
    )
    robustness: RobustnessSettings = Field(
        default_factory=RobustnessSettings,
        description="Regression sets that are made by rule: negations, numbers, typos, another domain.",
    )

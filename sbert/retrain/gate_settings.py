"""The settings of the promotion gate."""

from typing import Annotated

from pydantic import BaseModel, ConfigDict, Field

__all__ = ["GateSettings"]


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
    max_mean_cosine: float = Field(
        default=0.9, gt=0, le=1, description="Mean cosine of random pairs above which a space has collapsed (-1 to 1)."
    )
    min_effective_rank_share: float = Field(
        default=0.25,
        ge=0,
        le=1,
        description="Effective rank, as a share of production's, below which a space has collapsed (0 to 1).",
    )

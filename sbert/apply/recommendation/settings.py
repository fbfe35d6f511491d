"""Settings of the recommendation: columns and weights of events, the model, and the lists."""

from typing import Annotated

from pydantic import BaseModel, ConfigDict, Field

__all__ = ["EventColumns", "RankingSettings"]

ColumnName = Annotated[str, Field(min_length=1)]
Weight = Annotated[float, Field(gt=0, le=1_000, allow_inf_nan=False)]


class EventColumns(BaseModel):
    """Names of the columns of events, and the weight of each type."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    user: ColumnName = Field(default="user", title="User", description="Column with the user's id.")
    item: ColumnName = Field(default="item", title="Item", description="Column with the item's id.")
    time: ColumnName = Field(default="time", title="Time", description="Column with the time of the event.")
    type: ColumnName = Field(
        default="type", title="Type", description="Column with the type; without it every event weighs 1."
    )
    weight: ColumnName | None = Field(
        default=None, title="Weight", description="Column with a number above 0, such as a rating, in place of types."
    )
    weights: dict[str, Weight] = Field(
        default={"view": 1.0, "click": 2.0, "comment": 3.0, "share": 4.0, "purchase": 5.0},
        title="Weights",
        description="Weight of each type; an event of another type is rejected.",
    )


class RankingSettings(BaseModel):
    """Settings of the model that ranks items for a user."""

    model_config = ConfigDict(frozen=True, extra="forbid", allow_inf_nan=False)

    half_life_events: float = Field(
        default=30.0, gt=0, le=1e6, title="Half-life", description="Later events after which one counts half (events)."
    )
    num_factors: int = Field(default=32, ge=1, le=512, title="Factors", description="Length of the ALS factors.")
    num_rounds: int = Field(default=10, ge=1, le=100, title="Rounds", description="Rounds of ALS (rounds).")
    regularization: float = Field(
        default=10.0, gt=0, le=1e4, title="Regularization", description="L2 penalty of the ALS factors."
    )
    alpha: float = Field(
        default=5.0, ge=0, le=1e3, title="Confidence", description="Growth of ALS's confidence with an event's weight."
    )
    recent_share: float = Field(
        default=0.2, gt=0, lt=0.9, title="Later share",
        description="Latest share of each user's events on which the ranking is fitted (0 to 1).",
    )  # fmt: skip
    num_negatives: int = Field(
        default=20, ge=1, le=500, title="Negatives", description="Random unseen items for each later event (items)."
    )
    seed: int = Field(default=0, ge=0, lt=2**32, title="Seed", description="Seed of the factors and negatives.")

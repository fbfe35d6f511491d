"""Settings of recommendations: columns and weights of events, the model, and the lists."""

from typing import Annotated

from pydantic import BaseModel, ConfigDict, Field

__all__ = ["EventColumns", "ListSettings", "RankingSettings", "RecommendationSettings", "SessionSettings"]

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
    shown: tuple[str, ...] = Field(
        default=("impression",),
        title="Types shown",
        description="Types that only say that an item was shown: a shown item that the user does not take is a negative.",
    )


class RankingSettings(BaseModel):
    """Settings that decide the model that ranks items for a user. Other values fit it anew."""

    model_config = ConfigDict(frozen=True, extra="forbid", allow_inf_nan=False)

    half_life_events: float = Field(
        default=5.0, gt=0, le=1e6, title="Half-life", description="Later events after which one counts half (events)."
    )
    half_life_next: float = Field(
        default=1.0,
        gt=0,
        le=1e6,
        title="Half-life of the latest",
        description="Later events after which one counts half for the items that are taken next (events).",
    )
    num_factors: int = Field(default=32, ge=1, le=512, title="Factors", description="Length of the ALS factors.")
    num_rounds: int = Field(default=10, ge=1, le=100, title="Rounds", description="Rounds of ALS (rounds).")
    regularization: float = Field(
        default=10.0, gt=0, le=1e4, title="Regularization", description="L2 penalty of the ALS factors."
    )
    alpha: float = Field(
        default=5.0, ge=0, le=1e3, title="Confidence", description="Growth of ALS's confidence with an event's weight."
    )
    num_neighbours: int = Field(
        default=200,
        ge=1,
        le=2_000,
        title="Neighbours",
        description="Related items kept for each item: taken by the same users, or taken next (items).",
    )
    shrinkage: float = Field(
        default=20.0,
        ge=0,
        le=1e4,
        title="Shrinkage",
        description="Users by which the similarity of items with few common users is reduced (users).",
    )
    recent_share: float = Field(
        default=0.2, gt=0, lt=0.9, title="Later share",
        description="Latest share of each user's events on which the ranking is fitted (0 to 1).",
    )  # fmt: skip
    num_negatives: int = Field(
        default=10_000,
        ge=10,
        le=1_000_000,
        title="Negatives",
        description="Random items that were not taken, for each user of the fit; all if there are fewer (items).",
    )
    seed: int = Field(default=0, ge=0, lt=2**32, title="Seed", description="Seed of the factors and negatives.")


class ListSettings(BaseModel):
    """Settings that decide the lists, given the model. Other values make all lists anew."""

    model_config = ConfigDict(frozen=True, extra="forbid", allow_inf_nan=False)

    k: int = Field(default=20, ge=1, le=1_000, title="Items", description="Items in the list of a user (items).")
    num_new: int = Field(
        default=2,
        ge=0,
        le=1_000,
        title="New items",
        description="Places at the end of a list that are kept for items without events (items).",
    )
    max_similarity: float = Field(
        default=0.9,
        gt=0,
        le=1,
        title="Diversity",
        description="An item whose cosine with an item before it is above this value waits; 1 turns this off.",
    )
    floor: float = Field(
        default=0.5,
        gt=0,
        le=1,
        title="Floor of diversity",
        description="Least odds of an item that passes a waiting one, as a share of the odds of the waiting one (0 to 1).",
    )


class SessionSettings(BaseModel):
    """Settings of the pairs of items of one session, which are labels for the encoder."""

    model_config = ConfigDict(frozen=True, extra="forbid", allow_inf_nan=False)

    gap_minutes: float = Field(
        default=30.0,
        gt=0,
        le=525_600,
        title="Pause",
        description="A longer pause between two events of a user ends the session (minutes).",
    )
    window: int = Field(
        default=3,
        ge=1,
        le=100,
        title="Window",
        description="Following items of the session that an item makes a pair with (items).",
    )
    min_users: int = Field(
        default=3,
        ge=2,
        le=1_000_000,
        title="Users of a pair",
        description="Users who took both items in one session, at least; a rarer pair is chance, or tells of one person.",
    )
    max_pairs: int = Field(
        default=5,
        ge=1,
        le=1_000,
        title="Pairs of an item",
        description="Best pairs of each item that are kept; an item can be in more pairs, as one of the best of others.",
    )
    shrinkage: float = Field(
        default=20.0,
        ge=0,
        le=1e4,
        title="Shrinkage",
        description="Users by which the score of pairs of items with few users is reduced (users).",
    )


class RecommendationSettings(BaseModel):
    """Settings of `sbert recommend`."""

    model_config = ConfigDict(frozen=True, extra="forbid", allow_inf_nan=False)

    events: EventColumns = Field(default=EventColumns(), title="Events", description="Columns and weights of events.")
    ranking: RankingSettings = Field(default=RankingSettings(), title="Ranking", description="Settings of the model.")
    lists: ListSettings = Field(default=ListSettings(), title="Lists", description="Settings of the lists.")
    sessions: SessionSettings = Field(
        default=SessionSettings(),
        title="Sessions",
        description="Settings of the pairs of sessions, if they are asked for.",
    )
    refit_days: float = Field(
        default=7.0,
        gt=0,
        le=3_650,
        title="Age of the model",
        description="Age at which the model is fitted anew, and with it every list is made again (days).",
    )
    refit_share: float = Field(
        default=0.2,
        gt=0,
        le=100,
        title="Growth",
        description="The model is fitted anew when there are this many more events, as a share of those that it knows.",
    )
    refit: bool = Field(default=False, title="Fit anew", description="Fit the model anew now.")

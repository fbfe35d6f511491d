"""Settings of topics."""

from typing import Literal

from pydantic import BaseModel, ConfigDict, Field, model_validator

__all__ = ["FitSettings", "TopicSettings"]


class FitSettings(BaseModel):
    """Settings that decide the topics. Other values fit them anew; topics that stay keep their ids."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    num_topics: int | None = Field(
        default=None,
        ge=1,
        le=2_000,
        description="Number of topics to look for; empty: the root of half the rows, at most 300.",
    )
    num_parents: int | None = Field(
        default=None, ge=1, le=200, description="Groups of topics, the upper level; empty: the root of the topics."
    )
    max_rows: int = Field(
        default=50_000,
        ge=10,
        le=500_000,
        description="Rows that topics are fitted on: those with the smallest text hashes.",
    )
    min_topic_rows: int = Field(default=10, ge=1, description="Fewest rows of the fit that make a topic (rows).")
    outlier_share: float = Field(
        default=0.02, ge=0, lt=0.5, description="Share of the rows of the fit that count as outliers (0 to 0.5)."
    )
    seed: int = Field(default=0, ge=0, le=2**31 - 1, description="Seed of the fit.")


class TopicSettings(BaseModel):
    """Settings of `sbert topics`."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    fit: FitSettings = Field(default_factory=FitSettings, description="Settings of the fit of topics.")
    text_column: str | None = Field(
        default=None, min_length=1, description="Kept column of the texts; empty for the column that was encoded."
    )
    time_column: str | None = Field(
        default=None, min_length=1, description="Kept column with the time of each row: counts over time are reported."
    )
    period: Literal["day", "week", "month"] = Field(default="week", description="Length of a period of these counts.")
    min_new_rows: int = Field(
        default=20, ge=3, description="Outliers that must resemble each other to be noticed as a new topic (rows)."
    )
    refit_share: float = Field(
        default=0.15, gt=0, le=1, description="Topics are fitted anew above this share of outliers (0 to 1)."
    )
    refit: bool = Field(default=False, description="Fit the topics anew now; topics that stay keep their ids.")

    @model_validator(mode="after")
    def _check(self) -> "TopicSettings":
        if self.fit.outlier_share >= self.refit_share:
            raise ValueError(
                f"fit.outlier_share is {self.fit.outlier_share:g} and refit_share {self.refit_share:g}: every run would fit "
                "the topics anew, so choose a larger refit_share"
            )
        return self

"""Durations of the stages of a refresh."""

from pydantic import BaseModel, ConfigDict, Field

__all__ = ["StageSeconds"]


class StageSeconds(BaseModel):
    """Time by stage; 0 where a stage did not take place."""

    model_config = ConfigDict(frozen=True)

    plan: float = Field(default=0.0, description="Listing, loading the encoder, comparing (seconds).")
    build: float = Field(default=0.0, description="Building splits (seconds).")
    publish: float = Field(default=0.0, description="Checking and committing (seconds).")

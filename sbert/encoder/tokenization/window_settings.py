"""Settings for cutting a text that is too long for an encoder into overlapping windows."""

from pydantic import BaseModel, ConfigDict, Field

__all__ = ["WindowSettings"]


class WindowSettings(BaseModel):
    """The overlap of the windows of a long text overlap."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    stride: int = Field(default=32, ge=0, le=4096, description="Tokens that neighbouring windows share (tokens).")

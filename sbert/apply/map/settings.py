"""Settings of a map."""

from pydantic import BaseModel, ConfigDict, Field

__all__ = ["LayoutSettings", "MapSettings"]


class LayoutSettings(BaseModel):
    """Settings that decide the places of rows."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    max_rows: int = Field(
        default=100_000,
        ge=1,
        le=250_000,
        description="Rows that are laid out; of a larger table those with the smallest text hashes, a random sample (rows).",
    )
    num_neighbours: int = Field(
        default=15, ge=2, le=200, description="Nearest rows that each row is drawn to; more show larger groups (rows)."
    )
    seed: int = Field(default=0, ge=0, le=2**31 - 1, description="The same seed gives the same map (number).")


class MapSettings(LayoutSettings):
    """Settings of a map's page."""

    text_column: str | None = Field(
        default=None,
        description="Kept column that is shown as the text; empty for the column that was encoded, else `text`.",
    )
    color_by: str | None = Field(
        default=None, description="Kept column by which the page colours rows when it opens; empty for the topics."
    )
    num_topics: int = Field(default=16, ge=1, le=60, description="Topics that the rows are put into, at most (topics).")
    max_chars: int = Field(
        default=400, ge=20, le=10_000, description="Characters of a text that the page holds, at most (characters)."
    )

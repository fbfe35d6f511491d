"""Settings of relations."""

from pydantic import BaseModel, ConfigDict, Field

from sbert.apply.kept_columns import TextColumn

__all__ = ["RelationSettings", "RelatorSettings"]


class RelatorSettings(BaseModel):
    """Settings that decide a relator, together with its labels and the encoder."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    num_layers: int = Field(
        default=4,
        ge=1,
        le=48,
        title="Layers",
        description="Layers at the end of the encoder over which the vectors of names are averaged (layers).",
    )
    head_weight: float = Field(
        default=0.5, ge=0, le=10, title="Head", description="Weight of the vector of the head (ratio)."
    )
    tail_weight: float = Field(
        default=1.0, ge=0, le=10, title="Tail", description="Weight of the vector of the tail (ratio)."
    )
    between_weight: float = Field(
        default=1.0, ge=0, le=10, title="Between", description="Weight of the vector of the words between (ratio)."
    )


class RelationSettings(BaseModel):
    """Settings for fitting a relator to labels, for the pairs that are compared, and for the output."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    entities_column: str | None = Field(
        default=None,
        min_length=1,
        title="Column of entities",
        description="Kept column that marks the names as JSON: a list of start, end, type.",
    )
    text_column: TextColumn = None
    max_words_between: int = Field(
        default=25,
        ge=0,
        le=1_000,
        title="Words between",
        description="Pairs of names with more words between them are not looked at (words).",
    )
    min_probability: float = Field(
        default=0.5,
        ge=0,
        lt=1,
        title="Least probability",
        description="Relations with a lower probability are not written (0 to 1).",
    )
    relator: RelatorSettings = Field(default=RelatorSettings(), title="Relator", description="How a relator is fitted.")

"""Settings of entities."""

from pydantic import BaseModel, ConfigDict, Field

from sbert.apply.kept_columns import TextColumn

__all__ = ["EntitySettings", "TaggerSettings"]


class TaggerSettings(BaseModel):
    """Settings that decide a tagger, together with its labels and the encoder."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    num_layers: int = Field(
        default=4,
        ge=1,
        le=48,
        title="Layers",
        description="Layers at the end of the encoder over which the vectors of words are averaged (layers).",
    )
    tuned_layers: int = Field(
        default=2,
        ge=0,
        le=48,
        title="Tuned layers",
        description="Layers at the end of the encoder that learn from base labels; 0 to keep all as they are (layers). "
        "They learn from 1,000 base texts or more; this limit is a choice that was not measured.",
    )
    seed: int = Field(default=0, ge=0, le=2**31 - 1, title="Seed", description="The same seed gives the same tagger.")


class EntitySettings(BaseModel):
    """Settings for fitting a tagger to labels, and for its output."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    base_labels_uri: str | None = Field(
        default=None,
        min_length=1,
        title="Base labels",
        description="Many texts with entities of any types, which teach where names begin and end; empty for none.",
    )
    text_column: TextColumn = None
    min_probability: float = Field(
        default=0.0,
        ge=0,
        lt=1,
        title="Least probability",
        description="Entities with a lower probability are not written (0 to 1).",
    )
    tagger: TaggerSettings = Field(default=TaggerSettings(), title="Tagger", description="How a tagger is fitted.")

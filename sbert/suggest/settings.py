"""Settings of the choice of texts for labelling."""

from pydantic import BaseModel, ConfigDict, Field, model_validator

from sbert.errors import SettingsError
from sbert.labels.settings import LabelSettings
from sbert.suggest.suggestion_kinds import SuggestionKind

__all__ = ["SuggestSettings"]


class SuggestSettings(BaseModel):
    """Weights of the criteria and sizes of the pool and the shortlist.

    Each criterion ranks the pool from 0 to 1. The weighted sum makes a shortlist, and a diverse choice is taken from it.
    """

    model_config = ConfigDict(frozen=True, extra="forbid", allow_inf_nan=False)

    kind: SuggestionKind = Field(default=SuggestionKind.CLASSES, description="Kind of labels to collect.")
    text_column: str = Field(default="text", min_length=1, description="Column of the table that keeps the text.")
    uncertainty: float = Field(
        default=1.0,
        ge=0,
        le=1e6,
        description="Weight of uncertainty: two classes are close, or a pair is near the threshold.",
    )
    disagreement: float = Field(
        default=1.0, ge=0, le=1e6, description="Weight of disagreement between production and candidate."
    )
    prediction: float = Field(
        default=1.0,
        ge=0,
        le=1e6,
        description="Weight of doubt: one minus the probability of the class that `sbert classify` gave.",
    )
    prediction_task: str = Field(
        default="", description="Task whose classes are looked at, for an output of several tasks; empty for one task."
    )
    density: float = Field(default=0.5, ge=0, le=1e6, description="Weight of having many similar texts nearby.")
    shortlist_factor: int = Field(
        default=5, ge=1, le=1_000, description="Size of the shortlist, as a multiple of what is asked for."
    )
    pool_rows: int = Field(
        default=20_000,
        ge=10,
        le=200_000,
        description="Different texts to choose from, a fixed sample of the table.",
    )
    num_neighbors: int = Field(
        default=10,
        ge=1,
        le=100,
        description="Nearest texts that density and disagreement are computed from.",
    )
    max_cosine: float = Field(
        default=0.999, gt=0, le=1, description="Pairs with a higher cosine are the same text and are not suggested."
    )

    labels: LabelSettings = Field(
        default_factory=LabelSettings, description="Settings for reading the existing labels; their kind is `kind`."
    )

    @model_validator(mode="after")
    def _check(self) -> "SuggestSettings":
        if self.uncertainty + self.disagreement + self.prediction + self.density == 0:
            raise SettingsError("all weights are 0: give uncertainty, disagreement, prediction or density a weight")
        return self

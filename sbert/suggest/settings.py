"""How texts are chosen for labelling."""

from pydantic import BaseModel, ConfigDict, Field, model_validator

from sbert.errors import SettingsError
from sbert.labels.settings import LabelSettings
from sbert.suggest.suggestion_kinds import SuggestionKind

__all__ = ["SuggestSettings"]


class SuggestSettings(BaseModel):
    """What makes a text or pair worth labelling.

    Each criterion ranks the pool from 0 to 1; the weighted sum picks a shortlist, of which the most diverse are taken.
    """

    model_config = ConfigDict(frozen=True, extra="forbid", allow_inf_nan=False)

    kind: SuggestionKind = Field(default=SuggestionKind.CLASSES, description="What is to be labelled.")
    text_column: str = Field(default="text", min_length=1, description="Column of the table that keeps the text.")
    uncertainty: float = Field(
        default=1.0,
        ge=0,
        le=1e6,
        description="Weight of not knowing: close classes, or a pair near the decision threshold.",
    )
    disagreement: float = Field(
        default=1.0, ge=0, le=1e6, description="Weight of production and candidate seeing it differently."
    )
    density: float = Field(default=0.5, ge=0, le=1e6, description="Weight of having many similar texts nearby.")
    shortlist_factor: int = Field(
        default=5, ge=1, le=1_000, description="Size of the shortlist, as a multiple of what is asked for."
    )
    pool_rows: int = Field(
        default=20_000,
        ge=10,
        le=200_000,
        description="Different texts that are looked at, a fixed sample of the table.",
    )
    num_neighbors: int = Field(default=10, ge=1, le=100, description="Neighbours that make up a text's surroundings.")
    max_cosine: float = Field(
        default=0.999, gt=0, le=1, description="Pairs more alike than this are the same text and not worth a label."
    )

    labels: LabelSettings = Field(
        default_factory=LabelSettings, description="How the labels there are already are read; their kind is `kind`."
    )

    @model_validator(mode="after")
    def _check(self) -> "SuggestSettings":
        if self.uncertainty + self.disagreement + self.density == 0:
            raise SettingsError("all weights are 0: give uncertainty, disagreement or density a weight")
        return self

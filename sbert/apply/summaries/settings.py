"""Settings of summaries: how much a summary may hold, and how labels are read and learned from."""

from pydantic import BaseModel, ConfigDict, Field, model_validator

from sbert.errors import SettingsError

__all__ = ["LabelColumns", "RankerSettings", "SummaryBudget", "SummarySettings"]


class SummaryBudget(BaseModel):
    """Limits of a summary."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    max_words: int | None = Field(
        default=100,
        ge=1,
        le=100_000,
        title="Words",
        description="Most words of a summary; empty for no limit (words).",
    )
    max_sentences: int | None = Field(
        default=None,
        ge=1,
        le=1_000,
        title="Sentences",
        description="Most sentences of a summary; empty for no limit (sentences).",
    )
    max_similarity: float = Field(
        default=0.85,
        ge=0,
        le=1,
        title="Largest similarity",
        description="A sentence whose cosine with a chosen one is above this repeats it, and is left out (0 to 1).",
    )

    @model_validator(mode="after")
    def _check(self) -> "SummaryBudget":
        if self.max_words is None and self.max_sentences is None:
            raise SettingsError("budget: max_words and max_sentences are both empty: set at least one of them")
        return self


class LabelColumns(BaseModel):
    """Columns of the labels."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    document: str = Field(
        default="document", min_length=1, title="Document", description="Column with the id of a document of the table."
    )
    summary: str = Field(
        default="summary", min_length=1, title="Summary", description="Column with a summary of it that a person wrote."
    )


class RankerSettings(BaseModel):
    """Settings for fitting a ranker to labels."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    wording_penalty: float = Field(
        default=10.0,
        gt=0,
        le=1e6,
        title="Penalty of wording",
        description="Strength of the penalty on the weights of runs of terms.",
    )
    num_hidden: int = Field(
        default=32, ge=1, le=1_024, title="Hidden values", description="Hidden values of a network."
    )
    num_networks: int = Field(default=4, ge=1, le=64, title="Networks", description="Networks whose mean score counts.")
    num_epochs: int = Field(
        default=8,
        ge=1,
        le=1_000,
        title="Epochs",
        description="Passes over the labelled documents; more when these are few.",
    )
    learning_rate: float = Field(
        default=1e-3, gt=0, le=1, title="Learning rate", description="Largest step of the optimizer."
    )
    weight_decay: float = Field(default=0.1, ge=0, le=10, title="Weight decay", description="Pull of weights to 0.")
    dropout: float = Field(
        default=0.3,
        ge=0,
        lt=1,
        title="Dropout",
        description="Share of hidden values that are left out in a step (0 to 1).",
    )
    temperature: float = Field(
        default=0.05,
        gt=0,
        le=10,
        title="Temperature",
        description="Difference of ROUGE-1 that makes a sentence e times as good as another.",
    )
    max_documents: int = Field(
        default=5_000,
        ge=10,
        le=1_000_000,
        title="Documents to learn from",
        description="Labelled documents that are learned from, at most (documents).",
    )
    num_folds: int = Field(
        default=5,
        ge=2,
        le=20,
        title="Folds",
        description="Parts of cross-validation; each is ranked by a ranker of the others.",
    )
    seed: int = Field(default=0, ge=0, le=2**31 - 1, title="Seed", description="The same seed gives the same ranker.")


class SummarySettings(BaseModel):
    """Settings of summaries."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    budget: SummaryBudget = Field(
        default_factory=SummaryBudget,
        title="Budget",
        description="Length of a summary, and the repetition that it may have.",
    )
    max_ranked_sentences: int = Field(
        default=1_000,
        ge=2,
        le=10_000,
        title="Sentences to rank",
        description="First sentences of a document that are ranked, at most; the cost grows with their square (sentences).",
    )
    columns: LabelColumns = Field(default_factory=LabelColumns, title="Columns", description="Columns of the labels.")
    ranker: RankerSettings = Field(
        default_factory=RankerSettings, title="Ranker", description="How a ranker is fitted to labels."
    )

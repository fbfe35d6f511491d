"""Settings of answers: the compared columns, the number of answers, and the promised error."""

from pydantic import BaseModel, ConfigDict, Field

__all__ = ["AnswerSettings", "FusionWeights"]


class FusionWeights(BaseModel):
    """The score of an answer is the sum of its similarities, each times its weight."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    cosine: float = Field(
        default=0.5,
        ge=0,
        le=100,
        title="Weight of the cosine",
        description="Weight of the cosine of the question with the row of the answers table.",
    )
    answer_cosine: float = Field(
        default=0.3,
        ge=0,
        le=100,
        title="Weight of the answer's cosine",
        description="Weight of the cosine of the question with the row of the second answers table, where there is one.",
    )
    words: float = Field(
        default=0.2,
        ge=0,
        le=100,
        title="Weight of words",
        description="Weight of the words that question and answer share, where both tables keep texts.",
    )


class AnswerSettings(BaseModel):
    """Settings for finding answers and deciding on them."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    k: int = Field(default=5, ge=2, le=100, title="Answers", description="Answers of each question (rows).")
    promised_error: float = Field(
        default=0.05,
        gt=0,
        lt=1,
        title="Promised error",
        description="Share of the given answers that may be wrong (0 to 1).",
    )
    unanswerable_share: float = Field(
        default=0.3,
        gt=0,
        lt=1,
        title="Questions without an answer",
        description="Share of the questions that are expected to have no answer in the table (0 to 1).",
    )
    weights: FusionWeights = Field(
        default_factory=FusionWeights,
        title="Weights",
        description="Weights that are used without labels, and with fewer labels than `min_labels`.",
    )
    min_labels: int = Field(
        default=50,
        ge=10,
        le=1_000_000,
        title="Labels for weights",
        description="Least number of labelled questions from which the weights are fitted too (rows).",
    )
    question_column: str | None = Field(
        default=None,
        title="Column of questions",
        description="Kept column with the question's text; empty for the encoded one, if it is kept.",
    )
    answer_columns: tuple[str, ...] = Field(
        default=(),
        title="Columns of answers",
        description="Kept columns of the answers table whose words are compared; empty for the encoded text, if it is kept.",
    )
    conversation_column: str | None = Field(
        default=None,
        title="Column of conversations",
        description="Kept column of the questions table that names the dialogue of a turn; turns stand in their order.",
    )
    context_turns: int = Field(
        default=1,
        ge=1,
        le=20,
        title="Turns of context",
        description="Number of last turns of a dialogue that together form the query (turns).",
    )
    context_decay: float = Field(
        default=0.5,
        gt=0,
        le=1,
        title="Decay of context",
        description="Weight of a turn compared with the turn after it (0 to 1).",
    )
    min_token_length: float = Field(
        default=0.5,
        ge=0,
        le=1,
        title="Shortest tokens",
        description="A question whose tokens are shorter than this share of the answers' is in a language that the encoder "
        "does not know (0 to 1).",
    )
    num_folds: int = Field(
        default=5, ge=2, le=20, title="Folds", description="Parts of the labels in cross-validation (parts)."
    )
    seed: int = Field(default=0, ge=0, lt=2**32, title="Seed", description="Seed of the folds and of resampling.")

"""The encoder of a table, as the table's schema describes it."""

from pydantic import BaseModel, ConfigDict, Field

from sbert.vectors.precision import MIN_RECALL, Precision

__all__ = ["EncoderInfo"]


class EncoderInfo(BaseModel):
    """The facts that a reader needs of the encoder that made a table's vectors."""

    model_config = ConfigDict(frozen=True, extra="ignore")

    model: str = Field(description="The model as named by the user: a hub id, a folder or a URI.")
    fingerprint: str = Field(description="Hash of everything that decides a text's vector: model, prompt, windows.")
    model_fingerprint: str = Field(description="Hash of the model alone.")
    dim: int = Field(description="Values in one vector.")
    pooling: str = Field(description="Pooling by which token vectors become one vector.")
    normalized: bool = Field(description="Whether vectors have unit length.")
    precision: Precision = Field(default=Precision.FLOAT32, description="Type of the stored values.")
    model_dim: int | None = Field(
        default=None, description="Values that the model gives, where vectors are cut to their first `dim`."
    )
    min_recall: float = Field(
        default=MIN_RECALL, description="Least recall@10 against float32 that smaller vectors must have (0 to 1)."
    )
    compute_dtype: str = Field(default="float32", description="Type the encoder computes in.")
    max_seq_length: int = Field(description="Tokens after which a text is truncated or windowed.")
    truncation: str = Field(default="truncate", description="Treatment of longer texts.")
    prompt: str = Field(default="", description="Text put before each document.")

    @property
    def full_dim(self) -> int:
        """Values that the model gives."""
        return self.model_dim or self.dim

    @property
    def is_reduced(self) -> bool:
        """Return whether vectors are stored smaller than the model gives them."""
        return self.precision is not Precision.FLOAT32 or self.full_dim != self.dim

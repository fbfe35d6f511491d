"""The facts about an encoder that a plan needs, without the encoder."""

from pydantic import BaseModel, ConfigDict

from sbert.encoder.engine.dtype import ComputeDtype
from sbert.encoder.prompts import prompt_of_side
from sbert.encoder.side import Side

__all__ = ["EncoderDescription", "EncoderSpec"]


class EncoderSpec(BaseModel):
    """The name of an encoder and how it computes. It is small enough to be sent to any worker."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    model: str
    max_seq_length: int | None = None
    compute_dtype: ComputeDtype | None = None
    normalize: bool | None = None


class EncoderDescription(BaseModel):
    """Everything that decides an encoder's vectors, and their shape."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    fingerprint: str
    """Hash of everything that decides a text's vector; 64 hex digits."""
    dim: int
    """Values in one vector."""
    pooling_name: str
    """Method that pools token vectors into one vector, for example ``mean`` or ``cls+max``."""
    normalizes: bool
    """Whether vectors have unit length."""
    max_seq_length: int
    """Tokens after which a text is truncated, special tokens included."""
    compute_dtype: ComputeDtype
    """Type the transformer computes in."""
    prompts: dict[str, str]
    """Texts put before others, by name."""

    def prompt_for(self, side: Side) -> str:
        """Return the prompt for one side, by the rule of sentence-transformers; an empty string if there is none."""
        return prompt_of_side(self.prompts, side)

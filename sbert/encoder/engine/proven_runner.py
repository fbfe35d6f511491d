"""The outcome of a runner's proof, as it is remembered between processes."""

from typing import Literal

from pydantic import BaseModel, ConfigDict

__all__ = ["ProvenRunner"]


class ProvenRunner(BaseModel):
    """A runner that was selected for an encoder before, on this machine, with the outcome of its proof."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    name: Literal["native", "packed"]
    probe_cosine: float
    """Lowest cosine to plain float32 over the probe texts."""
    reason: str
    """Reason that it was selected, for people."""

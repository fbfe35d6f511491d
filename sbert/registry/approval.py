"""The decision of a person about a version that passed the gate."""

import datetime as dt

from pydantic import BaseModel, ConfigDict, Field

__all__ = ["NOBODY", "Approval", "made_now"]

NOBODY = "nobody"
"""Stands for the name where no one answered in time."""


class Approval(BaseModel):
    """The decision of a person; it stands in the version's record."""

    model_config = ConfigDict(frozen=True)

    approved: bool
    name: str = Field(min_length=1, description="Who decided.")
    reason: str = Field(min_length=1)
    decided_at: str = Field(description="UTC time in ISO 8601.")

    def sentence(self) -> str:
        """Return the decision, the person and the reason in a sentence."""
        return f"{'approved' if self.approved else 'refused'} by {self.name}: {self.reason}"


def made_now(*, approved: bool, name: str, reason: str) -> Approval:
    """Return a decision that is made at this moment; a name or reason that was left out is filled in."""
    return Approval(
        approved=approved,
        name=name.strip() or "someone who gave no name",
        reason=reason.strip() or "no reason given",
        decided_at=dt.datetime.now(dt.UTC).isoformat(timespec="seconds"),
    )

"""The record of a version, ``version.json``: its base, its labels, its evaluation, and the decision on it."""

from typing import Any

from pydantic import BaseModel, ConfigDict, Field

from sbert.registry.approval import Approval

__all__ = ["LabelsRecord", "LeakageRecord", "VersionRecord"]

ASK = "ask"
"""Value of the setting `gate.approval` of a version that waits for a person."""


class LeakageRecord(BaseModel):
    """Rows of an evaluation set that also occur in the train rows. Of given splits these were removed from train."""

    model_config = ConfigDict(frozen=True)

    name: str = Field(description="Split of the labels, or name of the set.")
    num_rows: int = Field(description="Rows looked at.")
    num_leaking: int = Field(description="Those found among the train rows.")


class LabelsRecord(BaseModel):
    """The labels that a version was trained on. A later run finds new labels by comparing with them."""

    model_config = ConfigDict(frozen=True)

    uri: str
    kind: str
    fingerprint: str = Field(description="Hash of all rows and their splits.")
    counts: dict[str, int] = Field(description="Rows of train, dev and test, and rows left out.")
    objects: list[str] = Field(default_factory=list, description="Source objects with their versions.")
    leakage: list[LeakageRecord] = Field(
        default_factory=list,
        description="Overlap of given splits, the held-out set and the regression sets with the train rows.",
    )


class VersionRecord(BaseModel):
    """The record of a version: its base, labels, settings, evaluation and the decision on it."""

    model_config = ConfigDict(frozen=True)

    version: str
    encoder_fingerprint: str
    dim: int
    base: str = Field(description="Model that training began with, or that was imported.")
    run_id: str
    run_key: str = Field(
        default="", description="Hash of labels, settings and base: an equal run has an equal outcome."
    )
    created_at: str = Field(default="", description="UTC time in ISO 8601.")
    labels: LabelsRecord | None = None
    settings: dict[str, Any] = Field(default_factory=dict, description="Settings of the run.")
    training: dict[str, Any] = Field(default_factory=dict, description="Numbers of the training.")
    decision: dict[str, Any] | None = Field(default=None, description="Decision of the gate; empty for an import.")
    before: dict[str, Any] | None = Field(default=None, description="Evaluation of production at that time.")
    after: dict[str, Any] | None = Field(default=None, description="Evaluation of this version.")
    approval: Approval | None = Field(default=None, description="Decision of a person, where one is asked.")

    @property
    def was_accepted(self) -> bool:
        """Return whether the gate accepted this version, and no person refused it."""
        return self._passed_gate and (self.approval is None or self.approval.approved)

    @property
    def awaits_approval(self) -> bool:
        """Return whether the version passed the gate and waits for a person."""
        return self._passed_gate and self._asks and self.approval is None

    @property
    def _passed_gate(self) -> bool:
        return self.decision is None or bool(self.decision.get("promoted"))

    @property
    def _asks(self) -> bool:
        return (self.settings.get("gate") or {}).get("approval") == ASK

"""The report of a retraining. Scripts rely on its keys."""

from pydantic import BaseModel, ConfigDict, Field

from sbert.registry.approval import Approval
from sbert.registry.version_record import LabelsRecord
from sbert.retrain.gate import Decision
from sbert.training.result import Trial

__all__ = ["RetrainReport"]


class RetrainReport(BaseModel):
    """The outcome of one retraining."""

    model_config = ConfigDict(frozen=True)

    promoted: bool = Field(description="Whether the candidate is production now.")
    version: str = Field(description="The version that is production after the run.")
    primary_metric: str = Field(description="The metric that decided.")
    before: float = Field(description="Production's value on the held-out rows.")
    after: float = Field(description="The candidate's value on the same rows.")
    reason: str = Field(description="Reason for promoting or refusing the candidate.")
    candidate: str | None = Field(
        description="The candidate's version; empty when the candidate was production itself."
    )
    previous: str = Field(description="The version that was production before the run.")
    model_uri: str = Field(description="Model folder of the version that is production after the run.")
    decision: Decision
    labels: LabelsRecord
    num_new_objects: int = Field(description="Source objects of labels that the base had not learned from.")
    stop_reason: str = Field(default="", description="Reason for the end of training.")
    dev_before: float | None = Field(default=None, description="The dev metric of the model that training began with.")
    dev_best: float | None = Field(default=None, description="The dev metric of the best checkpoint.")
    num_steps: int = 0
    training_notes: tuple[str, ...] = Field(
        default=(), description="Findings about the train rows that weaken training, such as classes of one text."
    )
    trials: tuple[Trial, ...] = Field(
        default=(), description="Trials of a search of settings, in order; empty without a search."
    )
    decided_before: bool = Field(
        default=False, description="Nothing was trained, because an earlier run decided on these labels and settings."
    )
    awaits_approval: bool = Field(
        default=False, description="The candidate passed the gate and waits for a person; production is as it was."
    )
    approval: Approval | None = Field(default=None, description="Decision of a person, where one is asked.")
    report_uri: str | None = Field(default=None, description="The report for people, an HTML file.")
    run_id: str = ""
    run_url: str | None = None
    seconds: float = 0.0

    def summary(self) -> str:
        """Return the decision and its reason in one line."""
        gain = f"{self.primary_metric} {self.before:.4f} → {self.after:.4f}"
        if self.promoted:
            return f"Promoted {self.version} ({gain}): {self.reason}"
        if self.awaits_approval:
            return f"{self.candidate} waits for approval, {self.version} stays until then ({gain}): {self.reason}"
        return f"Refused {self.candidate or 'the candidate'}, {self.version} stays ({gain}): {self.reason}"

"""The result of a training."""

from dataclasses import asdict, dataclass, field
from enum import StrEnum
from typing import Any

__all__ = ["HistoryPoint", "StopReason", "TrainingProgress", "TrainingResult", "Trial"]


class StopReason(StrEnum):
    """Reasons for the end of a training."""

    COMPLETED = "completed"
    """All epochs or steps were done."""
    EARLY_STOPPING = "early_stopping"
    """The dev metric did not improve for `early_stopping_patience` evaluations."""
    NAN_LOSS = "nan_loss"
    """Loss, gradient or weights became NaN or infinite. The best checkpoint before (without dev rows the last) is kept, and
    the candidate should be refused."""


@dataclass(frozen=True)
class HistoryPoint:
    """Numbers logged at one step: ``loss``, ``learning_rate``, ``grad_norm``, or ``dev``."""

    step: int
    epoch: float
    values: dict[str, float]


@dataclass(frozen=True)
class TrainingProgress:
    """Progress of a training."""

    step: int
    num_steps: int
    loss: float | None = None
    """The training loss that was logged last."""
    dev: float | None = None
    """The dev metric that was measured last."""
    seconds_left: float | None = None
    """Time that the other steps will take at the speed of this run; None before its first step."""

    @property
    def share(self) -> float:
        """Return the share of the steps that is done, from 0 to 1."""
        return self.step / max(self.num_steps, 1)


@dataclass(frozen=True)
class Trial:
    """One trial of a search of settings."""

    number: int
    """Number of the trial, from 1, in the order in which the trials began."""
    settings: dict[str, bool | int | float | str]
    """The settings that were tried, by dotted name."""
    outcome: str
    """``completed``, ``stopped`` (pruned, or out of time) or ``failed``."""
    dev: float | None
    """The dev metric: of the best checkpoint when completed, else the last that was measured."""
    seconds: float
    reason: str = ""
    """Reason that it was stopped or failed."""
    is_best: bool = False

    def settings_text(self) -> str:
        """Return the settings as text, numbers with three digits."""
        values = {
            name: f"{value:.3g}" if isinstance(value, float) else str(value) for name, value in self.settings.items()
        }
        return ", ".join(f"{name} {value}" for name, value in values.items())


@dataclass(frozen=True)
class TrainingResult:
    """The best checkpoint, and how training went."""

    folder: str
    """A sentence-transformers folder: the best checkpoint (the base, when nothing was ever better)."""
    stop_reason: StopReason
    dev_before: float
    """The dev metric of the base encoder."""
    dev_best: float
    """The dev metric of what is in `folder`."""
    best_step: int
    """Step of the best checkpoint; 0 when no checkpoint was better than the base."""
    num_steps: int
    num_trainable: int
    num_parameters: int
    num_tokens: int
    """Tokens that went through the encoder in training, without padding."""
    seconds: float
    """Time spent in training steps, without evaluation and saving."""
    rows_per_second: float
    tokens_per_second: float
    history: tuple[HistoryPoint, ...] = field(default_factory=tuple)
    stop_detail: str = ""
    """The value that was not a number, with step and learning rate, for `StopReason.NAN_LOSS`."""
    checkpoints_uri: str | None = None
    """Folder of this run's checkpoints in object storage."""
    notes: tuple[str, ...] = ()
    """Findings about the train rows that weaken training, such as classes of one text."""
    trials: tuple[Trial, ...] = ()
    """The trials of a search, whose best is in `folder`; empty without a search."""

    @property
    def improved(self) -> bool:
        """Return whether any checkpoint was better on dev than the base encoder."""
        return self.best_step > 0

    def to_record(self) -> dict[str, Any]:
        """Return all values in types that JSON has."""
        return asdict(self)

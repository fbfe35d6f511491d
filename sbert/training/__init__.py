"""Fine-tuning of sentence encoders: objectives, batches, `transformers.Trainer`, adapters, continual learning."""

from sbert.training.recipes import RECIPES, with_changes
from sbert.training.result import HistoryPoint, StopReason, TrainingProgress, TrainingResult
from sbert.training.settings import (
    AdapterKind,
    AdapterSettings,
    ContinualSettings,
    NegativesSettings,
    Objective,
    TrackerKind,
    TrainingFields,
    TrainingSettings,
)
from sbert.training.train import train_encoder

__all__ = [
    "RECIPES",
    "AdapterKind",
    "AdapterSettings",
    "ContinualSettings",
    "HistoryPoint",
    "NegativesSettings",
    "Objective",
    "StopReason",
    "TrackerKind",
    "TrainingFields",
    "TrainingProgress",
    "TrainingResult",
    "TrainingSettings",
    "train_encoder",
    "with_changes",
]

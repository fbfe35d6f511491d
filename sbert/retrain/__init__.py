"""Retraining: learn from labels, prove it on held-out rows, promote only what is better."""

from sbert.retrain.report import RetrainReport
from sbert.retrain.settings import LabelledSet, RetrainJob, RetrainSettings

__all__ = ["LabelledSet", "RetrainJob", "RetrainReport", "RetrainSettings"]

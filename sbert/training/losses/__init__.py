"""Objectives. Each docstring has the formula and its source.

Every objective takes a list of vectors (one tensor of shape (B, D) for each column of texts) and the labels of the B rows,
and returns one number.
"""

from sbert.training.losses.classes import CrossEntropyLoss, SupervisedContrastiveLoss
from sbert.training.losses.distillation import DistillationLoss
from sbert.training.losses.matryoshka import MatryoshkaLoss
from sbert.training.losses.pairs import AngleLoss, CosentLoss, CosineLoss, SoftmaxLoss
from sbert.training.losses.ranking import KnownPairs, RankingLoss
from sbert.training.losses.rehearsal import RehearsalLoss
from sbert.training.losses.triplets import BatchHardTripletLoss, TripletLoss
from sbert.training.losses.tsdae import TsdaeLoss

__all__ = [
    "AngleLoss",
    "BatchHardTripletLoss",
    "CosentLoss",
    "CosineLoss",
    "CrossEntropyLoss",
    "DistillationLoss",
    "KnownPairs",
    "MatryoshkaLoss",
    "RankingLoss",
    "RehearsalLoss",
    "SoftmaxLoss",
    "SupervisedContrastiveLoss",
    "TripletLoss",
    "TsdaeLoss",
]

"""Build the loss module of the objective that the settings name."""

from torch import nn

from sbert.encoder.sentence_encoder import SentenceEncoder
from sbert.errors import TrainingError
from sbert.training import losses
from sbert.training.batches import BatchGrouping
from sbert.training.settings import Objective, TrainingSettings
from sbert.training.training_data import TrainingData

__all__ = ["build_loss", "grouping_of"]


def build_loss(
    objective: Objective, settings: TrainingSettings, encoder: SentenceEncoder, data: TrainingData
) -> nn.Module:
    """Return the loss module for these rows; a Matryoshka loss around it when the settings name dims.

    Raises:
        TrainingError: when encoder, objective and dims do not fit together.
    """
    loss = _plain_loss(objective, settings, encoder, data)
    if settings.matryoshka_dims:
        if objective is Objective.ANGLE and any(dim % 2 for dim in settings.matryoshka_dims):
            raise TrainingError(
                f"matryoshka_dims are {list(settings.matryoshka_dims)}, but objective angle takes vectors in two halves: "
                "choose even dims"
            )
        return losses.MatryoshkaLoss(loss, settings.matryoshka_dims, encoder.dim)
    return loss


def _plain_loss(  # noqa: C901, PLR0911  (one line an objective)
    objective: Objective, settings: TrainingSettings, encoder: SentenceEncoder, data: TrainingData
) -> nn.Module:
    match objective:
        case Objective.SOFTMAX:
            return losses.SoftmaxLoss(encoder.dim, len(data.classes))
        case Objective.COSINE:
            return losses.CosineLoss()
        case Objective.TRIPLET:
            return losses.TripletLoss(settings.margin)
        case Objective.COSENT:
            return losses.CosentLoss(settings.temperature or 0.05)
        case Objective.ANGLE:
            return losses.AngleLoss(settings.temperature or 0.05)
        case Objective.RANKING:
            return losses.RankingLoss(
                settings.temperature or 0.05, symmetric=settings.symmetric, known_pairs=data.known_pairs
            )
        case Objective.SIMCSE:
            return losses.RankingLoss(settings.temperature or 0.05, symmetric=False)
        case Objective.BATCH_HARD_TRIPLET:
            return losses.BatchHardTripletLoss(settings.margin)
        case Objective.SUPERVISED_CONTRASTIVE:
            return losses.SupervisedContrastiveLoss(settings.temperature or 0.1)
        case Objective.CROSS_ENTROPY:
            return losses.CrossEntropyLoss(encoder.dim, len(data.classes))
        case Objective.TSDAE:
            return losses.TsdaeLoss(encoder)
        case Objective.DISTILLATION:
            return losses.DistillationLoss()


def grouping_of(objective: Objective) -> BatchGrouping:
    """Return how an objective needs the rows of a batch to be chosen."""
    if objective in {Objective.RANKING, Objective.SIMCSE}:
        return BatchGrouping.DISTINCT_TEXTS
    if objective in {Objective.BATCH_HARD_TRIPLET, Objective.SUPERVISED_CONTRASTIVE}:
        return BatchGrouping.CLASSES
    return BatchGrouping.RANDOM

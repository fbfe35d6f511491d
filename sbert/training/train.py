"""Fine-tune an encoder on labels."""

import os
from collections.abc import Callable

from sbert.encoder import SentenceEncoder
from sbert.labels import LabelSet
from sbert.training.result import TrainingProgress, TrainingResult
from sbert.training.settings import TrainingSettings

__all__ = ["train_encoder"]


def train_encoder(
    base: str,
    labels: LabelSet,
    settings: TrainingSettings,
    output_folder: str | os.PathLike[str],
    *,
    evaluate_dev: Callable[[SentenceEncoder], float] | None = None,
    checkpoints_uri: str | None = None,
    known_objects: frozenset[str] = frozenset(),
    on_progress: Callable[[TrainingProgress], None] | None = None,
) -> TrainingResult:
    """Fine-tune `base` on ``labels.train`` and write the best checkpoint as a sentence-transformers folder.

    Args:
        base: the encoder to begin with: folder, URI, hub id or the packaged default.
        labels: what to learn from; checkpoints are compared on ``labels.dev``.
        settings: everything else.
        output_folder: local folder for the best checkpoint, ``runs/`` (TensorBoard) and local checkpoints.
        evaluate_dev: gives the dev metric of an encoder, higher is better; by default one that fits the kind of label.
        checkpoints_uri: folder in object storage that a killed run is resumed from; None to keep them local.
        known_objects: keys of label objects that earlier runs learned from (`LabelSet.object_keys`); their rows are what
            ``continual.replay_share`` draws from. Empty: all rows are new.
        on_progress: told after every logged step.

    Raises:
        TooFewLabelsError: when the rows cannot fill a batch, or have fewer than two classes.
        TrainingError: when objective, adapter and labels do not fit together.
        DivergedError: when the loss is no longer a number before any checkpoint was better than the base.
    """
    raise NotImplementedError  # replaced in the next commit of this branch

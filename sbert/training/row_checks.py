"""Find train rows that weaken an objective: positives that are candidates as negatives, and classes of one text."""

import logging

import numpy as np
import torch

from sbert.errors import TooFewLabelsError
from sbert.training.batches import BatchPlan
from sbert.training.settings import Objective
from sbert.training.training_data import TrainingData

__all__ = ["check_rows"]

log = logging.getLogger(__name__)

NUM_BATCHES = 50
"""Batches of the first epoch whose negatives are counted."""


def check_rows(objective: Objective, data: TrainingData, plan: BatchPlan) -> tuple[str, ...]:
    """Return findings about rows that weaken training, and log them as warnings.

    Raises:
        TooFewLabelsError: when the objective can learn nothing at all from these rows.
    """
    notes: tuple[str, ...] = ()
    if data.known_pairs is not None:
        notes = _few_negatives(data, plan)
    elif objective in {Objective.SUPERVISED_CONTRASTIVE, Objective.BATCH_HARD_TRIPLET}:
        notes = _classes_of_one_text(objective, data)
    for note in notes:
        log.warning("%s", note)
    return notes


def _few_negatives(data: TrainingData, plan: BatchPlan) -> tuple[str, ...]:
    assert data.known_pairs is not None
    left_out, candidates = [], 0
    for batch in plan.batches(0)[:NUM_BATCHES]:
        marked_BN = data.known_pairs.not_negative(torch.from_numpy(data.content_ids_NC[batch]))
        left_out.append(marked_BN.sum(dim=1).numpy())
        candidates = marked_BN.shape[1] - 1
    per_row = np.concatenate(left_out)
    num_rows, num_affected = len(per_row), int((per_row > 0).sum())
    num_positives = len(np.unique(data.content_ids_NC[:, 1]))
    if (per_row == candidates).all():
        raise TooFewLabelsError(
            f"the {data.num_rows:,} train rows have {num_positives} different positives, so no row has a negative in its "
            "batch: label rows with other positives, or choose an objective that needs no negatives"
        )
    if not num_affected:
        return ()
    return (
        f"{num_affected:,} of {num_rows:,} rows share a batch with a positive of their own or with their own anchor "
        f"({num_positives:,} different positives in {data.num_rows:,} train rows): it is no negative for them, "
        f"{candidates - per_row.mean():.1f} of {candidates} negatives a row are left on average",
    )


def _classes_of_one_text(objective: Objective, data: TrainingData) -> tuple[str, ...]:
    numbers = data.class_numbers
    assert numbers is not None
    sizes = np.bincount(numbers, minlength=len(data.classes))
    alone = np.flatnonzero(sizes == 1)
    if not len(alone):
        return ()
    named = ", ".join(repr(data.classes[number]) for number in alone[:3])
    finding = f"{len(alone):,} of {len(sizes):,} classes have one train text, such as {named}"
    if len(alone) == len(sizes) and objective is Objective.SUPERVISED_CONTRASTIVE:
        raise TooFewLabelsError(
            f"{finding}: no text has another text of its class; label at least 2 texts a class, or set training.class_names"
        )
    return (f"{finding}: these texts have no positive and only serve as negatives; label more texts of these classes",)

"""Rehearsal: made rows by which training keeps the encoder's sense of negations and numbers.

Training on labels can unlearn skills that the labels say nothing about: after STS pairs, an encoder tells a sentence from
its negation less often. So each batch also holds made rows: a text, the text in other words, and the text negated or with
another number. What is kept is the difference of the two cosines that the encoder had before training
(`sbert.training.losses.rehearsal`). The texts are train texts, filled up with sentences of Python's documentation. The
gate measures on dev and test texts, on other documentation, and on texts in other words with other openings.
"""

from collections.abc import Sequence
from typing import Any

import numpy as np
import polars as pl

from sbert.evaluation.changed_texts import REHEARSAL_OPENINGS, change_number, contrasts, negate
from sbert.evaluation.made_texts import filled_up, first_sentences, rehearsal_sentences
from sbert.labels.label_kinds import COLUMNS, TEXT_COLUMNS, LabelKind
from sbert.labels.label_set import LabelSet
from sbert.training.batches import BatchPlan
from sbert.training.collating import Collator
from sbert.training.training_data import TrainingData

__all__ = ["Rehearsal", "rehearsal_rows"]

NUM_TEXTS = 150
"""Texts of each kind of change."""
TEXTS_PER_ROW = 16
"""Texts of a batch for each made row, which has three texts: three of nineteen texts are rehearsed."""


def rehearsal_rows(labels: LabelSet, rows: pl.DataFrame, seed: int) -> pl.DataFrame:
    """Return made rows as triplets. They hold no text of the dev and test rows.

    Args:
        labels: the labels; their dev and test texts are left out.
        rows: the train rows.
        seed: of the choice of texts and of their changes.
    """
    measured = set(first_sentences(_texts(pl.concat([labels.dev, labels.test], how="diagonal"), labels.kind), seed))
    own = [text for text in first_sentences(_texts(rows, labels.kind), seed) if text not in measured]
    made = [
        row
        for change in (negate, change_number)
        for row in contrasts(
            filled_up(own, rehearsal_sentences(), seed), change, NUM_TEXTS, seed=seed, openings=REHEARSAL_OPENINGS
        )
    ]
    return pl.DataFrame(made, schema=dict.fromkeys(COLUMNS[LabelKind.TRIPLETS], pl.String), orient="row")


class Rehearsal:
    """Choose made rows for each batch. The choice depends only on the rows of the batch, the epoch and the seed."""

    def __init__(self, data: TrainingData, plan: BatchPlan, collator: Collator, seed: int) -> None:
        """Name the made rows, and the collator that makes tensors of them."""
        assert data.teacher_TD is not None
        self._data, self._plan, self._collator, self._seed = data, plan, collator, seed

    def __call__(self, rows: Sequence[int], num_texts: int) -> dict[str, Any]:
        """Return arguments of `TrainingModule.forward` for the made rows of a batch of so many texts."""
        chance = np.random.default_rng([self._seed, self._plan.epoch, *rows])
        wanted = min(self._data.num_rows, max(1, num_texts // TEXTS_PER_ROW))
        return self._collator(chance.choice(self._data.num_rows, wanted, replace=False).tolist())


def _texts(rows: pl.DataFrame, kind: LabelKind) -> list[str]:
    return [text for name in TEXT_COLUMNS[kind] for text in rows[name]]

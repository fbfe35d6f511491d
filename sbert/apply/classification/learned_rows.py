"""The labelled rows that a table's encoder has learned from: they teach a head, and choose, calibrate and judge nothing.

A training leaves a record of its texts beside the model (`sbert.training.learned_texts`). The vectors of these texts are
better than those of new texts, and so is everything that is computed from them. So the record alone decides which rows
choose, calibrate and judge a head, whatever the training was, and whether or not it left a classifier.
"""

from dataclasses import dataclass
from pathlib import Path

import numpy as np
import numpy.typing as npt
import polars as pl

from sbert.apply.classification.encoder_use import LearnedUse
from sbert.apply.classification.settings import HeadSettings
from sbert.counted import counted
from sbert.errors import ModelError, TableError
from sbert.index.queries import load_table_encoder
from sbert.table.delta import Table
from sbert.training.learned_texts import LearnedTexts

__all__ = ["DecidingRows", "FoundRecord", "find_record", "has_model_folder", "too_few_unseen", "unlike_table"]

Bools = npt.NDArray[np.bool_]


@dataclass(frozen=True)
class DecidingRows:
    """Which of N labelled rows choose and calibrate, as an array and in numbers."""

    is_unseen_N: Bools
    use: LearnedUse


@dataclass(frozen=True)
class FoundRecord:
    """The texts that the encoder of a table learned from, and the rows that decide."""

    learned: LearnedTexts
    use: LearnedUse

    @property
    def fingerprint(self) -> str:
        """Hash of the record, as part of a head's name; empty where all labelled rows decide."""
        return f"learned:{self.learned.checksum}" if self.use.num_seen else ""

    def is_unseen(self, texts: pl.Series) -> pl.Series:
        """Return which texts may choose, calibrate and judge."""
        seen = self.learned.has_labelled(texts)
        return ~seen if self.use.with_dev else ~(seen | self.learned.has_chosen(texts))

    def of_rows(self, texts: pl.Series) -> DecidingRows | None:
        """Return the rows that decide among labelled texts; None where all of them do."""
        return DecidingRows(self.is_unseen(texts).to_numpy(), self.use) if self.use.num_seen else None


def has_model_folder(table: Table) -> bool:
    """Return whether the table's encoder lies in a folder or in storage, where files can lie beside it."""
    model = table.encoder.model
    return "://" in model or Path(model).is_dir()  # else a model of a hub, or one that is no longer there


def find_record(table: Table, texts: pl.Series, settings: HeadSettings) -> FoundRecord | LearnedUse | None:
    """Find the record of the texts that a table's encoder learned from.

    Rows that chose the encoder's checkpoint count as learned from, unless too few others are left.

    Args:
        table: the embeddings table.
        texts: labelled texts to learn from.
        settings: how many of them must be unseen (`min_unseen_rows`).

    Returns:
        The record; why all rows decide although the encoder has learned from some; or None where there is no record.

    Raises:
        ModelError: the record is damaged.
        StorageError: storage refuses.
    """
    learned = LearnedTexts.read(table.encoder.model) if has_model_folder(table) else None
    if learned is None:
        return None
    is_seen = learned.has_labelled(texts)
    num_rows, num_unseen = len(texts), int((~is_seen).sum())
    num_strict = int((~(is_seen | learned.has_chosen(texts))).sum())
    for with_dev, num_left in ((False, num_strict), (True, num_unseen)):
        if num_left >= min(settings.min_unseen_rows, num_rows):
            use = LearnedUse(num_seen=num_rows - num_left, num_unseen=num_left, with_dev=with_dev)
            return FoundRecord(learned, use)
    return LearnedUse(
        num_seen=num_rows - num_unseen, num_unseen=num_unseen, reason=too_few_unseen(num_unseen, num_rows, settings)
    )


def too_few_unseen(num_unseen: int, num_rows: int, settings: HeadSettings) -> str:
    """Return the reason why the unseen rows cannot decide alone."""
    return (
        f"the encoder has learned from all but {num_unseen:,} of {counted(num_rows, 'labelled row')}, and "
        f"{settings.min_unseen_rows:,} others are needed (head.min_unseen_rows); a head is fitted and calibrated on all "
        "of them, and may be wrong more often than it says: label texts that the encoder has not seen"
    )


def unlike_table(table: Table) -> str:
    """Return why the model's folder cannot be taken for the encoder of the table's vectors; empty if it can."""
    try:
        load_table_encoder(table)
    except (ModelError, TableError) as error:
        return str(error)
    return ""

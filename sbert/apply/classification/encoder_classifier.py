"""The classifier that was trained together with the encoder of a table, as one candidate for a head.

Encoder and classifier were tuned end to end on labelled texts (`sbert retrain` with the objective cross_entropy). The
vectors of these texts are better than those of new texts, and so is everything that is computed from them. So the classifier
competes only where enough labelled rows are left that the encoder has not learned from. These rows alone choose, calibrate
and judge.
"""

from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np
import numpy.typing as npt
import polars as pl

from sbert.apply.classification.classifier_use import ClassifierUse
from sbert.apply.classification.settings import HeadSettings
from sbert.counted import counted
from sbert.errors import ModelError, TableError
from sbert.index.queries import load_table_encoder
from sbert.table.delta import Table
from sbert.training.classifier_files import ClassifierFiles
from sbert.training.learned_texts import LearnedTexts

__all__ = ["EncoderClassifier", "FoundClassifier", "find_classifier"]

Float32 = npt.NDArray[np.float32]
Bools = npt.NDArray[np.bool_]
MAX_NAMED = 3
"""Classes that a message names."""


@dataclass(frozen=True)
class EncoderClassifier:
    """Weights for D values and C classes in the order of the head's, and which of N labelled rows decide."""

    weights_DC: Float32
    bias_C: Float32
    is_unseen_N: Bools
    """The rows that the encoder has not learned from."""

    def take(self, rows: npt.NDArray[np.int64]) -> "EncoderClassifier":
        """Return the same weights with some of the rows."""
        return replace(self, is_unseen_N=self.is_unseen_N[rows])

    def scaled(self, factor: float) -> "EncoderClassifier":
        """Return the classifier whose scores are multiplied by a factor."""
        scale = np.float32(factor)
        return replace(self, weights_DC=scale * self.weights_DC, bias_C=scale * self.bias_C)


@dataclass(frozen=True)
class FoundClassifier:
    """The classifier of a table's encoder for the classes of a task, with the texts that the encoder learned from."""

    files: ClassifierFiles
    learned: LearnedTexts
    use: ClassifierUse

    @property
    def fingerprint(self) -> str:
        """Hash of the classifier, and of the texts that the encoder learned from."""
        return f"classifier:{self.files.fingerprint}:{self.learned.checksum}"

    def is_unseen(self, texts: pl.Series) -> pl.Series:
        """Return which texts may choose, calibrate and judge."""
        seen = self.learned.has_labelled(texts)
        return ~seen if self.use.with_dev else ~(seen | self.learned.has_chosen(texts))

    def of_rows(self, texts: pl.Series) -> EncoderClassifier:
        """Return the weights, with the rows that decide among labelled texts."""
        order = np.argsort(np.array(self.files.classes, dtype=object), kind="stable")  # a head's classes are sorted
        return EncoderClassifier(
            np.ascontiguousarray(self.files.weight_CD[order].T, np.float32),
            self.files.bias_C[order].astype(np.float32),
            self.is_unseen(texts).to_numpy(),
        )

    def unlike_table(self, table: Table) -> str:
        """Return why the encoder in the model's folder cannot be taken for that of the table's vectors; empty if it can."""
        try:
            load_table_encoder(table)
        except (ModelError, TableError) as error:
            return str(error)
        return ""


def find_classifier(
    table: Table, texts: pl.Series, labels: pl.Series, settings: HeadSettings
) -> FoundClassifier | ClassifierUse | None:
    """Find the classifier that lies beside a table's encoder.

    Args:
        table: the embeddings table.
        texts: labelled texts to learn from.
        labels: their classes, one or a list for each.
        settings: whether it is considered, and how many rows must be left to judge it.

    Returns:
        The classifier; why it is not considered; or None where the encoder has none, or it is turned off.

    Raises:
        ModelError: its files, or the record of learned texts, are damaged.
        StorageError: storage refuses.
    """
    model = table.encoder.model
    if not settings.classifier or not ("://" in model or Path(model).is_dir()):
        return None  # a model of a hub, or one that is no longer there
    files = ClassifierFiles.read(model)
    if files is None:
        return None
    reason = _unfit(files, table, labels)
    if reason:
        return ClassifierUse(reason=reason)
    learned = LearnedTexts.read(model)
    if learned is None:
        return ClassifierUse(
            reason="nobody recorded which texts the encoder learned from, since an earlier release trained it: train it "
            "again with sbert retrain --force"
        )
    is_seen = learned.has_labelled(texts)
    num_strict = int((~(is_seen | learned.has_chosen(texts))).sum())
    num_unseen = int((~is_seen).sum())
    if num_unseen < settings.min_unseen_rows:
        return ClassifierUse(
            num_unseen=num_unseen,
            reason=f"the encoder has learned from all but {num_unseen:,} of {counted(len(texts), 'labelled row')}, and "
            f"{settings.min_unseen_rows:,} others are needed (head.min_unseen_rows); a head is fitted and calibrated on all "
            "of them, and may be wrong more often than it says: label texts that the encoder has not seen",
        )
    with_dev = num_strict < settings.min_unseen_rows
    return FoundClassifier(
        files, learned, ClassifierUse(num_unseen=num_unseen if with_dev else num_strict, with_dev=with_dev)
    )


def _unfit(files: ClassifierFiles, table: Table, labels: pl.Series) -> str:
    """Return why a classifier cannot classify the rows of a table by the classes of labels; empty if it can."""
    if labels.dtype.is_nested():
        return "it gives one class to a text, and these labels give lists of classes"
    ours, theirs = set(labels), set(files.classes)
    if ours != theirs:
        only = [
            f"{counted(len(names), 'class', 'classes')} only {where} ({', '.join(map(repr, sorted(names)[:MAX_NAMED]))})"
            for names, where in ((ours - theirs, "in the labels"), (theirs - ours, "in the classifier"))
            if names
        ]
        return f"it has other classes than the labels: {' and '.join(only)}"
    dim = files.weight_CD.shape[1]
    if dim != table.encoder.dim:
        return f"it reads vectors of {dim} values, and the table stores {table.encoder.dim}"
    return ""

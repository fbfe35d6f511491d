"""The classifier that was trained together with the encoder of a table, as one candidate for a head.

Encoder and classifier were tuned end to end on labelled texts (`sbert retrain` with the objective cross_entropy). The
vectors of these texts are better than those of new texts, and so is everything that is computed from them. So the classifier
competes only where enough labelled rows are left that the encoder has not learned from
(`sbert.apply.classification.learned_rows`). These rows alone choose, calibrate and judge.
"""

from dataclasses import dataclass

import numpy as np
import numpy.typing as npt
import polars as pl

from sbert.apply.classification.encoder_use import ClassifierUse, LearnedUse
from sbert.apply.classification.learned_rows import FoundRecord, has_model_folder, too_few_unseen
from sbert.apply.classification.settings import HeadSettings
from sbert.counted import counted
from sbert.table.delta import Table
from sbert.training.classifier_files import ClassifierFiles

__all__ = ["EncoderClassifier", "FoundClassifier", "find_classifier"]

Float32 = npt.NDArray[np.float32]
MAX_NAMED = 3
"""Classes that a message names."""


@dataclass(frozen=True)
class EncoderClassifier:
    """Weights for D values and C classes in the order of the head's."""

    weights_DC: Float32
    bias_C: Float32

    def scaled(self, factor: float) -> "EncoderClassifier":
        """Return the classifier whose scores are multiplied by a factor."""
        scale = np.float32(factor)
        return EncoderClassifier(scale * self.weights_DC, scale * self.bias_C)


@dataclass(frozen=True)
class FoundClassifier:
    """The classifier of a table's encoder for the classes of a task, with the record of what the encoder learned from."""

    files: ClassifierFiles
    record: FoundRecord

    @property
    def fingerprint(self) -> str:
        """Hash of the classifier, and of the texts that the encoder learned from."""
        return f"classifier:{self.files.fingerprint}:{self.record.learned.checksum}"

    @property
    def use(self) -> ClassifierUse:
        """The rows that decide, in numbers; what they decided is not known yet."""
        return ClassifierUse(num_unseen=self.record.use.num_unseen, with_dev=self.record.use.with_dev)

    @property
    def weights(self) -> EncoderClassifier:
        """The weights in the order of a head's classes, which are sorted."""
        order = np.argsort(np.array(self.files.classes, dtype=object), kind="stable")
        return EncoderClassifier(
            np.ascontiguousarray(self.files.weight_CD[order].T, np.float32), self.files.bias_C[order].astype(np.float32)
        )


def find_classifier(
    table: Table, labels: pl.Series, settings: HeadSettings, record: FoundRecord | LearnedUse | None
) -> FoundClassifier | ClassifierUse | None:
    """Find the classifier that lies beside a table's encoder.

    Args:
        table: the embeddings table.
        labels: classes of the labelled texts to learn from, one or a list for each.
        settings: whether it is considered, and how many rows must be left to judge it.
        record: what is known of the texts that the encoder learned from, as `find_record` returns it for these rows.

    Returns:
        The classifier; why it is not considered; or None where the encoder has none, or it is turned off.

    Raises:
        ModelError: its files are damaged.
        StorageError: storage refuses.
    """
    if not settings.classifier or not has_model_folder(table):
        return None
    files = ClassifierFiles.read(table.encoder.model)
    if files is None:
        return None
    reason = _unfit(files, table, labels)
    if reason:
        return ClassifierUse(reason=reason)
    if record is None:
        return ClassifierUse(
            reason="nobody recorded which texts the encoder learned from, since an earlier release trained it: train it "
            "again with sbert retrain --force"
        )
    num_unseen = record.num_unseen if isinstance(record, LearnedUse) else record.use.num_unseen
    if num_unseen < settings.min_unseen_rows:
        return ClassifierUse(num_unseen=num_unseen, reason=too_few_unseen(num_unseen, len(labels), settings))
    assert isinstance(record, FoundRecord)
    return FoundClassifier(files, record)


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

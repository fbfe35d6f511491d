"""Frozen rows: the rows that both encoders are measured on.

Rows are chosen by content, so that the order of reading does not matter, and are named by one fingerprint. Two results with
the same fingerprint are over the same rows.
"""

import hashlib
from collections.abc import Sequence
from dataclasses import dataclass, replace

import numpy as np
import polars as pl

from sbert.errors import EvaluationError, SettingsError
from sbert.evaluation.settings import EvaluationSettings
from sbert.labels.label_kinds import COLUMNS, TEXT_COLUMNS, LabelKind
from sbert.labels.label_set import LabelSet

__all__ = ["HELD_OUT", "EvaluationSet", "fingerprint_rows", "frozen_set"]

HELD_OUT = "held-out"
"""Name of the set that decides: the test rows of the labels that the candidate was trained on, or of ``held_out``."""


@dataclass(frozen=True)
class EvaluationSet:
    """Rows of one kind of labels that encoders are measured on, and rows that probes are fitted on."""

    name: str
    kind: LabelKind
    rows: pl.DataFrame
    """The frozen rows."""
    train: pl.DataFrame
    """Rows that the logistic probe, the neighbours and thresholds are fitted on, the same for both encoders."""
    fingerprint: str
    """Hash of both frames (64 hex digits)."""
    made_for: str | None = None
    """The only metric that is measured, where the rows were made by rule for it (`sbert.evaluation.robustness_sets`)."""

    def texts(self) -> list[str]:
        """Return the different texts of the frozen rows, sorted."""
        return sorted({text for name in TEXT_COLUMNS[self.kind] for text in self.rows[name].to_list()})

    def changed(self, column: str, texts: Sequence[str]) -> "EvaluationSet":
        """Return the same rows with other texts in one column."""
        return replace(self, rows=self.rows.with_columns(pl.Series(column, texts, dtype=pl.String)))


def frozen_set(
    labels: LabelSet, settings: EvaluationSettings, *, name: str = HELD_OUT, split: str = "test"
) -> EvaluationSet:
    """Freeze the rows of a label set for measuring.

    Args:
        labels: the labels.
        settings: sizes.
        name: what reports call the set.
        split: ``test`` or ``dev``.

    Raises:
        EvaluationError: when there are fewer rows than `min_test_rows`, or a single class.
        SettingsError: when a slice column is not there.
    """
    frame = labels.test if split == "test" else labels.dev
    columns = COLUMNS[labels.kind]
    missing = [column for column in settings.slice_columns if column not in frame.columns]
    if missing:
        raise SettingsError(
            f"{name}: the labels have no column {missing} to slice by; their columns are {', '.join(frame.columns)}"
        )
    rows = _sample(
        frame.select(*columns, *(c for c in settings.slice_columns if c not in columns)), settings.max_test_rows
    )
    train = _sample(labels.train.select(*columns), settings.max_probe_rows)
    if rows.is_empty():
        raise EvaluationError(
            f"{name}: there are no {split} rows, but comparing two encoders needs at least {settings.min_test_rows}: add "
            f"{split} rows to the source, or split all rows by hash (use_given_splits=false, no split_column, "
            f"{split}_share above 0)"
        )
    if rows.height < settings.min_test_rows:
        more = (
            f"add {split} labels"
            if split in labels.splits_given
            else f"add labels, raise {split}_share of their settings"
        )
        raise EvaluationError(
            f"{name}: there are {rows.height} {split} rows, but comparing two encoders needs at least "
            f"{settings.min_test_rows}: {more}, or lower evaluation.min_test_rows"
        )
    if labels.kind is LabelKind.CLASSES and train["label"].n_unique() < 2:
        raise EvaluationError(
            f"{name}: the {train.height} train rows that a classifier is fitted on have {train['label'].n_unique()} "
            "classes, but it needs at least 2: add train rows of more classes to the set"
        )
    if labels.kind is LabelKind.NLI and rows["label"].n_unique() < 2:
        raise EvaluationError(
            f"{name}: all {rows.height} {split} rows have the label {rows['label'][0]}, but the metric needs at least 2 "
            f"labels: add {split} rows with other labels"
        )
    return EvaluationSet(name, labels.kind, rows, train, fingerprint_rows(labels.kind, rows, train))


def _sample(frame: pl.DataFrame, most: int) -> pl.DataFrame:
    """Sort by content and keep `most` rows, chosen by content."""
    keys = np.array([hashlib.sha256(repr(row).encode()).hexdigest() for row in frame.iter_rows()], dtype=object)
    return frame[np.argsort(keys, kind="stable")[:most].astype(np.int64)] if frame.height else frame


def fingerprint_rows(kind: LabelKind, rows: pl.DataFrame, train: pl.DataFrame) -> str:
    """Return the hash of frozen rows and their train rows (64 hex digits)."""
    digest = hashlib.sha256(kind.value.encode())
    for frame in (rows, train):
        digest.update(repr(frame.columns).encode())
        for row in frame.iter_rows():
            digest.update(repr(row).encode("utf-8", "surrogatepass"))
    return digest.hexdigest()

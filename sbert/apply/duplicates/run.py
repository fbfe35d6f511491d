"""Find the duplicates of a table: fit the rule if there are labels, group, and count."""

import logging
from collections.abc import Callable
from functools import partial
from typing import Any

import numpy as np
import polars as pl
from pydantic import BaseModel, ConfigDict, Field, model_validator

from sbert.apply.duplicates.fit import FitSettings, LabelledPairs, fit_rule, with_nearest_negatives
from sbert.apply.duplicates.job import DuplicatesJob
from sbert.apply.duplicates.rule import PairRule, with_new_names
from sbert.apply.text_vectors import vectors_of_texts
from sbert.counted import counted
from sbert.derived.derived_table import DerivedTable
from sbert.derived.run import DerivedReport, derive
from sbert.errors import LabelError, SettingsError
from sbert.labels.label_kinds import LabelKind
from sbert.labels.load import load_labels
from sbert.labels.settings import LabelSettings
from sbert.table.delta import Table
from sbert.vectors.precision import Float32
from sbert.vectors.unit import unit_rows

__all__ = [
    "DuplicateSettings",
    "DuplicatesReport",
    "count_groups",
    "duplicates_job",
    "find_duplicates",
    "fit_on_labels",
    "labelled_pairs",
]

log = logging.getLogger(__name__)

Encode = Callable[[list[str]], Float32]


class DuplicateSettings(BaseModel):
    """Settings of `sbert duplicates`."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    similarity: float | None = Field(
        default=None,
        ge=0.3,
        lt=1,
        description="Least cosine of two texts that say the same; empty: 0.9 without labels.",
    )
    labels_uri: str | None = Field(
        default=None, min_length=1, description="Labelled pairs that the rule is fitted on: scored_pairs or pairs."
    )
    labels: LabelSettings = Field(default_factory=LabelSettings, description="How the labels are read.")
    fit: FitSettings = Field(default_factory=FitSettings, description="How the rule is fitted on the labels.")
    conflict_check: bool = Field(
        default=True, description="Keep texts apart that differ in a number, a name or a negation."
    )
    text_column: str | None = Field(default=None, min_length=1, description="Kept column with the text.")
    max_compared: int = Field(
        default=64,
        ge=1,
        le=10_000,
        description="Similar representatives that a text is compared with, at most (texts).",
    )
    explain: bool = Field(
        default=False,
        description="Say why a row's text and that of its representative are near; costs an encoding of both.",
    )

    @model_validator(mode="before")
    @classmethod
    def _rename(cls, values: Any) -> Any:
        return with_new_names(values)


class DuplicatesReport(DerivedReport):
    """The results of a run; scripts rely on the keys."""

    num_groups: int = Field(description="Groups of two or more rows.")
    num_rows_in_groups: int = Field(description="Rows of these groups.")
    num_repeats: int = Field(description="Rows that a representative stands for: rows of groups, less one a group.")
    rule: PairRule = Field(description="When two texts say the same.")

    def summary(self) -> str:
        """Return the outcome in one line."""
        return f"{super().summary()}; {counted(self.num_groups, 'group')} with {counted(self.num_repeats, 'repeat')}"


def find_duplicates(
    table_uri: str, out_uri: str, settings: DuplicateSettings | None = None, *, concurrency: int = 1
) -> DuplicatesReport:
    """Bring the groups at `out_uri` up to date with the newest version of the table.

    Args:
        table_uri: the embeddings table.
        out_uri: the derived table; made if it is not there.
        settings: the rule, or the labels that it is fitted on.
        concurrency: splits that are written at the same time.

    Raises:
        SettingsError, ColumnError, LabelError: the settings, the table's columns or the labels do not allow it.
        NotATableError, TableError, CommitConflictError: as `derive`.
    """
    job = duplicates_job(table_uri, settings)
    return count_groups(derive(job, table_uri, out_uri, concurrency=concurrency), job)


def duplicates_job(table_uri: str, settings: DuplicateSettings | None = None) -> DuplicatesJob:
    """Return the job of the settings; the rule is fitted if there are labels."""
    settings = settings or DuplicateSettings()
    if settings.labels_uri is not None:
        if settings.similarity is not None:
            raise SettingsError("similarity and labels_uri both decide when two texts are the same: leave one out")
        rule = fit_on_labels(Table.open(table_uri), settings)
    else:
        if settings.fit.precision is not None:
            raise SettingsError("a precision needs labelled pairs: name labels_uri, or leave fit.precision empty")
        rule = PairRule(conflict_check=settings.conflict_check)
        if settings.similarity is not None:
            rule = rule.model_copy(update={"similarity": settings.similarity})
    return DuplicatesJob(
        rule=rule, text_column=settings.text_column, max_compared=settings.max_compared, explain=settings.explain
    )


def fit_on_labels(table: Table, settings: DuplicateSettings) -> PairRule:
    """Fit the rule on train and dev rows of the labels, with vectors of the table's encoder."""
    assert settings.labels_uri is not None
    labels = load_labels(settings.labels_uri, settings.labels, to_train=False)
    rows = pl.concat([labels.train, labels.dev])
    try:
        rule = fit_rule(
            labelled_pairs(rows, labels.kind, partial(vectors_of_texts, table), settings.fit.same_score),
            settings.fit,
            conflict_check=settings.conflict_check,
        )
    except LabelError as error:
        raise type(error)(f"{settings.labels_uri}: {error}") from error
    assert rule.model is not None
    log.info(
        "fitted on %d pairs: precision %.3f (95 %% interval %.3f to %.3f), recall %.3f",
        rule.model.num_pairs, rule.model.precision, rule.model.precision_low, rule.model.precision_high, rule.model.recall,
    )  # fmt: skip
    return rule


def labelled_pairs(rows: pl.DataFrame, kind: LabelKind, encode: Encode, same_score: float) -> LabelledPairs:
    """Return labelled pairs with their cosines; `encode` gives the vectors of texts, shape (N, dim).

    Scored pairs count as the same from `same_score` on. Pairs are all the same; the nearest other positive of each anchor
    serves as a text that is not.

    Raises:
        LabelError: labels of another kind.
    """
    if kind is LabelKind.SCORED_PAIRS:
        left, right = rows["sentence1"].to_list(), rows["sentence2"].to_list()
        left_ND, right_ND = unit_rows(encode(left)), unit_rows(encode(right))
        cosines = np.einsum("nd,nd->n", left_ND, right_ND, dtype=np.float64)
        return LabelledPairs(left, right, rows["score"].cast(pl.Float64).to_numpy() >= same_score, cosines)
    if kind is LabelKind.PAIRS:
        anchors, positives = rows["anchor"].to_list(), rows["positive"].to_list()
        return with_nearest_negatives(anchors, positives, unit_rows(encode(anchors)), unit_rows(encode(positives)))
    raise LabelError(f"these labels are {kind.value}: name labels of the kind scored_pairs or pairs")


def count_groups(report: DerivedReport, job: DuplicatesJob) -> DuplicatesReport:
    """Add the numbers of groups to a report."""
    several = DerivedTable.open(report.out_uri, report.version).scan().filter(pl.col("num_in_group") > 1)
    counts = several.select(groups=pl.col("group").n_unique(), rows=pl.len()).collect(engine="streaming").row(0)
    return DuplicatesReport(
        **report.model_dump(),
        num_groups=counts[0],
        num_rows_in_groups=counts[1],
        num_repeats=counts[1] - counts[0],
        rule=job.rule,
    )

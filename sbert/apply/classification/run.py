"""Bring the classes of a table's rows up to date: choose the heads, classify the changed rows, report.

>>> from sbert.apply.classification.run import classify
>>> report = classify("data/table", "data/labels", "data/classes")  # doctest: +SKIP
"""

from collections.abc import Callable

import polars as pl
from pydantic import BaseModel, ConfigDict, Field

from sbert.apply.classification.groups import ColumnAbstentions, abstentions_by_group, table_group_columns
from sbert.apply.classification.heads import HeadDecision, choose_heads
from sbert.apply.classification.job import ClassificationJob, HeadName
from sbert.apply.classification.page import REPORT_NAME, report_page
from sbert.apply.classification.report import ClassShares, TaskReport
from sbert.apply.classification.settings import ClassificationSettings
from sbert.counted import counted
from sbert.derived.derived_table import DerivedTable, find_output
from sbert.derived.run import DerivedReport, derive
from sbert.storage.files import join, normalize_uri, write_bytes
from sbert.table.delta import Table

__all__ = ["ClassificationReport", "classification_job", "classify", "finish_report", "shares_before"]

Derive = Callable[[ClassificationJob, str, str], DerivedReport]
SharesByTask = dict[str, ClassShares]


class ClassificationReport(BaseModel):
    """The results of a run; scripts rely on the keys."""

    model_config = ConfigDict(frozen=True)

    output: DerivedReport = Field(description="Report of the derived table.")
    tasks: tuple[TaskReport, ...] = Field(description="The head of each task, and the classes of the rows.")
    report_uri: str = Field(description="The report for people, an HTML file.")

    def summary(self) -> str:
        """Return the outcome in one line."""
        answered = sum(task.now.num_rows - task.now.num_abstained for task in self.tasks)
        abstained = sum(task.now.num_abstained for task in self.tasks)
        return f"{self.output.summary()}; {counted(answered, 'class', 'classes')} given, {abstained:,} abstained"


def classify(
    table_uri: str,
    labels_uri: str,
    out_uri: str,
    settings: ClassificationSettings | None = None,
    *,
    concurrency: int = 1,
) -> ClassificationReport:
    """Classify every row of a table by heads that are fitted to labels; compute only changed rows.

    Args:
        table_uri: the embeddings table.
        labels_uri: labels of the kind ``classes``, one class a text or a list: file, folder or glob.
        out_uri: the derived table; made if it is not there.
        settings: how heads are fitted and compared.
        concurrency: splits that are classified at the same time.

    Raises:
        LabelError, ColumnError: the labels cannot be read or learned from.
        SettingsError, TableError: as `derive`; the output is as it was.
    """
    settings = settings or ClassificationSettings()
    before = shares_before(out_uri)
    decisions = choose_heads(Table.open(table_uri), labels_uri, out_uri, settings)
    output = derive(classification_job(decisions, out_uri), table_uri, out_uri, concurrency=concurrency)
    return finish_report(output, decisions, before, settings)


def classification_job(decisions: tuple[HeadDecision, ...], out_uri: str) -> ClassificationJob:
    """Return the job that the chosen heads do."""
    heads = tuple(
        HeadName(
            task=decision.task,
            fingerprint=decision.fingerprint,
            text_column=decision.text_column,
            words_column=decision.words_column,
            is_multi_label=decision.is_multi_label,
        )
        for decision in decisions
    )
    return ClassificationJob(heads=heads, heads_uri=normalize_uri(out_uri))


def shares_before(out_uri: str) -> SharesByTask:
    """Return the classes of the rows of the output that is there, by task; none when there is no output."""
    table = find_output(out_uri, ClassificationJob.name)
    if table is None:
        return {}
    return _shares(table, ClassificationJob.model_validate(table.info.settings))


def finish_report(
    output: DerivedReport, decisions: tuple[HeadDecision, ...], before: SharesByTask, settings: ClassificationSettings
) -> ClassificationReport:
    """Count the classes of the new output, write the report for people, and return the report."""
    table = DerivedTable.open(output.out_uri, output.version)
    job = ClassificationJob.model_validate(table.info.settings)
    now, groups = _shares(table, job), _groups(output, table, job, settings)
    tasks = tuple(
        TaskReport(
            head=decision,
            now=now[decision.task],
            before=before.get(decision.task),
            groups=groups.get(decision.task, []),
        )
        for decision in decisions
    )
    report_uri = join(output.out_uri, "_reports", REPORT_NAME)
    report = ClassificationReport(output=output, tasks=tasks, report_uri=report_uri)
    write_bytes(report_uri, report_page(output, tasks, settings).encode())
    return report


def _groups(
    output: DerivedReport, classes: DerivedTable, job: ClassificationJob, settings: ClassificationSettings
) -> dict[str, list[ColumnAbstentions]]:
    """Return abstentions on all rows by group, for each task; nothing is read where no group column is one of the table."""
    if not settings.group_columns:
        return {}
    table = Table.open(output.table_uri, output.table_version)
    columns = table_group_columns(table, settings.group_columns)
    return abstentions_by_group(classes, table, job, columns) if columns else {}


def _shares(table: DerivedTable, job: ClassificationJob) -> SharesByTask:
    by_task = {}
    for head in job.heads:
        if head.is_multi_label:
            by_task[head.task] = _shares_of_lists(table, job.prefix(head), has_rules=bool(head.text_column))
            continue
        label, abstained = (pl.col(f"{job.prefix(head)}{name}") for name in ("label", "abstained"))
        changed = pl.col(f"{job.prefix(head)}by_rules").sum() if head.text_column else pl.lit(0)
        sums = [pl.len(), abstained.sum().alias("abstained"), changed.alias("by_rules")]
        counts = table.scan().group_by(label.alias("label")).agg(sums).collect()
        ordered = counts.sort(["len", "label"], descending=[True, False])
        by_task[head.task] = ClassShares(
            num_rows=int(ordered["len"].sum()),
            num_abstained=int(ordered["abstained"].sum()),
            num_by_rules=int(ordered["by_rules"].sum()),
            classes=dict(zip(ordered["label"].to_list(), ordered["len"].to_list(), strict=True)),
        )
    return by_task


def _shares_of_lists(table: DerivedTable, prefix: str, *, has_rules: bool) -> ClassShares:
    labels = pl.col(f"{prefix}labels")
    sums = [
        pl.len().alias("rows"),
        pl.col(f"{prefix}abstained").sum().alias("abstained"),
        (labels.list.len() == 0).sum().alias("empty"),
        (pl.col(f"{prefix}by_rules").sum() if has_rules else pl.lit(0)).alias("by_rules"),
    ]
    totals = table.scan().select(sums).collect().row(0, named=True)
    each = table.scan().select(labels.alias("label").explode(empty_as_null=False, keep_nulls=False))
    ordered = each.group_by("label").len().collect().sort(["len", "label"], descending=[True, False])
    return ClassShares(
        num_rows=int(totals["rows"]),
        num_abstained=int(totals["abstained"]),
        num_by_rules=int(totals["by_rules"]),
        num_without_class=int(totals["empty"]),
        classes=dict(zip(ordered["label"].to_list(), ordered["len"].to_list(), strict=True)),
    )

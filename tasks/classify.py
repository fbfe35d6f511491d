"""Choose the heads of a classification, and leave its report."""

from prefect import task
from prefect.artifacts import create_markdown_artifact

from sbert.apply.classification.head_kinds import Quality
from sbert.apply.classification.heads import HeadDecision, choose_heads
from sbert.apply.classification.multi_label_quality import MultiLabelQuality
from sbert.apply.classification.quality import Share
from sbert.apply.classification.report import ClassShares, TaskReport
from sbert.apply.classification.run import ClassificationReport, finish_report
from sbert.apply.classification.settings import ClassificationSettings
from sbert.counted import counted
from sbert.derived.run import DerivedReport
from sbert.table.delta import Table
from tasks.markdown import escaped, markdown_table
from tasks.retries import RETRIED

__all__ = ["fit_heads", "report_classes"]

MAX_CLASSES = 50
"""Classes that the artifact names; the report names all."""


@task(name="fit heads", **RETRIED)
def fit_heads(
    table_uri: str, labels_uri: str, out_uri: str, settings: ClassificationSettings
) -> tuple[HeadDecision, ...]:
    """Fit and compare heads; a retry finds the heads that are fitted."""
    return choose_heads(Table.open(table_uri), labels_uri, out_uri, settings)


@task(name="report classes", **RETRIED)
def report_classes(
    output: DerivedReport,
    decisions: tuple[HeadDecision, ...],
    before: dict[str, ClassShares],
    settings: ClassificationSettings,
) -> ClassificationReport:
    """Write the report for people, and leave its figures as a Markdown artifact."""
    report = finish_report(output, decisions, before, settings)
    parts = [
        f"# Classes: `{escaped(output.out_uri)}`",
        *map(_task_markdown, report.tasks),
        f"Report: `{escaped(report.report_uri)}`",
    ]
    create_markdown_artifact(key="classification-heads", markdown="\n\n".join(parts), description=output.out_uri)
    return report


def _task_markdown(report: TaskReport) -> str:
    head, quality = report.head, report.head.quality
    rows = [
        ("decision", escaped(head.reason)),
        ("head", f"`{head.fingerprint}` ({head.kind}, {counted(head.num_labels, 'labelled row')})"),
        *([] if head.in_table is None else [("labels", escaped(head.warning or head.in_table.told()))]),
        ("words", escaped(head.told_words())),
        *([] if head.rules_use is None else [("rules", escaped(head.rules_use.told()))]),
        *([] if head.search is None else [("search", escaped(head.search.told()))]),
        ("rows answered", f"{report.now.num_rows - report.now.num_abstained:,} of {report.now.num_rows:,}"),
    ]
    if quality is not None:
        rows += [
            (title, f"{value.value:.3f} [{value.low:.3f}, {value.high:.3f}]")
            for title, value in _measures(quality)
            if value is not None
        ]
    shares = [
        (escaped(label), f"{count:,} ({report.now.share(label):.1%}{_change(report, label)})")
        for label, count in list(report.now.classes.items())[:MAX_CLASSES]
    ]
    title = f"## {escaped(head.task)}\n\n" if head.task else ""
    return f"{title}{markdown_table(('', ''), rows)}\n\n{markdown_table(('class', 'rows'), shares)}"


def _measures(quality: Quality) -> list[tuple[str, Share | None]]:
    if isinstance(quality, MultiLabelQuality):
        return [
            ("rows whose whole list is right ↑", quality.subset_accuracy),
            ("micro-F1 ↑", quality.micro_f1),
            ("macro-F1 ↑", quality.macro_f1),
            ("wrong lists among the answered ↓", quality.answered_error),
            ("true classes that are possible", quality.possible_coverage),
        ]
    return [
        ("accuracy ↑", quality.accuracy),
        ("macro-F1 ↑", quality.macro_f1),
        ("wrong among the answered ↓", quality.answered_error),
        ("sets that hold the true class", quality.set_coverage),
    ]


def _change(report: TaskReport, label: str) -> str:
    """Return how the share of a class changed since the last run, in points."""
    return (
        "" if report.before is None else f", {100 * (report.now.share(label) - report.before.share(label)):+.2f} points"
    )

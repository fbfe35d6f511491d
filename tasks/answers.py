"""Make the model of an answers table, and leave its report."""

from prefect import task
from prefect.artifacts import create_markdown_artifact

from sbert.apply.answers.job import AnswersJob
from sbert.apply.answers.report import AnswersReport
from sbert.apply.answers.report_figures import finish_report
from sbert.apply.answers.run import prepare_job
from sbert.apply.answers.settings import AnswerSettings
from sbert.derived.run import DerivedReport
from tasks.markdown import escaped, markdown_table, report_markdown
from tasks.retries import RETRIED

__all__ = ["prepare_answers", "report_answers"]

MAX_GROUPS = 10
"""Groups of unanswered questions that the artifact names; the report names more."""


@task(name="prepare answers", **RETRIED)
def prepare_answers(
    questions_uri: str,
    answers_uri: str,
    out_uri: str,
    settings: AnswerSettings,
    second_uri: str | None,
    labels_uri: str | None,
    explain: bool,
) -> AnswersJob:
    """Fit the model, or find the one that is there."""
    return prepare_job(
        questions_uri, answers_uri, out_uri, settings, second_uri=second_uri, labels_uri=labels_uri, explain=explain
    )


@task(name="report answers", **RETRIED)
def report_answers(output: DerivedReport) -> AnswersReport:
    """Write the report for people, and leave its figures as a Markdown artifact."""
    report = finish_report(output)
    quality = report.model.quality
    rows = [
        *((f"decision: {name}", f"{count:,}") for name, count in report.decisions.items()),
        *((f"reason: {escaped(name)}", f"{count:,}") for name, count in report.reasons.items()),
        ("promised error", f"{report.model.promised_error:.1%}"),
        ("expected error", "unknown" if report.expected_error is None else f"{report.expected_error:.1%}"),
        ("answers never used", f"{report.num_unused:,} of {report.num_answers:,}"),
    ]
    if quality is not None:
        rows.append(("AUROC ↑", f"{quality.auroc:.3f} [{quality.auroc_low:.3f}, {quality.auroc_high:.3f}]"))
    groups = [
        (escaped(group.text or f"{group.id} in {group.source}"), f"{group.num_questions:,}")
        for group in report.unanswered[:MAX_GROUPS]
    ]
    markdown = report_markdown(
        "Answers:",
        output.out_uri,
        rows,
        markdown_table(("question without an answer", "questions"), groups) if groups else "",
        f"Report: `{escaped(report.report_uri)}`",
    )
    create_markdown_artifact(key="answers-summary", markdown=markdown, description=output.out_uri)
    return report

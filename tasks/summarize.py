"""Choose the ranking method, write the summaries, and leave a report."""

from prefect import task
from prefect.artifacts import create_markdown_artifact
from prefect.cache_policies import NO_CACHE

from sbert.apply.summaries.choose import RankerDecision
from sbert.apply.summaries.run import SummaryReport, decide_ranker, write_summaries
from sbert.apply.summaries.settings import SummarySettings
from tasks.markdown import escaped, report_markdown
from tasks.retries import RETRIED

__all__ = ["choose_summary_ranker", "report_summaries", "write_document_summaries"]


@task(name="choose ranker", **RETRIED)
def choose_summary_ranker(
    table_uri: str, out_uri: str, labels_uri: str | None, settings: SummarySettings
) -> RankerDecision:
    """Fit a ranker where labels are given; a retry finds the ranker that is fitted."""
    return decide_ranker(table_uri, out_uri, labels_uri, settings)


@task(name="write summaries", **RETRIED)
def write_document_summaries(
    table_uri: str, out_uri: str, decision: RankerDecision, settings: SummarySettings, concurrency: int
) -> SummaryReport:
    """Summarise changed documents; a retry takes over the splits that are finished."""
    return write_summaries(table_uri, out_uri, decision, settings, concurrency=concurrency)


@task(name="report summaries", cache_policy=NO_CACHE)
def report_summaries(report: SummaryReport) -> None:
    """Leave the ranking method and the counts as a Markdown artifact."""
    decision, quality = report.decision, report.decision.quality
    rows = [
        ("ranked by", escaped(decision.reason)),
        ("documents", f"{report.num_documents:,}"),
        ("computed in this run", f"{report.num_computed:,}"),
        ("without text", f"{report.num_without_text:,}"),
        ("read only in part", f"{report.num_cut:,}"),
        ("words of a summary, on average", f"{report.mean_words:,.1f}"),
    ]
    if decision.labels is not None:
        rows.append(("labels", escaped(decision.labels.account())))
    if quality is not None:
        rows += [
            (f"ROUGE-1 of {name} ↑", f"{value.value:.3f} [{value.low:.3f}, {value.high:.3f}]")
            for name, value in (("the ranker", quality.ranker), ("LexRank", quality.lexrank))
        ]
    markdown = report_markdown("Summaries:", report.output.out_uri, rows)
    create_markdown_artifact(key="summaries", markdown=markdown, description=report.output.out_uri)

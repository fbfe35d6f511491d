"""Make the lists of all users, and leave a report."""

from prefect import task
from prefect.artifacts import create_markdown_artifact
from prefect.cache_policies import NO_CACHE

from sbert.apply.recommendation.run import RecommendationReport, recommend
from sbert.apply.recommendation.settings import RecommendationSettings
from tasks.markdown import escaped, report_markdown
from tasks.retries import RETRIED

__all__ = ["make_lists", "report_lists"]


@task(name="make lists", **RETRIED)
def make_lists(
    items_uri: str,
    events_uri: str,
    out_uri: str,
    settings: RecommendationSettings,
    pairs_uri: str | None,
    concurrency: int,
    explain: bool,
) -> RecommendationReport:
    """Fit the model if need be, and make the lists that changed; a retry takes over the parts that are finished."""
    return recommend(
        items_uri, events_uri, out_uri, settings, explain=explain, pairs_uri=pairs_uri, concurrency=concurrency
    )


@task(name="report lists", cache_policy=NO_CACHE)
def report_lists(report: RecommendationReport) -> None:
    """Leave a report of the run as a Markdown artifact."""
    rows = [
        ("output", f"`{escaped(report.out_uri)}` version {report.version}"),
        ("items", f"`{escaped(report.table_uri)}` version {report.table_version}"),
        ("users; lists made in this run", f"{report.num_users:,}; {report.num_users_computed:,}"),
        ("items; new items", f"{report.num_items:,}; {report.num_items_new:,}"),
        ("events; rejected", f"{report.num_events:,}; {report.num_events_rejected:,}"),
        *((f"rejected: {escaped(reason)}", f"{count:,}") for reason, count in report.rejected.items()),
        ("model", f"`{report.model}` of {report.fitted_at:%Y-%m-%d %H:%M}"),
        *([("fitted in this run", escaped(report.refitted))] if report.refitted else []),
        *([("new pairs of sessions", f"{report.num_pairs_new:,}")] if report.pairs_uri else []),
        *((f"weight: {name}", f"{weight:+.3f}") for name, weight in report.weights.items()),
    ]
    markdown = report_markdown("Recommendations:", report.out_uri, rows)
    create_markdown_artifact(key="recommendation-report", markdown=markdown, description=report.out_uri)

"""Derive splits, and leave a report."""

from prefect import task
from prefect.artifacts import create_markdown_artifact
from prefect.cache_policies import NO_CACHE

from sbert.derived.job import DerivedJob
from sbert.derived.run import DerivedReport, derive
from tasks.markdown import escaped, markdown_table
from tasks.retries import RETRIED

__all__ = ["derive_table", "report_derived"]


@task(name="derive table", task_run_name="{job.name}", **RETRIED)
def derive_table(job: DerivedJob, table_uri: str, out_uri: str, concurrency: int, run_id: str) -> DerivedReport:
    """Bring a derived table up to date; a retry takes over the splits that are finished."""
    return derive(job, table_uri, out_uri, concurrency=concurrency, run_id=run_id)


@task(name="report derived", cache_policy=NO_CACHE)
def report_derived(report: DerivedReport) -> None:
    """Leave what was done as a Markdown artifact."""
    rows = [
        ("embeddings table", f"`{escaped(report.table_uri)}` version {report.table_version}"),
        ("encoder", f"`{escaped(report.encoder)}`"),
        ("version now", str(report.version)),
        ("rows", f"{report.num_rows:,}"),
        ("rows computed", f"{report.num_rows_built:,}"),
        ("shards built", f"{report.num_shards_built:,}"),
        ("shards taken over", f"{report.num_shards_resumed:,}"),
        ("shards kept", f"{report.num_shards_kept:,}"),
        ("shards dropped", f"{report.num_shards_dropped:,}"),
        ("seconds", f"{report.seconds:,.1f}"),
    ]
    markdown = f"# {escaped(report.job).capitalize()}: `{escaped(report.out_uri)}`\n\n{markdown_table(('', ''), rows)}"
    create_markdown_artifact(key=f"{report.job}-report", markdown=markdown, description=report.out_uri)

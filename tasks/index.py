"""Index the vectors or the words of a table, and leave a report."""

from prefect import task
from prefect.artifacts import create_markdown_artifact
from prefect.cache_policies import NO_CACHE

from sbert.index.index_run import IndexReport, index_table
from sbert.index.index_settings import IndexSettings
from sbert.index.words.settings import WordSettings
from sbert.index.words.word_index import WordIndexReport, index_words
from tasks.markdown import escaped, report_markdown
from tasks.retries import RETRIED

__all__ = ["build_index", "build_word_index", "report_index", "report_word_index"]


@task(name="index table", **RETRIED)
def build_index(table_uri: str, settings: IndexSettings, check: bool, run_id: str) -> IndexReport:
    """Bring the index up to date; a retry finds the segments that are finished."""
    return index_table(table_uri, settings=settings, check=check, run_id=run_id)


@task(name="report index", cache_policy=NO_CACHE)
def report_index(report: IndexReport) -> None:
    """Leave a report of the run as a Markdown artifact."""
    recall = report.recall
    measured = (
        "nothing to measure"
        if recall is None
        else f"{recall.value:.3f} (95 % interval {recall.low:.3f} to {recall.high:.3f})"
    )
    rows = [
        ("table", f"`{escaped(report.table_uri)}` version {report.version}"),
        ("recall@10", measured),
        ("segments", f"{report.num_segments:,}"),
        ("rows in segments", f"{report.num_rows_indexed:,} of {report.num_rows:,}"),
        ("segments built", f"{report.num_segments_built:,}"),
        ("segments made by merging", f"{report.num_segments_merged:,}"),
        ("broken segments replaced", f"{report.num_segments_broken:,}"),
        ("rows put into segments", f"{report.num_rows_built:,}"),
        ("seconds", f"{report.seconds:,.1f}"),
    ]
    markdown = report_markdown("Index of", report.table_uri, rows)
    create_markdown_artifact(key="index-report", markdown=markdown, description=report.table_uri)


@task(name="index words", **RETRIED)
def build_word_index(table_uri: str, settings: WordSettings, check: bool, run_id: str) -> WordIndexReport:
    """Bring the word index up to date; a retry finds the segments that are finished."""
    return index_words(table_uri, settings=settings, check=check, run_id=run_id)


@task(name="report word index", cache_policy=NO_CACHE)
def report_word_index(report: WordIndexReport) -> None:
    """Leave a report of the run as a Markdown artifact."""
    rows = [
        ("table", f"`{escaped(report.table_uri)}` version {report.version}"),
        ("column", f"`{escaped(report.column)}`"),
        ("segments", f"{report.num_segments:,}"),
        ("segments built", f"{report.num_segments_built:,}"),
        ("rows", f"{report.num_rows:,}"),
        ("rows put into segments", f"{report.num_rows_built:,}"),
        ("size, MiB", f"{report.num_bytes / 2**20:,.1f}"),
        ("seconds", f"{report.seconds:,.1f}"),
    ]
    markdown = report_markdown("Words of", report.table_uri, rows)
    create_markdown_artifact(key="words-report", markdown=markdown, description=report.table_uri)

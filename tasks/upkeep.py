"""Upkeep of a table: compact, vacuum, verify, and a report of it."""

from prefect import task
from prefect.artifacts import create_markdown_artifact
from prefect.cache_policies import NO_CACHE

from sbert.table.compaction import Compaction, compact_table
from sbert.table.shards import ShardSettings
from sbert.table.vacuum import Vacuum, vacuum_table
from sbert.table.verify import Verification, verify_table
from tasks.retries import RETRIED

__all__ = ["compact_shards", "report_upkeep", "vacuum_files", "verify_rows"]


@task(name="compact shards", **RETRIED)
def compact_shards(table_uri: str, settings: ShardSettings) -> Compaction:
    """Merge small shards."""
    return compact_table(table_uri, settings)


@task(name="vacuum files", **RETRIED)
def vacuum_files(table_uri: str, retention_hours: float) -> Vacuum:
    """Remove what no version within the retention needs."""
    return vacuum_table(table_uri, retention_hours=retention_hours, apply=True)


@task(name="verify rows", **RETRIED)
def verify_rows(table_uri: str) -> Verification:
    """Check every row."""
    return verify_table(table_uri)


@task(name="report upkeep", cache_policy=NO_CACHE)
def report_upkeep(lines: dict[str, str], table_uri: str) -> None:
    """Leave what was done as a Markdown artifact."""
    rows = [f"| {name} | {value.replace('|', '&#124;')} |" for name, value in lines.items()]
    markdown = "\n".join([f"# Upkeep of `{table_uri}`", "", "| step | result |", "| --- | --- |", *rows])
    create_markdown_artifact(key="upkeep-report", markdown=markdown, description=table_uri)

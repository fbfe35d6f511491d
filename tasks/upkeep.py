"""The steps of an upkeep as Prefect tasks."""

from prefect import task
from prefect.artifacts import create_markdown_artifact
from prefect.cache_policies import NO_CACHE

from sbert.derived.any_table import vacuum_any, verify_any
from sbert.table.compaction import Compaction, compact_table
from sbert.table.shards import ShardSettings
from sbert.table.upkeep import UpkeepReport, UpkeepSteps
from sbert.table.vacuum import Vacuum
from sbert.table.verify import Verification
from tasks.markdown import escaped, markdown_table
from tasks.retries import RETRIED

__all__ = ["PREFECT_STEPS"]


@task(name="compact shards", **RETRIED)
def _compact(table_uri: str, settings: ShardSettings) -> Compaction:
    """Merge small shards."""
    return compact_table(table_uri, settings)


@task(name="vacuum files", **RETRIED)
def _vacuum(table_uri: str, retention_hours: float) -> Vacuum:
    """Remove files that no version within the retention needs."""
    return vacuum_any(table_uri, retention_hours=retention_hours, apply=True)


@task(name="verify rows", **RETRIED)
def _verify(table_uri: str) -> Verification:
    """Check every row."""
    return verify_any(table_uri)


@task(name="report upkeep", cache_policy=NO_CACHE)
def _show(report: UpkeepReport) -> None:
    """Leave the report as a Markdown artifact."""
    lines = [(name, escaped(text)) for name, text in report.describe().items()]
    markdown = f"# Upkeep of `{escaped(report.table_uri)}`\n\n{markdown_table(('step', 'result'), lines)}"
    create_markdown_artifact(key="upkeep-report", markdown=markdown, description=report.table_uri)


PREFECT_STEPS = UpkeepSteps(compact=_compact, vacuum=_vacuum, verify=_verify, show=_show)
"""The steps that the flow passes to `sbert.table.upkeep.upkeep`."""

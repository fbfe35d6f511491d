"""The weekly job: merge small files, remove files that no version needs, and check all rows. `sbert.table.upkeep` does the
same without Prefect.

The commands `sbert compact`, `sbert vacuum` and `sbert verify` do one step each.
"""

from typing import Annotated

from prefect import flow

from flows.hooks import HOOKS
from flows.parameters import ExistingTableUri, completed, form
from flows.run_names import named_after
from sbert.table.shards import ShardSettings
from sbert.table.upkeep import UpkeepReport, upkeep
from tasks.upkeep import PREFECT_STEPS

__all__ = ["upkeep_table"]


@flow(name="upkeep-table", flow_run_name=named_after("upkeep {table_uri}"), persist_result=False, **HOOKS)
def upkeep_table(
    table_uri: ExistingTableUri,
    compact: Annotated[
        bool,
        form(
            title="Compact",
            description="Merge small shards into larger ones; not for derived tables, whose shards follow the splits.",
        ),
    ] = True,
    shard_rows: Annotated[
        int, form(title="Shard rows", ge=2, le=50_000_000, description="Rows that merged shards hold at most (rows).")
    ] = 131_072,
    vacuum: Annotated[
        bool, form(title="Vacuum", description="Remove files that no version within the retention needs.")
    ] = True,
    retention_hours: Annotated[
        float,
        form(
            title="Retention",
            ge=0,
            le=87_600,
            description="Versions that were the newest within this time stay readable (hours).",
        ),
    ] = 168.0,
    verify: Annotated[bool, form(title="Verify", description="Read and check every row.")] = True,
) -> UpkeepReport:
    """Compact, vacuum and verify a table; switch compaction off for a derived table.

    Returns:
        What each step did.

    Raises:
        VerificationError: when something is wrong with the table; the message has the first findings.
    """
    report = upkeep(
        table_uri,
        compact=compact,
        shards=ShardSettings(shard_rows=shard_rows),
        vacuum=vacuum,
        retention_hours=retention_hours,
        verify=verify,
        steps=PREFECT_STEPS,
    )
    return completed(report, report.summary())

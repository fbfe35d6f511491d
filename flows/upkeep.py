"""The weekly job: keep a table's files few, wanted and sound.

Reads as: compact, vacuum, verify, report. Each can be done alone by `sbert compact`, `sbert vacuum`, `sbert verify`.
"""

from typing import Annotated

from prefect import flow
from pydantic import BaseModel, ConfigDict, Field

from flows.hooks import HOOKS
from flows.parameters import TableUri, form
from sbert.errors import VerificationError
from sbert.table.compaction import Compaction
from sbert.table.shards import ShardSettings
from sbert.table.vacuum import Vacuum
from sbert.table.verify import Verification
from tasks.upkeep import compact_shards, report_upkeep, vacuum_files, verify_rows

__all__ = ["UpkeepReport", "upkeep_table"]


class UpkeepReport(BaseModel):
    """What an upkeep run did; a step that was switched off is empty."""

    model_config = ConfigDict(frozen=True)

    table_uri: str
    compaction: Compaction | None = Field(default=None, description="Shards merged.")
    vacuum: Vacuum | None = Field(default=None, description="Files removed.")
    verification: Verification | None = Field(default=None, description="Rows checked.")


@flow(name="upkeep-table", flow_run_name="upkeep {table_uri}", persist_result=False, **HOOKS)
def upkeep_table(
    table_uri: TableUri,
    compact: Annotated[bool, form(title="Compact", description="Merge small shards into larger ones.")] = True,
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
    """Compact, vacuum and verify a table.

    Returns:
        What each step did.

    Raises:
        VerificationError: when something is wrong with the table; the message has the first findings.
    """
    report = UpkeepReport(
        table_uri=table_uri,
        compaction=compact_shards(table_uri, ShardSettings(shard_rows=shard_rows)) if compact else None,
        vacuum=vacuum_files(table_uri, retention_hours) if vacuum else None,
        verification=verify_rows(table_uri) if verify else None,
    )
    report_upkeep(describe(report), table_uri)
    if report.verification is not None and report.verification.findings:
        findings = report.verification.findings
        raise VerificationError(f"{table_uri}: {len(findings)} findings: {'; '.join(findings[:3])}")
    return report


def describe(report: UpkeepReport) -> dict[str, str]:
    """Say in a line each what the steps did."""
    lines: dict[str, str] = {}
    if report.compaction is not None:
        done = report.compaction
        lines["compact"] = f"{done.num_shards_before:,} shards became {done.num_shards:,}, version {done.version}"
    if report.vacuum is not None:
        lines["vacuum"] = f"{len(report.vacuum.files):,} files, {report.vacuum.num_bytes / 2**20:,.1f} MiB removed"
    if report.verification is not None:
        findings = report.verification.findings
        lines["verify"] = f"{report.verification.num_rows:,} rows: {'; '.join(findings) or 'all is well'}"
    return lines

"""Keep a table's files few, wanted and sound, in one call: compact, vacuum, verify.

>>> from sbert.table.upkeep import upkeep
>>> report = upkeep("table")  # doctest: +SKIP
"""

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

from pydantic import BaseModel, ConfigDict, Field

from sbert.counted import counted
from sbert.errors import VerificationError
from sbert.table.compaction import Compaction, compact_table
from sbert.table.shards import ShardSettings
from sbert.table.vacuum import Vacuum, vacuum_table
from sbert.table.verify import Verification, verify_table

__all__ = ["UpkeepReport", "UpkeepSteps", "upkeep"]

DEFAULT_RETENTION_HOURS = 168.0
NAMED_FINDINGS = 3
"""Findings that the error names; the report has all."""


class UpkeepReport(BaseModel):
    """The result of an upkeep. A step that was switched off is empty."""

    model_config = ConfigDict(frozen=True)

    table_uri: str
    compaction: Compaction | None = Field(default=None, description="Shards merged.")
    vacuum: Vacuum | None = Field(default=None, description="Files removed.")
    verification: Verification | None = Field(default=None, description="Rows checked.")

    def summary(self) -> str:
        """Return the outcome in one line."""
        return "; ".join(f"{step}: {line}" for step, line in self.describe().items()) or "No step was asked for"

    def describe(self) -> dict[str, str]:
        """Return a line for each step that was done."""
        lines: dict[str, str] = {}
        if self.compaction is not None:
            done = self.compaction
            lines["compact"] = (
                f"{counted(done.num_shards_before, 'shard')} became {done.num_shards:,}, version {done.version}"
            )
        if self.vacuum is not None:
            lines["vacuum"] = (
                f"{counted(len(self.vacuum.files), 'file')}, {self.vacuum.num_bytes / 2**20:,.1f} MiB removed"
            )
        if self.verification is not None:
            findings = self.verification.findings
            lines["verify"] = f"{counted(self.verification.num_rows, 'row')}: {'; '.join(findings) or 'nothing wrong'}"
        return lines


def _remove_unneeded(table_uri: str, retention_hours: float) -> Vacuum:
    return vacuum_table(table_uri, retention_hours=retention_hours, apply=True)


def _show_nothing(report: UpkeepReport) -> Any:
    """Do nothing: the caller gets the report."""


@dataclass(frozen=True)
class UpkeepSteps:
    """The functions that do the parts of an upkeep. The flow passes the same functions as Prefect tasks."""

    compact: Callable[[str, ShardSettings], Compaction] = compact_table
    vacuum: Callable[[str, float], Vacuum] = _remove_unneeded
    verify: Callable[[str], Verification] = verify_table
    show: Callable[[UpkeepReport], Any] = _show_nothing
    """Gets the report, also when something is wrong with the table."""


def upkeep(
    table_uri: str,
    *,
    compact: bool = True,
    shards: ShardSettings | None = None,
    vacuum: bool = True,
    retention_hours: float = DEFAULT_RETENTION_HOURS,
    verify: bool = True,
    steps: UpkeepSteps | None = None,
) -> UpkeepReport:
    """Compact, vacuum and verify a table.

    Args:
        table_uri: the table.
        compact: whether to merge small shards.
        shards: sizes of the merged shards.
        vacuum: whether to remove files that no version within the retention needs.
        retention_hours: versions that were the newest within this time stay readable (hours).
        verify: whether to read and check every row.
        steps: how the parts are done; by default in this process.

    Returns:
        What each step did.

    Raises:
        VerificationError: when something is wrong with the table; the message has the first findings.
    """
    steps = steps or UpkeepSteps()
    report = UpkeepReport(
        table_uri=table_uri,
        compaction=steps.compact(table_uri, shards or ShardSettings()) if compact else None,
        vacuum=steps.vacuum(table_uri, retention_hours) if vacuum else None,
        verification=steps.verify(table_uri) if verify else None,
    )
    steps.show(report)
    if report.verification is not None and report.verification.findings:
        findings = report.verification.findings
        raise VerificationError(
            f"{table_uri}: {counted(len(findings), 'finding')}: {'; '.join(findings[:NAMED_FINDINGS])}"
        )
    return report

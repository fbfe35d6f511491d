"""Align two tables, and count the aligned rows."""

import polars as pl
from pydantic import Field

from sbert.apply.alignment.job import AlignmentJob
from sbert.apply.alignment.sides import SideDistance, side_distance
from sbert.derived.derived_table import DerivedTable
from sbert.derived.run import DerivedReport, derive
from sbert.table.delta import Table

__all__ = ["AlignmentReport", "align_tables", "report_alignment"]


class AlignmentReport(DerivedReport):
    """Results of a run; scripts rely on the keys."""

    right_uri: str
    right_version: int
    num_matched: int = Field(description="Rows that have a partner.")
    num_without: dict[str, int] = Field(description="Rows without a partner, by reason.")
    sides: SideDistance | None = Field(description="None if a table has no rows.")

    def summary(self) -> str:
        """Return the outcome in one line."""
        return f"{super().summary()}, {self.num_matched:,} with a partner"


def align_tables(job: AlignmentJob, left_uri: str, out_uri: str, *, concurrency: int = 1) -> AlignmentReport:
    """Write the partner of every row of the left table to a derived table.

    Args:
        job: the other table, and how to align.
        left_uri: the table whose rows are said something about.
        out_uri: the derived table; made if it is not there.
        concurrency: splits that are written at the same time.

    Raises:
        SettingsError: the tables are of different encoders, or one table.
        NotATableError: one of the folders holds something else.
    """
    return report_alignment(job, derive(job, left_uri, out_uri, concurrency=concurrency))


def report_alignment(job: AlignmentJob, report: DerivedReport) -> AlignmentReport:
    """Count the rows of the derived table by outcome, and warn if the vectors of the two sides are far apart."""
    rows = DerivedTable.open(report.out_uri, report.version).scan()
    counts = rows.group_by("reason").agg(pl.len()).sort("reason").collect()
    by_reason = dict(zip(counts["reason"].to_list(), counts["len"].to_list(), strict=True))
    num_matched = by_reason.pop(None, 0)
    return AlignmentReport(
        **report.model_dump(),
        right_uri=job.right_uri,
        right_version=job.right_version,
        num_matched=num_matched,
        num_without=by_reason,
        sides=side_distance(
            Table.open(report.table_uri, report.table_version), Table.open(job.right_uri, job.right_version)
        ),
    )

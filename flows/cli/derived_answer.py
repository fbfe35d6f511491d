"""Print the work of a job on a derived table."""

from typing import Any

from flows.cli.output import out
from sbert.counted import counted

__all__ = ["show_derived"]


def show_derived(report: dict[str, Any]) -> None:
    """Print the report of a job on a derived table."""
    resumed = f", {report['num_shards_resumed']:,} taken over" if report["num_shards_resumed"] else ""
    out.print(
        f"{report['out_uri']} version {report['version']}: {counted(report['num_rows'], 'row')}, computed from version "
        f"{report['table_version']} of {report['table_uri']}\n"
        f"  {counted(report['num_shards_built'], 'shard')} built ({counted(report['num_rows_built'], 'row')}){resumed}, "
        f"{report['num_shards_kept']:,} kept, {report['num_shards_dropped']:,} dropped, {report['seconds']:,.1f} s",
        markup=False,
    )

"""What ``sbert inspect`` says about a derived table."""

import datetime as dt
from typing import Any

from rich import box
from rich.table import Table as TextTable

from flows.cli.output import cell, out
from sbert.derived.derived_table import DerivedTable
from sbert.errors import NotATableError
from sbert.table.delta import Table, recorded_in
from sbert.table.lease import active_leases

__all__ = ["describe_derived", "show_derived_table"]


def describe_derived(table: DerivedTable) -> dict[str, Any]:
    """Return what there is to say about a derived table; scripts rely on the keys."""
    shards, info = table.shards(), table.info
    try:
        newest: int | None = Table.open(info.table_uri).version
    except NotATableError:
        newest = None
    return {
        "table_uri": table.uri,
        "version": table.version,
        "job": info.job,
        "settings": info.settings,
        "derived_from": info.table_uri,
        "table_version": info.table_version,
        "table_version_newest": newest,
        "lag_versions": None if newest is None else newest - info.table_version,
        "encoder": info.encoder,
        "num_rows": table.num_rows,
        "num_shards": len(shards),
        "num_bytes": sum(shard.num_bytes for shard in shards),
        "columns": {field.name: str(field.type) for field in table.schema},
        "at_work": [lease.model_dump(mode="json") for lease in active_leases(table.uri)],
        "versions": [
            {"version": entry.get("version"), "timestamp_ms": entry.get("timestamp"), **recorded_in(entry)}
            for entry in table.history()
        ],
    }


def show_derived_table(found: dict[str, Any]) -> None:
    """Print what there is to say about a derived table."""
    table = TextTable(title=found["table_uri"], title_justify="left", show_header=False)
    table.add_column(style="bold")
    table.add_column()
    lag, newest = found["lag_versions"], found["table_version_newest"]
    behind = "cannot be opened" if lag is None else "the newest" if not lag else f"{lag:,} behind the newest, {newest}"
    for name, value in (
        ("version", found["version"]),
        ("job", found["job"]),
        ("settings", ", ".join(f"{name} {value}" for name, value in found["settings"].items())),
        ("derived from", found["derived_from"]),
        ("its version", f"{found['table_version']} ({behind})"),
        ("encoder", found["encoder"]),
        ("rows", f"{found['num_rows']:,}"),
        ("shards", f"{found['num_shards']:,} ({found['num_bytes'] / 2**20:,.1f} MiB)"),
        ("columns", ", ".join(f"{name} {kind}" for name, kind in found["columns"].items())),
    ):
        table.add_row(name, cell(value))
    for lease in found["at_work"]:
        table.add_row(
            "at work", cell(f"{lease['operation']} {lease['run_id'][:8]} by {lease['user']} on {lease['host']}")
        )
    out.print(table)
    versions = TextTable(
        title="versions", title_justify="left", box=box.SIMPLE_HEAD, show_edge=False, padding=(0, 1, 0, 0)
    )
    for name in ("version", "when (UTC)", "by", "of version", "rows computed", "run"):
        versions.add_column(name, justify="left" if name in {"when (UTC)", "by", "run"} else "right", no_wrap=True)
    for entry in found["versions"]:
        when = dt.datetime.fromtimestamp((entry["timestamp_ms"] or 0) / 1000, dt.UTC)
        computed = entry.get("num_rows_built")
        versions.add_row(
            str(entry["version"]),
            f"{when:%Y-%m-%d %H:%M}",
            cell(entry.get("operation", entry.get("job", ""))),
            str(entry.get("table_version", "")),
            "" if computed is None else f"{computed:,}",
            str(entry.get("run_id", ""))[:8],
        )
    out.print(versions)

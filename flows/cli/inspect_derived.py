"""The answer of ``sbert inspect`` about a derived table."""

from typing import Any

from flows.cli.table_properties import commit_time, lease_properties
from flows.cli.text_tables import Column, print_properties, print_rows
from sbert.derived.derived_table import DerivedTable
from sbert.errors import NotATableError
from sbert.table.commit_record import recorded_in
from sbert.table.delta import Table
from sbert.table.lease import active_leases

__all__ = ["describe_derived", "show_derived_table", "shown_setting"]


def describe_derived(table: DerivedTable) -> dict[str, Any]:
    """Return the description of a derived table; scripts rely on its keys."""
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


def show_derived_table(description: dict[str, Any]) -> None:
    """Print the properties of a derived table."""
    lag, newest = description["lag_versions"], description["table_version_newest"]
    behind = "cannot be opened" if lag is None else "the newest" if not lag else f"{lag:,} behind the newest, {newest}"
    properties = [
        ("version", description["version"]),
        ("job", description["job"]),
        ("settings", "" if description["settings"] else "none"),
        *((f"  {name}", shown_setting(value)) for name, value in description["settings"].items()),
        ("derived from", description["derived_from"]),
        ("its version", f"{description['table_version']} ({behind})"),
        ("encoder", description["encoder"]),
        ("rows", f"{description['num_rows']:,}"),
        ("shards", f"{description['num_shards']:,} ({description['num_bytes'] / 2**20:,.1f} MiB)"),
        ("columns", ", ".join(f"{name} {kind}" for name, kind in description["columns"].items())),
    ]
    print_properties(description["table_uri"], [*properties, *lease_properties(description["at_work"])])
    columns = [
        Column("version", is_number=True, is_lead=True),
        Column("when (UTC)", is_lead=True),
        Column("by", is_lead=True),
        Column("of version", is_number=True),
        Column("rows computed", is_number=True),
        Column("run"),
    ]
    print_rows("versions", columns, [_version_row(entry) for entry in description["versions"]])


def shown_setting(value: Any) -> str:
    """Return the value of a setting for a person: parts with their names, lists with commas, "none" for nothing."""
    if isinstance(value, dict):
        return " · ".join(f"{name} {shown_setting(part)}" for name, part in value.items()) or "none"
    if isinstance(value, list):
        return ", ".join(shown_setting(item) for item in value) or "none"
    if isinstance(value, bool):
        return "yes" if value else "no"
    return "none" if value in (None, "") else str(value)


def _version_row(entry: dict[str, Any]) -> list[str]:
    computed = entry.get("num_rows_built")
    return [
        str(entry["version"]),
        commit_time(entry),
        entry.get("operation", entry.get("job", "")),
        str(entry.get("table_version", "")),
        "" if computed is None else f"{computed:,}",
        str(entry.get("run_id", ""))[:8],
    ]

"""``sbert inspect``."""

import datetime as dt
from typing import Any

from rich import box
from rich.table import Table as TextTable

from flows.cli.app import Panel, command
from flows.cli.options import Json, TableUri
from flows.cli.output import answering, cell, out


@command(Panel.LOOK, example="sbert inspect s3://bucket/table")
def inspect(table_uri: TableUri, as_json: Json = False) -> None:
    """Print the versions, encoder, rows, shards and last run's counts of TABLE, also of a derived one."""
    with answering(as_json=as_json) as answer:
        from flows.cli.inspect_derived import describe_derived, show_derived_table
        from sbert.derived.any_table import open_any
        from sbert.derived.derived_table import DerivedTable
        from sbert.table.delta import recorded_in
        from sbert.table.lease import active_leases
        from sbert.table.quantization_recall import newest_reduction

        table = open_any(table_uri)
        if isinstance(table, DerivedTable):
            answer.print(describe_derived(table), show_derived_table)
            return
        shards = table.shards()
        reduction = newest_reduction(table) if table.encoder.is_reduced else None
        description = {
            "table_uri": table.uri,
            "version": table.version,
            "encoder": table.encoder.model,
            "dim": table.encoder.dim,
            "num_rows": sum(shard.num_rows for shard in shards),
            "num_shards": len(shards),
            "num_bytes": sum(shard.num_bytes for shard in shards),
            "encoder_info": table.encoder.model_dump(mode="json"),
            "reduction": {**reduction.model_dump(mode="json"), "note": reduction.describe()} if reduction else None,
            "columns": {field.name: str(field.type) for field in table.arrow_schema},
            "last_run": table.last_commit(),
            "at_work": [lease.model_dump(mode="json") for lease in active_leases(table.uri)],
            "versions": [
                {"version": entry.get("version"), "timestamp_ms": entry.get("timestamp"), **recorded_in(entry)}
                for entry in table.history()
            ],
        }
        answer.print(description, _show_inspect)


def _show_inspect(description: dict[str, Any]) -> None:
    table = TextTable(title=description["table_uri"], title_justify="left", show_header=False)
    table.add_column(style="bold")
    table.add_column()
    info = description["encoder_info"]
    for name, value in (
        ("version", description["version"]),
        ("encoder", f"{description['encoder']} · {info['fingerprint'][:12]}"),
        (
            "vectors",
            f"dim {description['dim']} · {info['precision']} · {info['pooling']} pooling · normalized {info['normalized']}",
        ),
        ("rows", f"{description['num_rows']:,}"),
        ("shards", f"{description['num_shards']:,} ({description['num_bytes'] / 2**20:,.1f} MiB)"),
        ("columns", ", ".join(f"{name} {kind}" for name, kind in description["columns"].items())),
    ):
        table.add_row(name, cell(value))
    if description["reduction"]:
        table.add_row("recall@10 against float32", cell(description["reduction"]["note"]))
        if ranges := description["reduction"]["calibration"]:
            share = ranges["num_saturated"] / ranges["num_values"]
            table.add_row(
                "scales", f"{ranges['min_scale']:.3g} to {ranges['max_scale']:.3g} · {share:.2%} of values at ±127"
            )
    for lease in description["at_work"]:
        table.add_row(
            "at work", cell(f"{lease['operation']} {lease['run_id'][:8]} by {lease['user']} on {lease['host']}")
        )
    out.print(table)
    versions = TextTable(
        title="versions", title_justify="left", box=box.SIMPLE_HEAD, show_edge=False, padding=(0, 1, 0, 0)
    )
    for name in ("version", "when (UTC)", "by", "encoder", "read", "encoded", "carried", "rejected", "run"):
        is_text = name in {"when (UTC)", "by", "encoder", "run"}
        versions.add_column(name, justify="left" if is_text else "right", no_wrap=True, overflow="ellipsis")
    for entry in description["versions"]:
        when = dt.datetime.fromtimestamp((entry["timestamp_ms"] or 0) / 1000, dt.UTC)
        counts = [entry.get(f"num_rows_{name}") for name in ("read", "encoded", "carried", "rejected")]
        versions.add_row(
            str(entry["version"]),
            f"{when:%Y-%m-%d %H:%M}",
            cell(entry.get("operation", "")),
            cell(entry.get("encoder", "").rsplit("/", 1)[-1]),
            *("" if count is None else f"{count:,}" for count in counts),
            str(entry.get("run_id", ""))[:8],
        )
    out.print(versions)

"""``sbert inspect``."""

from typing import Any

from flows.cli.app import Panel, command
from flows.cli.options import Json, TableUri
from flows.cli.output import answering
from flows.cli.table_properties import commit_time, lease_properties
from flows.cli.text_tables import Column, print_properties, print_rows


@command(Panel.LOOK, example="sbert inspect s3://bucket/table")
def inspect(table_uri: TableUri, as_json: Json = False) -> None:
    """Print the versions, encoder, rows, shards and last run's counts of TABLE, also of a derived one."""
    with answering(as_json=as_json) as answer:
        from flows.cli.inspect_derived import describe_derived, show_derived_table
        from sbert.derived.any_table import open_any
        from sbert.derived.derived_table import DerivedTable
        from sbert.table.commit_record import recorded_in
        from sbert.table.followers import followers_of
        from sbert.table.lease import active_leases
        from sbert.table.quantization_recall import newest_reduction

        table = open_any(table_uri)
        if isinstance(table, DerivedTable):
            answer.print(describe_derived(table), show_derived_table)
            return
        shards = table.shards()
        states = followers_of(table)
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
            "followers": [state.model_dump(mode="json") for state in states],
            "versions": [
                {"version": entry.get("version"), "timestamp_ms": entry.get("timestamp"), **recorded_in(entry)}
                for entry in table.history()
            ],
        }
        answer.print(description, _show_inspect)


def _show_inspect(description: dict[str, Any]) -> None:
    info = description["encoder_info"]
    properties = [
        ("version", description["version"]),
        ("encoder", f"{description['encoder']} · {info['fingerprint'][:12]}"),
        (
            "vectors",
            f"dim {description['dim']} · {info['precision']} · {info['pooling']} pooling · "
            f"{'unit length' if info['normalized'] else 'any length'}",
        ),
        ("rows", f"{description['num_rows']:,}"),
        ("shards", f"{description['num_shards']:,} ({description['num_bytes'] / 2**20:,.1f} MiB)"),
        ("columns", ", ".join(f"{name} {kind}" for name, kind in description["columns"].items())),
    ]
    if description["reduction"]:
        properties.append(("recall@10 against float32", description["reduction"]["note"]))
        if ranges := description["reduction"]["calibration"]:
            share = ranges["num_saturated"] / ranges["num_values"]
            scales = f"{ranges['min_scale']:.3g} to {ranges['max_scale']:.3g} · {share:.2%} of values at ±127"
            properties.append(("scales", scales))
    print_properties(description["table_uri"], [*properties, *lease_properties(description["at_work"])])
    if description["followers"]:
        _print_followers(description["followers"])
    columns = [
        Column("version", is_number=True, is_lead=True),
        Column("when (UTC)", is_lead=True),
        Column("by", is_lead=True),
        Column("encoder"),
        *(Column(name, is_number=True) for name in ("read", "encoded", "carried", "rejected")),
        Column("run"),
    ]
    print_rows("versions", columns, [_version_row(entry) for entry in description["versions"]])


def _version_row(entry: dict[str, Any]) -> list[str]:
    counts = [entry.get(f"num_rows_{name}") for name in ("read", "encoded", "carried", "rejected")]
    return [
        str(entry["version"]),
        commit_time(entry),
        entry.get("operation", ""),
        entry.get("encoder", "").rsplit("/", 1)[-1],
        *("" if count is None else f"{count:,}" for count in counts),
        str(entry.get("run_id", ""))[:8],
    ]


NUM_CONSUMER_COLUMNS = 8
"""Columns of the consumers of a table that was neither copied nor moved."""


def _print_followers(followers: list[dict[str, Any]]) -> None:
    """Print the vector stores and derived tables that follow a table."""
    from sbert.table.followers import FollowerState

    columns = [
        Column("consumer", is_lead=True),
        Column("kind"),
        Column("version", is_number=True),
        Column("lag"),
        *(Column(name, is_number=True) for name in ("rows", "coverage", "age of newest rows")),
        Column("last proof"),
        *([Column("noted for")] if any(follower["is_elsewhere"] for follower in followers) else []),
    ]
    rows = [
        [
            state.name,
            state.kind,
            str(state.version),
            state.describe_lag(),
            f"{state.num_rows:,}",
            state.describe_coverage(),
            state.describe_age(),
            state.describe_proof(),
            *([state.describe_origin()] if len(columns) > NUM_CONSUMER_COLUMNS else []),
        ]
        for state in map(FollowerState.model_validate, followers)
    ]
    print_rows("consumers", columns, rows)

"""``sbert vacuum`` and ``sbert compact``."""

from typing import Annotated, Any

import typer

from flows.cli.common import Json, TableUri, app, errors, out, print_result

MAX_SHOWN = 20


@app.command()
def vacuum(
    table_uri: TableUri,
    retention_hours: Annotated[
        float, typer.Option(min=0, help="Versions that were the newest within this time stay readable.")
    ] = 168.0,
    apply: Annotated[bool, typer.Option("--apply", help="Remove the files. [only list them]")] = False,
    as_json: Json = False,
) -> None:
    """List files that no version of TABLE within the retention needs; with --apply remove them."""
    from sbert.table.vacuum import vacuum_table

    with errors(as_json):
        done = vacuum_table(table_uri, retention_hours=retention_hours, apply=apply)
        print_result(done.model_dump(mode="json"), as_json, _show_vacuum)


@app.command()
def compact(
    table_uri: TableUri,
    shard_rows: Annotated[int, typer.Option(min=2, help="Rows that merged shards hold at most.")] = 131_072,
    as_json: Json = False,
) -> None:
    """Merge small shards of TABLE into larger ones; nothing is encoded, rows stay what they are."""
    from sbert.table.compaction import compact_table
    from sbert.table.shards import ShardSettings

    with errors(as_json):
        done = compact_table(table_uri, ShardSettings(shard_rows=shard_rows))
        print_result(done.model_dump(mode="json"), as_json, _show_compaction)


def _show_vacuum(done: dict[str, Any]) -> None:
    what = "removed" if done["applied"] else "would be removed (run again with --apply)"
    out.print(
        f"{done['table_uri']}: {len(done['files']):,} files, {done['num_shards']:,} of them shards, "
        f"{done['num_bytes'] / 2**20:,.1f} MiB {what}",
        markup=False,
    )
    for name in done["files"][:MAX_SHOWN]:
        out.print(f"  {name}", markup=False)
    if len(done["files"]) > MAX_SHOWN:
        out.print(f"  and {len(done['files']) - MAX_SHOWN:,} more")
    for lease in done["leases"]:
        out.print(f"at work: {lease}; {done['num_kept_for_runs']:,} files are kept for it", markup=False)


def _show_compaction(done: dict[str, Any]) -> None:
    out.print(
        f"{done['table_uri']} version {done['version']}: {done['num_shards_before']:,} shards became "
        f"{done['num_shards']:,} ({done['num_shards_merged']:,} merged, {done['num_rows_moved']:,} rows moved)",
        markup=False,
    )

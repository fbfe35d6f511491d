"""``sbert vacuum``."""

from typing import Annotated, Any

import typer

from flows.cli.app import Panel, command
from flows.cli.options import Json, TableUri
from flows.cli.output import answering, out
from sbert.counted import counted

MAX_SHOWN = 20


@command(Panel.UPKEEP, example="sbert vacuum s3://bucket/table --retention-hours 720 --apply")
def vacuum(
    table_uri: TableUri,
    retention_hours: Annotated[
        float,
        typer.Option(
            min=0,
            max=876_000,
            metavar="HOURS",
            help="Versions that were the newest within this time stay readable.",
        ),
    ] = 168.0,
    apply: Annotated[bool, typer.Option("--apply", help="Remove the files; without it they are only listed.")] = False,
    as_json: Json = False,
) -> None:
    """List files that no version of TABLE (also a derived one) within the retention needs; with --apply remove them."""
    with answering(as_json=as_json) as answer:
        from sbert.derived.any_table import vacuum_any

        done = vacuum_any(table_uri, retention_hours=retention_hours, apply=apply)
        answer.print(done.model_dump(mode="json"), _show_vacuum)


def _show_vacuum(done: dict[str, Any]) -> None:
    verb = "removed" if done["applied"] else "would be removed (run again with --apply)"
    out.print(
        f"{done['table_uri']}: {counted(len(done['files']), 'file')}, {done['num_shards']:,} of them shards, "
        f"{done['num_bytes'] / 2**20:,.1f} MiB {verb}",
        markup=False,
    )
    for name in done["files"][:MAX_SHOWN]:
        out.print(f"  {name}", markup=False)
    if len(done["files"]) > MAX_SHOWN:
        out.print(f"  and {len(done['files']) - MAX_SHOWN:,} more")
    for lease in done["leases"]:
        out.print(f"at work: {lease}; {counted(done['num_kept_for_runs'], 'file')} kept for it", markup=False)

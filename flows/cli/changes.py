"""``sbert changes``."""

from typing import Annotated, Any

import typer

from flows.cli.app import Panel, command
from flows.cli.options import Json, TableUri
from flows.cli.output import answering, out
from sbert.counted import counted


@command(Panel.LOOK, example="sbert changes s3://bucket/table --from 3 --output changes.parquet")
def changes(
    table_uri: TableUri,
    from_version: Annotated[
        int, typer.Option("--from", min=0, metavar="VERSION", help="Version that the copy or index has now.")
    ],
    to_version: Annotated[
        int | None,
        typer.Option("--to", min=0, metavar="VERSION", help="Version that it should have.", show_default="newest"),
    ] = None,
    output: Annotated[
        str | None,
        typer.Option(
            metavar="FILE",
            help="File to write: .parquet or .jsonl, local or s3://; without it the changes are counted.",
        ),
    ] = None,
    as_json: Json = False,
) -> None:
    """Write the upserts and deletes that bring a copy or index of TABLE from one version to another."""
    with answering(as_json=as_json) as answer:
        from sbert.sync.change_feed import write_changes

        summary = write_changes(table_uri, from_version, to_version, output)
        answer.print(summary.model_dump(mode="json"), _show_changes)


def _show_changes(summary: dict[str, Any]) -> None:
    where = f", written to {summary['output']}" if summary["output"] else ""
    why = " (another encoder: every row)" if summary["encoder_changed"] else ""
    out.print(
        f"{summary['table_uri']}: version {summary['from_version']} to {summary['to_version']}: "
        f"{counted(summary['num_upserts'], 'upsert')}{why}, {counted(summary['num_deletes'], 'delete')} from "
        f"{counted(summary['num_shards_read'], 'shard')}{where}",
        markup=False,
    )

"""``sbert changes``."""

from typing import Annotated, Any

import typer

from flows.cli.common import Json, TableUri, app, errors, out, print_result


@app.command()
def changes(
    table_uri: TableUri,
    from_version: Annotated[int, typer.Option("--from", min=0, help="Version that the copy or index shows.")],
    to_version: Annotated[int | None, typer.Option("--to", min=0, help="Version it is to show. [newest]")] = None,
    output: Annotated[str | None, typer.Option(help="File to write: .parquet or .jsonl, local or s3://.")] = None,
    as_json: Json = False,
) -> None:
    """Write what a vector index must upsert and delete to follow TABLE; without --output only count."""
    from sbert.sync.change_feed import write_changes

    with errors(as_json):
        summary = write_changes(table_uri, from_version, to_version, output)
        print_result(summary.model_dump(mode="json"), as_json, _show_changes)


def _show_changes(summary: dict[str, Any]) -> None:
    where = f", written to {summary['output']}" if summary["output"] else ""
    why = " (another encoder: every row)" if summary["encoder_changed"] else ""
    out.print(
        f"{summary['table_uri']}: version {summary['from_version']} to {summary['to_version']}: "
        f"{summary['num_upserts']:,} upserts{why}, {summary['num_deletes']:,} deletes from "
        f"{summary['num_shards_read']:,} shards{where}",
        markup=False,
    )

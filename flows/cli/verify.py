"""``sbert verify``."""

from typing import Annotated, Any

import typer

from flows.cli.app import Panel, app, example
from flows.cli.options import Json, TableUri
from flows.cli.output import answering, out


@app.command(rich_help_panel=Panel.UPKEEP, epilog=example("sbert verify s3://bucket/table"))
def verify(
    table_uri: TableUri,
    version: Annotated[
        int | None, typer.Option(min=0, metavar="VERSION", help="Version to check.", show_default="newest")
    ] = None,
    as_json: Json = False,
) -> None:
    """Read and check every row of TABLE. Exit status is 1 when something is wrong."""
    with answering(as_json=as_json) as answer:
        from sbert.table.verify import verify_table

        found = verify_table(table_uri, version)
        answer.print(found.model_dump(mode="json"), _show_verification)
        if found.findings:
            raise typer.Exit(1)


def _show_verification(found: dict[str, Any]) -> None:
    verdict = f"{len(found['findings'])} findings" if found["findings"] else "all is well"
    out.print(
        f"{found['table_uri']} version {found['version']}: {found['num_shards']:,} shards, {found['num_rows']:,} rows "
        f"checked, {verdict}",
        markup=False,
    )
    if found["num_shards_without_checksum"]:
        out.print(
            f"  {found['num_shards_without_checksum']:,} shards were written by an earlier version, without a checksum: "
            "not every flipped bit is found in them",
            markup=False,
        )
    for finding in found["findings"]:
        out.print(f"  {finding}", markup=False, style="red")

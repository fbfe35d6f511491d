"""``sbert verify``."""

from typing import Annotated, Any

import typer

from flows.cli.app import Panel, command
from flows.cli.options import Json, TableUri
from flows.cli.output import answering, out
from sbert.counted import counted


@command(Panel.UPKEEP, example="sbert verify s3://bucket/table")
def verify(
    table_uri: TableUri,
    version: Annotated[
        int | None, typer.Option(min=0, metavar="VERSION", help="Version to check.", show_default="newest")
    ] = None,
    as_json: Json = False,
) -> None:
    """Read and check every row of TABLE, also of a derived one. Exit status is 1 when something is wrong."""
    with answering(as_json=as_json) as answer:
        from sbert.derived.any_table import verify_any

        verification = verify_any(table_uri, version)
        answer.print(verification.model_dump(mode="json"), _show_verification)
        if verification.findings:
            raise typer.Exit(1)


def _show_verification(verification: dict[str, Any]) -> None:
    verdict = f"{counted(len(verification['findings']), 'finding')}" if verification["findings"] else "all is well"
    out.print(
        f"{verification['table_uri']} version {verification['version']}: {counted(verification['num_shards'], 'shard')}, "
        f"{counted(verification['num_rows'], 'row')} checked, {verdict}",
        markup=False,
    )
    if "derived_from" in verification:
        out.print(
            f"  compared with version {verification['table_version']} of {verification['derived_from']}", markup=False
        )
    if verification["num_shards_without_checksum"]:
        out.print(
            f"  {counted(verification['num_shards_without_checksum'], 'shard')} written by an earlier version, "
            "without a checksum: not every flipped bit is found in them",
            markup=False,
        )
    for finding in verification["findings"]:
        out.print(f"  {finding}", markup=False, style="red")

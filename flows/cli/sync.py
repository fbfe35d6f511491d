"""``sbert sync``."""

from typing import Annotated, Any

import typer

from flows.cli.app import Panel, command
from flows.cli.options import DestinationLocation, Json, TableUri
from flows.cli.output import answering, out
from sbert.counted import counted


@command(Panel.JOBS, example="sbert sync s3://bucket/table 'postgresql://host/database#public.docs'")
def sync(
    table_uri: TableUri,
    destination: DestinationLocation,
    version: Annotated[
        int | None, typer.Option(min=0, metavar="VERSION", help="Version to bring it to.", show_default="newest")
    ] = None,
    prove: Annotated[bool, typer.Option("--prove", help="Compare every row afterwards.")] = False,
    replace: Annotated[
        bool, typer.Option("--replace", help="Follow this table, even if DESTINATION follows another one now.")
    ] = False,
    as_json: Json = False,
) -> None:
    """Make a vector store equal to TABLE: write changed rows, and remove rows that are gone."""
    with answering(as_json=as_json) as answer:
        from sbert.sync.follow import sync as follow

        report = follow(table_uri, destination, version=version, prove=prove, replace=replace)
        answer.print(report.model_dump(mode="json"), _show_sync)


def _show_sync(report: dict[str, Any]) -> None:
    source = "nothing" if report["from_version"] is None else f"version {report['from_version']}"
    why = f": {report['why']}" if report["why"] else ""
    out.print(
        f"{report['destination']}: from {source} to version {report['to_version']} by {report['method']}{why}\n"
        f"  {counted(report['num_upserts'], 'row')} written, {report['num_deletes']:,} removed, "
        f"{counted(report['num_rows'], 'row')} now, "
        f"{report['seconds']:,.1f} s",
        markup=False,
    )
    if report["is_switched"]:
        out.print(f"  readers were switched to {report['collection']} after every row was proven equal", markup=False)
    elif report["is_proven"]:
        out.print("  every row was proven equal", markup=False)

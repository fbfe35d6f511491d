"""``sbert erase``."""

import sys
from typing import Annotated, Any

import typer

from flows.cli.app import Panel, command
from flows.cli.options import DryRun, Json, TableUri, check_location, without_secret
from flows.cli.output import answering, err, out
from tasks.terminal import terminal


def _locations(values: list[str] | None) -> list[str] | None:
    return [check_location(value) or "" for value in values] if values else values


def _destinations(values: list[str] | None) -> list[str] | None:
    return [without_secret(value) for value in values] if values else values


def is_terminal() -> bool:
    """Return whether a person can answer a question."""
    return sys.stdin.isatty()


@command(
    Panel.UPKEEP,
    example="sbert erase s3://bucket/table --ids ids.csv --destination 'postgresql://host/database#public.docs'",
)
def erase(
    table_uri: TableUri,
    ids: Annotated[
        str,
        typer.Option(
            metavar="FILE",
            help="The rows: JSON Lines, CSV or Parquet with a column id and perhaps source, or text with an id a line.",
            callback=check_location,
        ),
    ],
    destination: Annotated[
        list[str] | None,
        typer.Option(
            metavar="DESTINATION",
            help="Vector store that follows the table, as `sbert sync` names it. May be repeated.",
            callback=_destinations,
        ),
    ] = None,
    derived: Annotated[
        list[str] | None,
        typer.Option(metavar="URI", help="Derived table of the table. May be repeated.", callback=_locations),
    ] = None,
    labels: Annotated[
        str | None,
        typer.Option(
            metavar="LABELS_URI", help="Labels to search for the rows; they are listed.", callback=check_location
        ),
    ] = None,
    models: Annotated[
        str | None,
        typer.Option(
            metavar="MODELS_URI",
            help="Model registry; models whose labels hold the rows are listed.",
            callback=check_location,
        ),
    ] = None,
    dry_run: DryRun = False,
    yes: Annotated[bool, typer.Option("--yes", help="Do not ask on a terminal.")] = False,
    undo: Annotated[
        bool,
        typer.Option(
            "--undo", help="Lift the tombstones instead: a later build of their objects brings the rows back."
        ),
    ] = False,
    as_json: Json = False,
) -> None:
    """Erase rows of TABLE for good: all versions, files beside it, and what follows it. Writes a receipt.

    Exit status is 1 when rows are left, or may be left, in a place that the command can reach.
    """
    with answering(as_json=as_json) as answer:
        from sbert.erase.ids_file import read_keys

        keys = read_keys(ids)
        if not (yes or dry_run) and is_terminal():
            what = "Lift the tombstones of" if undo else "Erase for good, in all versions,"
            terminal.hide()
            typer.confirm(f"{what} {len(keys):,} keys of {table_uri}?", abort=True, err=True)
        if undo:
            from sbert.erase.undo import lift_tombstones

            answer.print(lift_tombstones(table_uri, keys).model_dump(mode="json"), _show_lifted)
            return
        from sbert.erase.run import erase as erase_rows

        receipt = erase_rows(
            table_uri,
            keys,
            destinations=destination or (),
            derived=derived or (),
            labels_uri=labels,
            models_uri=models,
            is_dry_run=dry_run,
        )
        answer.print(receipt.model_dump(mode="json"), _show_receipt)
        if not receipt.is_complete:
            err.print(f"not complete: {len(receipt.left)} places are left, see above", style="red", markup=False)
            raise typer.Exit(1)


def _show_receipt(receipt: dict[str, Any]) -> None:
    verb = "would leave" if receipt["is_dry_run"] else "left"
    out.print(
        f"{receipt['table_uri']}: {receipt['num_rows_erased']:,} rows {verb} the newest version, {receipt['num_keys']:,} "
        f"keys were asked for, version {receipt['version']}, {receipt['seconds']:,.1f} s",
        markup=False,
    )
    for place in receipt["places"]:
        if place["num_found"] or place["num_left"] or place["problem"]:
            left = place["problem"] or (f"{place['num_left']:,} rows are left" if place["num_left"] else "")
            line = f"  {place['place']} {place['location']}: {place['num_found']:,} rows found, {place['action']}"
            looked = f"; looked again: {place['look']}" if place["look"] else ""
            out.print(f"{line}{looked}{f'; LEFT: {left}' if left else ''}", markup=False, style="red" if left else None)
    if receipt["refused_versions"]:
        refused = ", ".join(map(str, receipt["refused_versions"]))
        out.print(f"  versions that cannot be read any more: {refused}", markup=False)
    for seen in receipt["seen_by"]:
        detail = f" ({seen['detail']})" if seen["detail"] else ""
        out.print(
            f"  {seen['kind']} {seen['location']} had seen {seen['num_rows']:,} rows{detail}: decide what to do",
            markup=False,
            style="yellow",
        )
    for item in receipt["out_of_reach"]:
        out.print(f"  out of reach: {item['place']}: {item['advice']}", markup=False)
    if receipt["receipt"]:
        out.print(f"receipt: {receipt['receipt']}", markup=False)


def _show_lifted(lifted: dict[str, Any]) -> None:
    out.print(
        f"{lifted['table_uri']}: {lifted['num_lifted']:,} tombstones lifted. Rows come back when their objects are "
        "built again:\n  sbert backfill RAW TABLE --include OBJECT --force",
        markup=False,
    )

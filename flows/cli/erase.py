"""``sbert erase``."""

import sys
from typing import Annotated, Any

import typer

from flows.cli.app import Panel, command
from flows.cli.options import DryRun, Json, TableUri, check_location, without_secret
from flows.cli.output import answering, err, out
from sbert.counted import counted, listed
from tasks.terminal import terminal

MAX_NAMED = 20
"""Keys that were found nowhere and are named."""
USAGE = 2
"""Exit status of wrong usage."""


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
            help="File of the rows: JSON Lines, CSV or Parquet with a column id and, if needed, source; or text with one id "
            "per line.",
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
    yes: Annotated[bool, typer.Option("--yes", help="Do not ask for confirmation; needed without a terminal.")] = False,
    allow_missing: Annotated[
        bool, typer.Option("--allow-missing", help="Exit with status 0 also when ids are found nowhere.")
    ] = False,
    undo: Annotated[
        bool,
        typer.Option(
            "--undo", help="Lift the tombstones instead: a later build of their objects brings the rows back."
        ),
    ] = False,
    as_json: Json = False,
) -> None:
    """Erase rows of TABLE for good, also from earlier versions, files beside it and followers. Writes a receipt.

    Exit status is 1 when rows are left, or may be left, in a place that the command can reach. It is 1 too when ids are
    found nowhere.
    """
    with answering(as_json=as_json) as answer:
        from sbert.erase.ids_file import read_keys

        if not (yes or dry_run or is_terminal()):
            answer.fail("there is no terminal to ask on, and nothing was erased: pass --yes", "UsageError", USAGE)
        keys = read_keys(ids)
        if not (yes or dry_run):
            what = "Lift the tombstones of" if undo else "Erase for good, in all versions,"
            terminal.hide()
            typer.confirm(f"{what} {counted(len(keys), 'key')} of {table_uri}?", abort=True, err=True)
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
            allow_missing=allow_missing,
        )
        answer.print(receipt.model_dump(mode="json") | {"ids_not_found": receipt.ids_not_found}, _show_receipt)
        if not receipt.is_complete:
            err.print(f"not complete: {counted(len(receipt.left), 'place')} left, see above", style="red", markup=False)
        is_missing = receipt.num_not_found and not allow_missing
        if is_missing:
            number = counted(receipt.num_not_found, "key")
            err.print(
                f"{number} found nowhere, see above: check the ids, or pass --allow-missing", style="red", markup=False
            )
        if is_missing or not receipt.is_complete:
            raise typer.Exit(1)


def _show_receipt(receipt: dict[str, Any]) -> None:
    if not (receipt["is_dry_run"] or receipt["receipt"]):
        out.print(
            f"{receipt['table_uri']}: nothing was found, {counted(receipt['num_keys'], 'key')} had been erased before. "
            f"Nothing was changed, version {receipt['version']}, {receipt['seconds']:,.1f} s",
            markup=False,
        )
    else:
        verb = "would leave" if receipt["is_dry_run"] else "left"
        out.print(
            f"{receipt['table_uri']}: {counted(receipt['num_rows_erased'], 'row')} {verb} the newest version, asked for "
            f"{counted(receipt['num_keys'], 'key')}, version {receipt['version']}, {receipt['seconds']:,.1f} s",
            markup=False,
        )
    _show_not_found(receipt["ids_not_found"])
    for place in receipt["places"]:
        if place["num_found"] or place["num_left"] or place["problem"]:
            left = place["problem"] or (f"{counted(place['num_left'], 'row')} left" if place["num_left"] else "")
            is_searched = place["num_found"] or place["look"] or not place["problem"]
            rows_found = f"{counted(place['num_found'], 'row')} found, " if is_searched else ""
            line = f"  {place['place']} {place['location']}: {rows_found}{place['action']}"
            looked = f"; looked again: {place['look']}" if place["look"] else ""
            out.print(f"{line}{looked}{f'; LEFT: {left}' if left else ''}", markup=False, style="red" if left else None)
    if receipt["refused_versions"]:
        out.print(f"  {listed('version', receipt['refused_versions'])} cannot be read any more", markup=False)
    for seen in receipt["seen_by"]:
        detail = f" ({seen['detail']})" if seen["detail"] else ""
        out.print(
            f"  {seen['kind']} {seen['location']} had seen {counted(seen['num_rows'], 'row')}{detail}, and was not changed: "
            "remove the rows there, or train again",
            markup=False,
            style="yellow",
        )
    for item in receipt["out_of_reach"]:
        out.print(f"  out of reach: {item['place']}: {item['advice']}", markup=False)
    if receipt["receipt"]:
        out.print(f"receipt: {receipt['receipt']}", markup=False)


def _show_not_found(keys: list[str]) -> None:
    if keys:
        named = ", ".join(keys[:MAX_NAMED])
        more = f" and {len(keys) - MAX_NAMED:,} more" if len(keys) > MAX_NAMED else ""
        out.print(f"  found nowhere: {named}{more}", markup=False, style="yellow")


def _show_lifted(lifted: dict[str, Any]) -> None:
    out.print(
        f"{lifted['table_uri']}: {counted(lifted['num_lifted'], 'tombstone')} lifted. Rows come back when their objects are "
        "built again:\n  sbert backfill RAW TABLE --include OBJECT --force",
        markup=False,
    )

"""``sbert reconcile``."""

from typing import Annotated, Any

import typer

from flows.cli.app import Panel, command
from flows.cli.options import DestinationLocation, Json, TableUri
from flows.cli.output import answering, out
from sbert.counted import counted

SHOWN_KEYS = 5


@command(Panel.UPKEEP, example="sbert reconcile s3://bucket/table 'postgresql://host/database#public.docs' --repair")
def reconcile(
    table_uri: TableUri,
    destination: DestinationLocation,
    repair: Annotated[bool, typer.Option("--repair", help="Write the rows that differ, and no others.")] = False,
    recompute: Annotated[
        bool, typer.Option("--recompute", help="Hash every row anew, also rows that nobody wrote since the last proof.")
    ] = False,
    as_json: Json = False,
) -> None:
    """Prove row by row that a vector store equals TABLE. Exit status is 1 when it does not."""
    with answering(as_json=as_json) as answer:
        from sbert.sync.reconcile import reconcile as compare_sides

        report = compare_sides(table_uri, destination, repair_differences=repair, recompute=recompute)
        answer.print(report.model_dump(mode="json"), _show_comparison)
        if not report.is_equal:
            raise typer.Exit(1)


def _show_comparison(report: dict[str, Any]) -> None:
    behind = report["newest_version"] - report["version"]
    lag = f", the table is {counted(behind, 'version')} ahead: run `sbert sync`" if behind else ""
    out.print(
        f"{report['destination']} against version {report['version']} of {report['table_uri']}: "
        f"{counted(report['num_rows'], 'row')} compared in {report['seconds']:,.1f} s{lag}",
        markup=False,
    )
    for kind, meaning in (
        ("missing", "the store lacks"),
        ("stale", "the store has with other content"),
        ("extra", "only the store has"),
    ):
        number = report[f"num_{kind}"]
        if number:
            names = ", ".join(f"{key['id']!r} of {key['source']}" for key in report[kind][:SHOWN_KEYS])
            more = f", and {number - SHOWN_KEYS:,} more" if number > SHOWN_KEYS else ""
            out.print(f"  {counted(number, 'row')} {meaning}: {names}{more}", markup=False, style="red")
    if report["was_equal"]:
        out.print("  both sides are equal", markup=False)
    elif report["is_repaired"]:
        out.print("  the differences were repaired; both sides are equal now", markup=False)

"""``sbert report``."""

from typing import Annotated, Any

import typer

from flows.cli.app import Panel, command
from flows.cli.options import Json, TableUri
from flows.cli.output import answering, out


@command(Panel.LOOK, example="sbert report s3://bucket/table --output report.html --price-per-hour 1.20")
def report(
    table_uri: TableUri,
    output: Annotated[str, typer.Option(metavar="FILE", help="HTML file to write, local or s3://.")] = "report.html",
    price_per_hour: Annotated[
        float | None,
        typer.Option(
            min=0.0001,
            max=1_000_000,
            metavar="PRICE",
            help="Price of the machine per hour, in any currency; adds cost to the page.",
        ),
    ] = None,
    as_json: Json = False,
) -> None:
    """Write a page with the history of TABLE: volume, rates, rejects, token lengths, drift, cost."""
    with answering(as_json=as_json) as answer:
        from sbert.refresh.history_page import history_page
        from sbert.storage.files import normalize_uri, write_bytes

        page = history_page(table_uri, price_per_hour=price_per_hour)
        target = normalize_uri(output)
        write_bytes(target, page.encode())
        answer.print({"table_uri": table_uri, "output": target, "num_bytes": len(page)}, _show_report)


def _show_report(result: dict[str, Any]) -> None:
    out.print(f"wrote {result['output']}", markup=False)

"""``sbert report``."""

from typing import Annotated, Any

import typer

from flows.cli.common import Json, TableUri, app, errors, out, print_result


@app.command()
def report(
    table_uri: TableUri,
    output: Annotated[str, typer.Option(help="HTML file to write, local or s3://.")] = "report.html",
    price_per_hour: Annotated[
        float | None, typer.Option(min=0, help="What the machine costs per hour, to show cost in money.")
    ] = None,
    as_json: Json = False,
) -> None:
    """Write the trend of TABLE over its runs: volume, rates, rejects, token lengths, drift, cost."""
    with errors(as_json):
        from sbert.refresh.history_page import trend_report
        from sbert.storage.files import normalize_uri, write_bytes

        page = trend_report(table_uri, price_per_hour=price_per_hour)
        target = normalize_uri(output)
        write_bytes(target, page.encode())
        print_result({"table_uri": table_uri, "output": target, "num_bytes": len(page)}, as_json, _show_report)


def _show_report(result: dict[str, Any]) -> None:
    out.print(f"wrote {result['output']}", markup=False)

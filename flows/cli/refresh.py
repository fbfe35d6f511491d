"""``sbert refresh``."""

from typing import Annotated, Any

import typer
from rich.table import Table as TextTable

from flows.cli.common import Json, RawUri, TableUri, app, err, errors, out, parse_settings, print_result
from sbert.errors import IncompleteError


@app.command()
def refresh(
    raw_uri: RawUri,
    table_uri: TableUri,
    model: Annotated[str | None, typer.Option(help="Encoder: folder, s3:// URI or hub id. [table's own]")] = None,
    text_column: Annotated[str | None, typer.Option(help="Column that holds the text. [text]")] = None,
    id_column: Annotated[str | None, typer.Option(help="Column that holds the id. [id, else derived]")] = None,
    keep_columns: Annotated[str | None, typer.Option(help="Source columns to keep, separated by commas.")] = None,
    settings: Annotated[str | None, typer.Option(help="All other settings, as a JSON object or @file.json.")] = None,
    concurrency: Annotated[int, typer.Option(min=1, max=256, help="Splits that are worked on at once.")] = 2,
    dry_run: Annotated[bool, typer.Option("--dry-run", help="Only print the plan.")] = False,
    as_json: Json = False,
) -> None:
    """Bring TABLE up to date with RAW: embed what changed, publish it in one commit."""
    with errors(as_json):
        from flows.refresh import refresh_embeddings

        parsed = parse_settings(settings)
        incomplete = None
        try:
            report = refresh_embeddings(
                raw_uri=raw_uri,
                table_uri=table_uri,
                model=model,
                text_column=text_column,
                id_column=id_column,
                keep_columns=[name.strip() for name in keep_columns.split(",") if name.strip()]
                if keep_columns
                else None,
                concurrency=concurrency,
                dry_run=dry_run,
                settings=parsed,
            )
        except IncompleteError as error:
            incomplete, report = error, error.report  # type: ignore[assignment]
        print_result(report.model_dump(mode="json"), as_json, _show_refresh)
        if incomplete is not None:
            err.print(f"error: {incomplete}", style="red", markup=False)
            raise typer.Exit(1)


def _show_refresh(report: dict[str, Any]) -> None:
    title = "plan" if report["dry_run"] else f"version {report['version']}"
    table = TextTable(title=f"{report['table_uri']} · {title}", title_justify="left", show_header=False)
    table.add_column(style="bold")
    table.add_column(justify="right")
    rate = report["num_rows_read"] / report["seconds"] if report["seconds"] else 0
    rows: list[tuple[str, str]] = [
        ("encoder", f"{report['encoder']} (dim {report['dim']})"),
        ("source objects", f"{report['num_objects']:,}"),
        ("splits to build" if report["dry_run"] else "splits built", f"{report['num_splits_built']:,}"),
        ("splits resumed", f"{report['num_splits_resumed']:,}"),
        ("splits kept", f"{report['num_splits_kept']:,}"),
        ("splits dropped", f"{report['num_splits_dropped']:,}"),
    ]
    if not report["dry_run"]:
        rows += [
            ("rows read", f"{report['num_rows_read']:,}"),
            ("rows encoded", f"{report['num_rows_encoded']:,}"),
            ("distinct texts encoded", f"{report['num_texts_encoded']:,}"),
            ("rows carried over", f"{report['num_rows_carried']:,}"),
            ("rows truncated", f"{report['num_rows_truncated']:,}"),
            ("rows rejected", f"{report['num_rows_rejected']:,}"),
            *((f"  {reason}", f"{count:,}") for reason, count in report["rejects_by_reason"].items()),
            ("rows in the table", f"{report['num_rows']:,}"),
            ("seconds", f"{report['seconds']:,.1f} ({rate:,.0f} rows/s)"),
        ]
    for name, value in rows:
        table.add_row(name, value)
    out.print(table)
    if report["run_url"]:
        out.print(f"Prefect run: {report['run_url']}", markup=False)

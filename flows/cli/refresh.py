"""``sbert refresh``."""

from collections.abc import Callable
from typing import TYPE_CHECKING, Annotated, Any

import typer
from rich.table import Table as TextTable

from flows.cli.common import (
    EngineOption,
    Json,
    RawUri,
    TableUri,
    app,
    err,
    errors,
    out,
    parse_engine,
    parse_settings,
    print_result,
)
from sbert.errors import IncompleteError, MassDeletionError

if TYPE_CHECKING:
    from sbert.job import RefreshSettings
    from sbert.report import RefreshReport


TextColumn = Annotated[str | None, typer.Option(help="Column that holds the text. [text]")]
IdColumn = Annotated[str | None, typer.Option(help="Column that holds the id. [id, else derived]")]
KeepColumns = Annotated[str | None, typer.Option(help="Source columns to keep, separated by commas.")]


@app.command()
def refresh(
    raw_uri: RawUri,
    table_uri: TableUri,
    model: Annotated[str | None, typer.Option(help="Encoder: folder, s3:// URI or hub id. [table's own]")] = None,
    text_column: TextColumn = None,
    id_column: IdColumn = None,
    keep_columns: KeepColumns = None,
    settings: Annotated[str | None, typer.Option(help="All other settings, as a JSON object or @file.json.")] = None,
    concurrency: Annotated[int, typer.Option(min=1, max=256, help="Splits that are worked on at once.")] = 2,
    allow_drop: Annotated[
        bool, typer.Option("--allow-drop", help="Accept that more than guard.max_drop_share (20 %) disappears.")
    ] = False,
    dry_run: Annotated[bool, typer.Option("--dry-run", help="Only print the plan.")] = False,
    engine: EngineOption = "local",
    as_json: Json = False,
) -> None:
    """Bring TABLE up to date with RAW: embed what changed, publish it in one commit."""
    with errors(as_json):
        from flows.refresh import refresh_embeddings

        parsed = with_columns(parse_settings(settings), text_column, id_column, keep_columns)
        print_report(
            lambda: refresh_embeddings(
                raw_uri=raw_uri,
                table_uri=table_uri,
                model=model,
                concurrency=concurrency,
                allow_drop=allow_drop,
                dry_run=dry_run,
                engine=parse_engine(engine),
                settings=parsed,
            ),
            as_json,
        )


def with_columns(
    settings: "RefreshSettings", text_column: str | None, id_column: str | None, keep_columns: str | None
) -> "RefreshSettings":
    """Give settings with the columns that were named."""
    kept = [name.strip() for name in keep_columns.split(",") if name.strip()] if keep_columns else None
    return settings.with_source(text_column=text_column, id_column=id_column, keep_columns=kept)


def print_report(run: Callable[[], "RefreshReport"], as_json: bool) -> None:
    """Run a flow and print its report, also when some objects could not be read or the guard stopped it."""
    stopped: IncompleteError | MassDeletionError | None = None
    try:
        report: Any = run()
    except (IncompleteError, MassDeletionError) as error:
        stopped, report = error, error.report
    result = report.model_dump(mode="json")
    if isinstance(stopped, MassDeletionError):
        result = {"error": {"kind": type(stopped).__name__, "message": str(stopped)}, "plan": result}
    print_result(result, as_json, lambda shown: _show_refresh(shown.get("plan", shown)))
    if stopped is not None:
        err.print(f"error: {stopped}", style="red", markup=False)
        raise typer.Exit(1)


def _show_refresh(report: dict[str, Any]) -> None:
    title = "plan" if report["dry_run"] else f"version {report['version']}"
    table = TextTable(title=f"{report['table_uri']} · {title}", title_justify="left", show_header=False)
    table.add_column(style="bold")
    table.add_column(justify="right")
    rate = report["num_rows_read"] / report["seconds"] if report["seconds"] else 0
    rows: list[tuple[str, str]] = [
        ("encoder", f"{report['encoder']} (dim {report['dim']}, {report['precision']})"),
        ("source objects", f"{report['num_objects']:,}"),
        ("splits to build" if report["dry_run"] else "splits built", f"{report['num_splits_built']:,}"),
        ("splits resumed", f"{report['num_splits_resumed']:,}"),
        ("splits kept", f"{report['num_splits_kept']:,}"),
        ("splits dropped", f"{report['num_splits_dropped']:,}"),
    ]
    if report["num_objects_lost"]:
        lost = f"{report['num_objects_lost']:,} with {report['num_rows_lost']:,} rows"
        rows.append(("objects no longer there", lost))
    if not report["dry_run"]:
        rows += [
            ("rows read", f"{report['num_rows_read']:,}"),
            ("rows encoded", f"{report['num_rows_encoded']:,}"),
            ("distinct texts encoded", f"{report['num_texts_encoded']:,}"),
            ("rows carried over", f"{report['num_rows_carried']:,}"),
            ("rows truncated", f"{report['num_rows_truncated']:,}"),
            ("rows rejected", f"{report['num_rows_rejected']:,}"),
            *((f"  {reason}", f"{count:,}") for reason, count in report["rejects_by_reason"].items()),
            *([("recall@10 against float32", report["recall_note"])] if report["recall_note"] else []),
            ("rows in the table", f"{report['num_rows']:,}"),
            ("seconds", f"{report['seconds']:,.1f} ({rate:,.0f} rows/s)"),
        ]
    rows += _estimate_rows(report)
    for name, value in rows:
        table.add_row(name, value)
    out.print(table)
    if report["run_url"]:
        out.print(f"Prefect run: {report['run_url']}", markup=False)


def _estimate_rows(report: dict[str, Any]) -> list[tuple[str, str]]:
    """Show the estimate, after a run beside the truth."""
    estimate = report["estimate"]
    if not estimate or not (report["dry_run"] or report["num_bytes_read"]):
        return []
    truth = {} if report["dry_run"] else report
    figures = [
        ("MiB to read", estimate["num_bytes"] / 2**20, truth.get("num_bytes_read", 0) / 2**20),
        ("rows to read", estimate["num_rows"], truth.get("num_rows_read")),
        ("tokens to encode, at most", estimate["num_tokens"], truth.get("num_tokens_encoded")),
        *(
            (f"seconds to {stage}", estimate["seconds"].get(stage), truth.get("stage_seconds", {}).get(stage))
            for stage in ("plan", "build", "publish")
        ),
    ]
    shown = []
    for name, expected, actual in figures:
        digits = 0 if "rows" in name or "tokens" in name else 2
        before = "not known yet" if expected is None else f"{expected:,.{digits}f}"
        shown.append((f"estimate: {name}", before if not truth else f"{before} (was {actual or 0:,.{digits}f})"))
    return shown

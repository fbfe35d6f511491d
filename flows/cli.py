"""The ``sbert`` command line: the flows and a look at what they made, without the Prefect UI.

``--json`` on any command prints one JSON object, and nothing else, on standard output. Exit status: 0 when everything
asked for was done, 1 when not, 2 for wrong usage, 130 after Ctrl-C.
"""

import json
import logging
import os
import sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Annotated, Any, NoReturn

import typer
from pydantic import ValidationError
from rich.console import Console
from rich.logging import RichHandler
from rich.table import Table as TextTable

# Before Prefect is imported: no telemetry; the UI gets every log line, the terminal the bar and our own warnings.
for _name, _value in {
    "PREFECT_SERVER_ANALYTICS_ENABLED": "false",
    "DO_NOT_TRACK": "1",
    "PREFECT_LOGGING_HANDLERS_CONSOLE_LEVEL": "CRITICAL",
    "PREFECT_LOGGING_EXTRA_LOGGERS": "sbert,flows,tasks",
    "PREFECT_SERVER_EPHEMERAL_STARTUP_TIMEOUT_SECONDS": "90",
}.items():
    os.environ.setdefault(_name, _value)

from sbert.errors import IncompleteError, SbertError  # noqa: E402

app = typer.Typer(
    add_completion=False,
    no_args_is_help=True,
    pretty_exceptions_enable=False,
    help="Sentence-BERT on Prefect: raw text in object storage becomes a table of sentence embeddings.",
)

RawUri = Annotated[str, typer.Argument(metavar="RAW_URI", help="File, folder or glob of raw text, local or s3://.")]
TableUri = Annotated[str, typer.Argument(metavar="TABLE_URI", help="Folder of the table, local or s3://.")]
Json = Annotated[bool, typer.Option("--json", help="Print one JSON object and nothing else.")]

out = Console(soft_wrap=True, highlight=False)
err = Console(stderr=True, soft_wrap=True, highlight=False)


@app.command()
def sample(
    raw_uri: Annotated[str, typer.Argument(metavar="RAW_URI", help="Folder or .jsonl file to write, local or s3://.")],
    as_json: Json = False,
) -> None:
    """Write the sample corpus: the documentation of Python's own standard library."""
    from sbert.sample import write_sample

    with _errors(as_json):
        num_documents = write_sample(raw_uri)
        _print({"raw_uri": raw_uri, "num_documents": num_documents}, as_json, _show_sample)


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
    with _errors(as_json):
        from flows.refresh import refresh_embeddings

        parsed = _settings(settings)
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
        _print(report.model_dump(mode="json"), as_json, _show_refresh)
        if incomplete is not None:
            err.print(f"error: {incomplete}", style="red", markup=False)
            raise typer.Exit(1)


@app.command()
def search(
    table_uri: TableUri,
    query: Annotated[str, typer.Argument(help="What to look for.")],
    k: Annotated[int, typer.Option("-k", min=1, help="How many rows.")] = 10,
    as_json: Json = False,
) -> None:
    """Print the rows of TABLE nearest to a query."""
    from sbert.search import search_table
    from sbert.table import Table

    with _errors(as_json):
        hits = search_table(Table.open(table_uri), query, k)
        results = [{"id": hit.id, "source": hit.source, "score": round(hit.score, 6), **hit.kept} for hit in hits]
        _print({"table_uri": table_uri, "query": query, "results": results}, as_json, _show_search)


@app.command()
def inspect(table_uri: TableUri, as_json: Json = False) -> None:
    """Print the versions, encoder, rows, shards and last run's counts of TABLE."""
    from sbert.table import Table

    with _errors(as_json):
        table = Table.open(table_uri)
        shards = table.shards()
        found = {
            "table_uri": table.uri,
            "version": table.version,
            "encoder": table.encoder.model,
            "dim": table.encoder.dim,
            "num_rows": sum(shard.num_rows for shard in shards),
            "num_shards": len(shards),
            "num_bytes": sum(shard.num_bytes for shard in shards),
            "encoder_info": table.encoder.model_dump(mode="json"),
            "columns": {field.name: str(field.type) for field in table.arrow_schema},
            "last_run": table.last_commit(),
            "versions": [
                {"version": entry.get("version"), "timestamp_ms": entry.get("timestamp"), **_recorded(entry)}
                for entry in table.history()
            ],
        }
        _print(found, as_json, _show_inspect)


def main() -> None:
    """Run the command line."""
    handler = RichHandler(console=err, show_time=False, show_path=False, show_level=True, level=logging.WARNING)
    for name in ("sbert", "flows", "tasks"):
        logging.getLogger(name).addHandler(handler)
    app()


def _settings(text: str | None) -> Any:
    from pathlib import Path

    from sbert.errors import SettingsError
    from sbert.job import RefreshSettings

    if text is None:
        return RefreshSettings()
    try:
        if text.startswith("@"):
            text = Path(text[1:]).read_text(encoding="utf-8")
        return RefreshSettings.model_validate_json(text)
    except OSError as error:
        raise SettingsError(f"--settings {text}: {error}") from error


@contextmanager
def _errors(as_json: bool) -> Iterator[None]:
    """Turn errors into one line and an exit status."""
    try:
        yield
    except KeyboardInterrupt:
        _fail(
            "stopped on request; what was finished is kept, run again to go on",
            "KeyboardInterrupt",
            130,
            as_json,
        )
    except ValidationError as error:
        problems = "; ".join(
            f"{'.'.join(map(str, item['loc'])) or 'settings'}: {item['msg']}"
            for item in error.errors(include_url=False)
        )
        _fail(problems, "SettingsError", 1, as_json)
    except SbertError as error:
        _fail(str(error), type(error).__name__, 1, as_json)


def _fail(message: str, kind: str, status: int, as_json: bool) -> NoReturn:
    if as_json:
        print(json.dumps({"error": {"kind": kind, "message": message}}, ensure_ascii=False))
    err.print(f"error: {message}", style="red", markup=False)
    raise typer.Exit(status)


def _print(result: dict[str, Any], as_json: bool, show: Callable[[dict[str, Any]], None]) -> None:
    if as_json:
        print(json.dumps(result, ensure_ascii=False, default=str))
    else:
        show(result)
    sys.stdout.flush()


def _show_sample(result: dict[str, Any]) -> None:
    out.print(f"wrote {result['num_documents']:,} documents under {result['raw_uri']}", markup=False)


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


def _show_search(result: dict[str, Any]) -> None:
    table = TextTable(title=f"nearest to: {result['query']}", title_justify="left", expand=False)
    kept = [name for hit in result["results"][:1] for name in hit if name not in {"id", "source", "score"}]
    for name, justify in (
        ("score", "right"),
        ("id", "left"),
        *((name, "left") for name in kept),
        ("source", "left"),
    ):
        table.add_column(name, justify=justify, overflow="ellipsis", max_width=60, no_wrap=True)  # type: ignore[arg-type]
    for hit in result["results"]:
        cells = [_cell(hit.get(name)) for name in kept]
        table.add_row(f"{hit['score']:.3f}", _cell(hit["id"]), *cells, _cell(hit["source"].rsplit("/", 1)[-1]))
    out.print(table)


def _cell(value: Any) -> str:
    from rich.markup import escape

    return escape(" ".join(str(value).split()))


def _show_inspect(found: dict[str, Any]) -> None:
    table = TextTable(title=found["table_uri"], title_justify="left", show_header=False)
    table.add_column(style="bold")
    table.add_column()
    info = found["encoder_info"]
    for name, value in (
        ("version", found["version"]),
        ("encoder", f"{found['encoder']} · {info['fingerprint'][:12]}"),
        (
            "vectors",
            f"dim {found['dim']} · {info['precision']} · {info['pooling']} pooling · normalized {info['normalized']}",
        ),
        ("rows", f"{found['num_rows']:,}"),
        ("shards", f"{found['num_shards']:,} ({found['num_bytes'] / 2**20:,.1f} MiB)"),
        ("columns", ", ".join(f"{name} {kind}" for name, kind in found["columns"].items())),
    ):
        table.add_row(name, _cell(value))
    out.print(table)
    versions = TextTable(title="versions", title_justify="left")
    for name in ("version", "when (UTC)", "encoder", "rows read", "encoded", "carried", "rejected", "run"):
        versions.add_column(name, justify="left" if name in {"when (UTC)", "encoder", "run"} else "right")
    import datetime as dt

    for entry in found["versions"]:
        when = dt.datetime.fromtimestamp((entry["timestamp_ms"] or 0) / 1000, dt.UTC)
        counts = [str(entry.get(f"num_rows_{name}", "")) for name in ("read", "encoded", "carried", "rejected")]
        versions.add_row(
            str(entry["version"]),
            f"{when:%Y-%m-%d %H:%M:%S}",
            _cell(entry.get("encoder", "")),
            *counts,
            str(entry.get("run_id", ""))[:8],
        )
    out.print(versions)


def _recorded(entry: dict[str, Any]) -> dict[str, Any]:
    from sbert.table import recorded_in

    return recorded_in(entry)


if __name__ == "__main__":
    main()

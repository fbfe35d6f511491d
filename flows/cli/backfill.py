"""``sbert backfill``."""

import datetime as dt
from typing import Annotated

import typer

from flows.cli.app import Panel, command
from flows.cli.options import (
    AllowDrop,
    Concurrency,
    DryRun,
    EngineOption,
    IdColumn,
    Json,
    KeepColumns,
    KeepNoColumns,
    Model,
    Passages,
    RawUri,
    SettingsJson,
    TableUri,
    TextColumn,
    parse_engine,
)
from flows.cli.output import answering
from flows.cli.prefect_server import loading_flow
from flows.cli.refresh_answer import print_report, read_job_settings


@command(Panel.JOBS, example="sbert backfill s3://bucket/raw s3://bucket/table --include 'tickets/2025-*' --force")
def backfill(
    raw_uri: RawUri,
    table_uri: TableUri,
    include: Annotated[
        list[str] | None,
        typer.Option(metavar="GLOB", help="Names of the objects to work on; repeatable.", show_default="all"),
    ] = None,
    exclude: Annotated[
        list[str] | None,
        typer.Option(metavar="GLOB", help="Names of objects to leave out; repeatable.", show_default="none"),
    ] = None,
    since: Annotated[
        dt.datetime | None,
        typer.Option(
            formats=["%Y-%m-%d"], metavar="YYYY-MM-DD", help="Only objects modified on this day or later (UTC)."
        ),
    ] = None,
    until: Annotated[
        dt.datetime | None,
        typer.Option(
            formats=["%Y-%m-%d"], metavar="YYYY-MM-DD", help="Only objects modified on this day or earlier (UTC)."
        ),
    ] = None,
    force: Annotated[bool, typer.Option("--force", help="Encode every chosen text again.")] = False,
    limit: Annotated[
        int | None,
        typer.Option(
            min=1, metavar="ROWS", help="Only this many rows, to try things on a new table.", show_default="all"
        ),
    ] = None,
    model: Model = None,
    text_column: TextColumn = None,
    id_column: IdColumn = None,
    keep_columns: KeepColumns = None,
    keep_no_columns: KeepNoColumns = False,
    passages: Passages = None,
    settings: SettingsJson = None,
    concurrency: Concurrency = 2,
    allow_drop: AllowDrop = False,
    dry_run: DryRun = False,
    engine: EngineOption = "local",
    as_json: Json = False,
) -> None:
    """Build chosen objects of RAW into TABLE; every other object keeps the rows it has."""
    with answering(as_json=as_json) as answer:
        with loading_flow():
            from flows.backfill import backfill_embeddings

            parsed = read_job_settings(settings, text_column, id_column, keep_columns, keep_no_columns, passages)
            workers = parse_engine(engine)
        print_report(
            lambda: backfill_embeddings(
                raw_uri=raw_uri,
                table_uri=table_uri,
                include=include,
                exclude=exclude,
                since=since.date() if since else None,
                until=until.date() if until else None,
                force=force,
                limit=limit,
                model=model,
                concurrency=concurrency,
                allow_drop=allow_drop,
                dry_run=dry_run,
                engine=workers,
                settings=parsed,
            ),
            answer,
        )

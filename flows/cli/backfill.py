"""``sbert backfill``."""

import datetime as dt
from typing import Annotated

import typer

from flows.cli.building import (
    AllowDrop,
    Concurrency,
    DryRun,
    IdColumn,
    KeepColumns,
    Settings,
    TextColumn,
    print_report,
    read_job_settings,
)
from flows.cli.common import EngineOption, Json, RawUri, TableUri, app, errors, parse_engine
from flows.cli.server import begin_server


@app.command()
def backfill(
    raw_uri: RawUri,
    table_uri: TableUri,
    include: Annotated[
        list[str] | None, typer.Option(help="Glob of object names to work on. [all; repeatable]")
    ] = None,
    exclude: Annotated[list[str] | None, typer.Option(help="Glob of object names to leave out. [repeatable]")] = None,
    since: Annotated[
        dt.datetime | None, typer.Option(formats=["%Y-%m-%d"], help="Objects modified on this day or later (UTC).")
    ] = None,
    until: Annotated[
        dt.datetime | None, typer.Option(formats=["%Y-%m-%d"], help="Objects modified on this day or earlier (UTC).")
    ] = None,
    force: Annotated[bool, typer.Option("--force", help="Compute every chosen vector anew.")] = False,
    limit: Annotated[int | None, typer.Option(min=1, help="Only the first rows, this many; for a new table.")] = None,
    model: Annotated[str | None, typer.Option(help="Encoder of a new table: folder, s3:// URI or hub id.")] = None,
    text_column: TextColumn = None,
    id_column: IdColumn = None,
    keep_columns: KeepColumns = None,
    settings: Settings = None,
    concurrency: Concurrency = 2,
    allow_drop: AllowDrop = False,
    dry_run: DryRun = False,
    engine: EngineOption = "local",
    as_json: Json = False,
) -> None:
    """Build chosen objects of RAW into TABLE; every other object keeps the rows it has."""
    with errors(as_json):
        wait_for_server = begin_server()
        from flows.backfill import backfill_embeddings

        parsed = read_job_settings(settings, text_column, id_column, keep_columns)
        wait_for_server()
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
                engine=parse_engine(engine),
                settings=parsed,
            ),
            as_json,
        )

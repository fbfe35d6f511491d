"""``sbert refresh``."""

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
def refresh(
    raw_uri: RawUri,
    table_uri: TableUri,
    model: Annotated[str | None, typer.Option(help="Encoder: folder, s3:// URI or hub id. [table's own]")] = None,
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
    """Bring TABLE up to date with RAW: embed what changed, publish it in one commit."""
    with errors(as_json):
        wait_for_server = begin_server()
        from flows.refresh import refresh_embeddings

        parsed = read_job_settings(settings, text_column, id_column, keep_columns)
        wait_for_server()
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

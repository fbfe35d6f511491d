"""``sbert refresh``."""

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


@command(
    Panel.JOBS, example="sbert refresh s3://bucket/raw s3://bucket/table --text-column body --keep-columns title,body"
)
def refresh(
    raw_uri: RawUri,
    table_uri: TableUri,
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
    """Bring TABLE up to date with RAW: encode changed texts, and publish them in one commit."""
    with answering(as_json=as_json) as answer:
        with loading_flow():
            from flows.refresh import refresh_embeddings

            parsed = read_job_settings(settings, text_column, id_column, keep_columns, keep_no_columns, passages)
            workers = parse_engine(engine)
        print_report(
            lambda: refresh_embeddings(
                raw_uri=raw_uri,
                table_uri=table_uri,
                model=model,
                concurrency=concurrency,
                allow_drop=allow_drop,
                dry_run=dry_run,
                engine=workers,
                settings=parsed,
            ),
            answer,
        )

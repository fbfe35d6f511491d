"""The nightly job: bring a table of embeddings up to date with the raw text it comes from.

Run it with ``sbert refresh RAW_URI TABLE_URI`` or as a Prefect deployment; `flows.running` is what it does.
"""

from typing import Annotated

from prefect import flow

from flows.engines import EngineSettings
from flows.hooks import HOOKS
from flows.parameters import AllowDrop, Concurrency, DryRun, EngineChoice, Model, RawUri, TableUri, form
from flows.running import run_job
from sbert.refresh.job import RefreshJob, RefreshSettings
from sbert.refresh.refresh_report import RefreshReport

__all__ = ["refresh_embeddings"]


@flow(name="refresh-embeddings", flow_run_name="refresh {table_uri}", persist_result=False, **HOOKS)
def refresh_embeddings(
    raw_uri: RawUri,
    table_uri: TableUri,
    model: Model = None,
    text_column: Annotated[
        str | None,
        form(title="Text column", description="Column that holds the text; empty for what the settings say (text)."),
    ] = None,
    id_column: Annotated[
        str | None,
        form(
            title="Id column",
            description="Column that holds the row's id; empty for the column id where there is one, else derived.",
        ),
    ] = None,
    keep_columns: Annotated[
        list[str] | None,
        form(
            title="Kept columns",
            description="Source columns to keep in the table; empty for what the settings say (none).",
        ),
    ] = None,
    concurrency: Concurrency = 2,
    allow_drop: AllowDrop = False,
    dry_run: DryRun = False,
    engine: EngineChoice = EngineSettings(),  # noqa: B008  (frozen)
    settings: Annotated[
        RefreshSettings, form(title="Settings", description="Cleaning, encoding, sizes.")
    ] = RefreshSettings(),  # noqa: B008  (frozen)
) -> RefreshReport:
    """Bring a table of embeddings up to date with the raw text in object storage.

    Returns:
        What was done, in numbers.

    Raises:
        IncompleteError: when objects could not be read; everything else was published, and the error has the report.
        MassDeletionError: when too much would disappear; the error has the plan.
    """
    columns = {"text_column": text_column, "id_column": id_column, "keep_columns": keep_columns}
    job = RefreshJob(
        raw_uri=raw_uri,
        table_uri=table_uri,
        model=model,
        settings=settings.with_source(**columns).allowing_drops(allow_drop),
    )
    return run_job(job, concurrency=concurrency, dry_run=dry_run, engine=engine)

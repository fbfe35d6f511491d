"""The nightly job: bring a table of embeddings up to date with the raw text it comes from.

Run it with ``sbert refresh RAW_URI TABLE_URI`` or as a Prefect deployment; `flows.refresh_steps` is what it does.
"""

from typing import Annotated

from prefect import flow

from flows.engines import EngineSettings
from flows.hooks import HOOKS
from flows.parameters import (
    AllowDrop,
    Concurrency,
    DryRun,
    EngineChoice,
    Model,
    Names,
    Passages,
    RawUri,
    RefreshSettingsField,
    TableUri,
    Text,
    completed,
    form,
    make_form,
    split_advanced,
)
from flows.refresh_steps import run_job
from flows.run_names import named_after
from sbert.refresh.job import RefreshJob
from sbert.refresh.refresh_report import RefreshReport

__all__ = ["refresh_embeddings"]


@flow(name="refresh-embeddings", flow_run_name=named_after("refresh {table_uri}"), persist_result=False, **HOOKS)
def refresh_embeddings(
    raw_uri: RawUri,
    table_uri: TableUri,
    model: Model = None,
    text_column: Annotated[
        Text,
        form(
            title="Text column",
            description="Column that holds the text, or a template over columns such as {title}. {body}. Empty: the table's "
            "own; for a new table the column text. Example: body",
        ),
    ] = None,
    id_column: Annotated[
        Text,
        form(
            title="Id column",
            description="Column that holds the row's id. Empty: the table's own; for a new table the column id if there is "
            "one, else derived from object and row number. Example: ticket_id",
        ),
    ] = None,
    keep_columns: Annotated[
        Names,
        form(
            title="Kept columns",
            description="Source columns to keep in the table. Empty: the table's own; for a new table none. "
            "Example: title",
        ),
    ] = None,
    passages: Passages = "",
    allow_drop: AllowDrop = False,
    dry_run: DryRun = False,
    settings: RefreshSettingsField = None,
    concurrency: Concurrency = 2,
    engine: EngineChoice = EngineSettings(),  # noqa: B008  (frozen)
) -> RefreshReport:
    """Bring a table of embeddings up to date with the raw text in object storage.

    Returns:
        What was done, in numbers.

    Raises:
        IncompleteError: when objects could not be read; everything else was published, and the error has the report.
        MassDeletionError: when too much would disappear; the error has the plan.
    """
    advanced = split_advanced(settings)
    columns = {"text_column": text_column, "id_column": id_column, "keep_columns": keep_columns}
    cutting = {"of": passages} if passages else None
    job = RefreshJob(
        raw_uri=raw_uri,
        table_uri=table_uri,
        model=model or advanced.model,
        settings=advanced.refresh_settings().with_source(**columns, passages=cutting).allowing_drops(allow_drop),
    )
    report = run_job(
        job, concurrency=advanced.concurrency or concurrency, dry_run=dry_run, engine=advanced.engine or engine
    )
    return completed(report, report.summary())


make_form(refresh_embeddings, "concurrency", "engine")

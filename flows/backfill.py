"""Build chosen objects of a table again; all other objects keep their rows.

Run it with ``sbert backfill RAW_URI TABLE_URI --include 'tickets/2025-*' --force`` or from the form in the Prefect UI.
`flows.refresh_steps` does the work.
"""

from typing import Annotated

from prefect import flow
from pydantic import Field

from flows.engines import EngineSettings
from flows.hooks import HOOKS
from flows.parameters import (
    AllowDrop,
    Concurrency,
    Day,
    DryRun,
    EngineChoice,
    Names,
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
from sbert.refresh.backfill_selection import Selection
from sbert.refresh.job import RefreshJob
from sbert.refresh.refresh_report import RefreshReport

__all__ = ["backfill_embeddings"]

MAX_ROWS = 1_000_000_000_000


@flow(name="backfill-embeddings", flow_run_name=named_after("backfill {table_uri}"), persist_result=False, **HOOKS)
def backfill_embeddings(
    raw_uri: RawUri,
    table_uri: TableUri,
    include: Annotated[
        Names,
        form(
            title="Include",
            description="Globs of object names to work on: the path below the raw folder, the file name or the whole URI "
            "(* crosses folders). Empty: all objects. Example: tickets/2025-*",
        ),
    ] = None,
    since: Annotated[
        Day,
        form(
            title="Since",
            description="Only objects modified on this day or later (UTC). Empty: no bound. Example: 2026-11-01",
        ),
    ] = None,
    until: Annotated[
        Day,
        form(
            title="Until",
            description="Only objects modified on this day or earlier (UTC). Empty: no bound. Example: 2026-11-30",
        ),
    ] = None,
    limit: Annotated[
        Annotated[int, Field(ge=1, le=MAX_ROWS)] | None,
        form(
            title="Limit",
            description="Only this many rows, the first of the chosen objects in order of their names, to try things on a "
            "new table. Empty: all rows. Example: 1000",
        ),
    ] = None,
    force: Annotated[
        bool, form(title="Force", description="Compute every vector of the chosen objects anew; reuse none.")
    ] = False,
    allow_drop: AllowDrop = False,
    dry_run: DryRun = False,
    settings: RefreshSettingsField = None,
    exclude: Annotated[
        Names, form(title="Exclude", description="Globs of object names to leave out; stronger than include.")
    ] = None,
    model: Annotated[
        Text,
        form(
            title="Model",
            description="Sentence encoder of a new table: folder, s3:// URI or hub id. A table that is there keeps its "
            "encoder.",
        ),
    ] = None,
    concurrency: Concurrency = 2,
    engine: EngineChoice = EngineSettings(),  # noqa: B008  (frozen)
) -> RefreshReport:
    """Build the chosen objects of the raw text; every other object keeps the rows it has in the table.

    Returns:
        What was done, in numbers.

    Raises:
        SettingsError: a combination that cannot work; nothing was done.
        EmptySourceError: nothing is chosen.
        IncompleteError: when objects could not be read; everything else was published, and the error has the report.
    """
    advanced = split_advanced(settings)
    selection = Selection(
        include=tuple(include or ()),
        exclude=tuple(exclude or advanced.exclude or ()),
        since=since,
        until=until,
        limit=limit,
    )
    job = RefreshJob(
        raw_uri=raw_uri,
        table_uri=table_uri,
        model=model or advanced.model,
        settings=advanced.refresh_settings().allowing_drops(allow_drop),
        selection=selection,
        force=force,
    )
    report = run_job(
        job, concurrency=advanced.concurrency or concurrency, dry_run=dry_run, engine=advanced.engine or engine
    )
    return completed(report, report.summary())


make_form(backfill_embeddings, "exclude", "model", "concurrency", "engine")

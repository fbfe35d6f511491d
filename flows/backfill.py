"""Redo a part of a table on purpose: chosen objects only, and nothing outside the choice is touched.

Run it with ``sbert backfill RAW_URI TABLE_URI --include 'tickets/2025-*' --force`` or from the form in the Prefect UI;
`flows.running` is what it does.
"""

import datetime as dt
from typing import Annotated

from prefect import flow

from flows.engines import EngineSettings
from flows.hooks import HOOKS
from flows.parameters import AllowDrop, Concurrency, DryRun, EngineChoice, RawUri, TableUri, form
from flows.running import run_job
from sbert.refresh.backfill_selection import Selection
from sbert.refresh.job import RefreshJob, RefreshSettings
from sbert.refresh.refresh_report import RefreshReport

__all__ = ["backfill_embeddings"]


@flow(name="backfill-embeddings", flow_run_name="backfill {table_uri}", persist_result=False, **HOOKS)
def backfill_embeddings(
    raw_uri: RawUri,
    table_uri: TableUri,
    include: Annotated[
        list[str] | None,
        form(
            title="Include",
            description="Globs of object names to work on: the path below the raw folder, the file name or the whole URI "
            "(* crosses folders); empty for all.",
        ),
    ] = None,
    exclude: Annotated[
        list[str] | None,
        form(title="Exclude", description="Globs of object names to leave out; stronger than include."),
    ] = None,
    since: Annotated[
        dt.date | None,
        form(title="Since", description="Only objects modified on this day or later (UTC); empty for no bound."),
    ] = None,
    until: Annotated[
        dt.date | None,
        form(title="Until", description="Only objects modified on this day or earlier (UTC); empty for no bound."),
    ] = None,
    force: Annotated[
        bool,
        form(title="Force", description="Compute every vector of the chosen objects anew, carry none over."),
    ] = False,
    limit: Annotated[
        int | None,
        form(
            title="Limit",
            ge=1,
            le=1_000_000_000_000,
            description="Only this many rows, the first of the chosen objects in the order of their names; for trying "
            "things on a new table. Empty for all (rows).",
        ),
    ] = None,
    model: Annotated[
        str | None,
        form(
            title="Model",
            description="Sentence encoder of a new table: folder, s3:// URI or hub id; empty for the table's own. A "
            "table that is there keeps its encoder.",
        ),
    ] = None,
    concurrency: Concurrency = 2,
    allow_drop: AllowDrop = False,
    dry_run: DryRun = False,
    engine: EngineChoice = EngineSettings(),  # noqa: B008  (frozen)
    settings: Annotated[
        RefreshSettings,
        form(title="Settings", description="Columns, cleaning, encoding, sizes: as in the table's refresh."),
    ] = RefreshSettings(),  # noqa: B008  (frozen)
) -> RefreshReport:
    """Build the chosen objects of the raw text; every other object keeps the rows it has in the table.

    Returns:
        What was done, in numbers.

    Raises:
        SettingsError: a combination that cannot work; nothing was done.
        EmptySourceError: nothing is chosen.
        IncompleteError: when objects could not be read; everything else was published, and the error has the report.
    """
    chosen = Selection(
        include=tuple(include or ()), exclude=tuple(exclude or ()), since=since, until=until, limit=limit
    )
    job = RefreshJob(
        raw_uri=raw_uri,
        table_uri=table_uri,
        model=model,
        settings=settings.allowing_drops(allow_drop),
        selection=chosen,
        force=force,
    )
    return run_job(job, concurrency=concurrency, dry_run=dry_run, engine=engine)

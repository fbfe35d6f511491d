"""The nightly job: bring a table of embeddings up to date with the raw text it comes from.

Reads as: plan, build the missing splits, settle, publish, report. Run it with ``sbert refresh RAW_URI TABLE_URI`` or as
a Prefect deployment. A run that is killed anywhere is resumed by running again.
"""

import datetime as dt
import logging
import time
import uuid

from prefect import flow
from prefect.runtime import flow_run

from flows.building import build_splits
from flows.engines import Engine, EngineSettings
from flows.hooks import HOOKS
from sbert.build import build_context
from sbert.counts import RowCounts
from sbert.errors import CommitConflictError, IncompleteError
from sbert.job import RefreshJob, RefreshSettings
from sbert.plan import Plan
from sbert.publish import Changes, duplicate_ids_across_splits
from sbert.report import RefreshReport
from sbert.table import Table
from tasks.plan import plan_refresh
from tasks.publish import publish_table, settle_splits
from tasks.report import announce_plan, record_metrics, report_refresh, run_url

__all__ = ["refresh_embeddings"]

log = logging.getLogger(__name__)

MAX_ATTEMPTS = 5
"""Times that a run plans anew because another run committed first."""


@flow(name="refresh-embeddings", flow_run_name="refresh {table_uri}", persist_result=False, **HOOKS)
def refresh_embeddings(
    raw_uri: str,
    table_uri: str,
    model: str | None = None,
    text_column: str | None = None,
    id_column: str | None = None,
    keep_columns: list[str] | None = None,
    concurrency: int = 2,
    dry_run: bool = False,
    engine: EngineSettings = EngineSettings(),  # noqa: B008  (frozen)
    settings: RefreshSettings = RefreshSettings(),  # noqa: B008  (frozen)
) -> RefreshReport:
    """Bring a table of embeddings up to date with the raw text in object storage.

    Args:
        raw_uri: File, folder or glob of raw text, local or s3:// (.jsonl, .csv, .parquet, .txt, plain, .gz or .zst).
        table_uri: Folder of the table, local or s3://.
        model: Sentence encoder: folder, s3:// URI or hub id; empty for the table's own, or the packaged default.
        text_column: Column that holds the text; empty for what the settings say (text).
        id_column: Column that holds the row's id; empty for the column id where there is one, else derived.
        keep_columns: Source columns to keep in the table; empty for what the settings say (none).
        concurrency: Splits that are worked on at once.
        dry_run: Only plan.
        engine: Where splits are built: threads of this process, a Ray or a Dask cluster.
        settings: Cleaning, encoding, sizes.

    Returns:
        What was done, in numbers.

    Raises:
        IncompleteError: when objects could not be read; everything else was published, and the error has the report.
    """
    began, started = time.monotonic(), dt.datetime.now(dt.UTC)
    columns = {"text_column": text_column, "id_column": id_column, "keep_columns": keep_columns}
    job = RefreshJob(raw_uri=raw_uri, table_uri=table_uri, model=model, settings=settings.with_source(**columns))
    run_id = str(flow_run.get_id() or uuid.uuid4())
    read_in_this_run: dict[str, RowCounts] = {}
    workers = Engine(EngineSettings.model_validate(engine), concurrency)
    try:
        for attempt in range(1, MAX_ATTEMPTS + 1):
            plan = plan_refresh(job)
            announce_plan(plan, "refresh")
            if dry_run:
                report = RefreshReport.of_plan(plan)
                break
            changes = build(plan, job.settings, run_id, workers)
            read_in_this_run |= {item.fingerprint: item.counts for item in changes.add if item.run_id == run_id}
            counts = RowCounts.total(read_in_this_run.values()).check(f"run {run_id}")
            try:
                version = publish_table(
                    plan, changes, job.settings, counts, {"run_id": run_id, "encoder": plan.encoder.model}
                )
            except CommitConflictError:
                if attempt == MAX_ATTEMPTS:
                    raise
                log.warning("another run committed first; planning anew (attempt %d of %d)", attempt, MAX_ATTEMPTS)
                continue
            report = RefreshReport.of_run(
                plan,
                changes,
                counts,
                run_id=run_id,
                version=version,
                num_rows=Table.open(plan.table_uri, version).num_rows,
                seconds=time.monotonic() - began,
            )
            break
    finally:
        workers.close(run_id)
    report = report.model_copy(update={"run_url": run_url(run_id)})
    report_refresh(report)
    if not dry_run:
        record_metrics(report, started, run_id, workers.settings.kind.value, concurrency)
    if report.broken_objects:
        raise IncompleteError(
            f"{len(report.broken_objects)} of {report.num_objects} objects could not be read, the table keeps their "
            f"earlier rows; everything else is in version {report.version}: {next(iter(report.broken_objects))}",
            report,
        )
    return report


def build(plan: Plan, settings: RefreshSettings, run_id: str, workers: Engine) -> Changes:
    """Build the missing splits, then once more those slices that have an id of a later slice."""
    context = build_context(plan, settings, run_id)
    results = build_splits(plan.build, context, workers)
    changes = settle_splits(plan, results, run_id)
    excluded = duplicate_ids_across_splits(plan, changes)
    if not excluded:
        return changes
    again = [result.planned for result in results if result.planned.fingerprint in excluded]
    rebuilt = build_splits(again, context, workers, excluded)
    others = [result for result in results if result.planned.fingerprint not in excluded]
    return settle_splits(plan, [*others, *rebuilt], run_id)

"""Tell the Prefect server that a table has a new version, so that deployments which follow it can start."""

from prefect import task
from prefect.cache_policies import NO_CACHE
from prefect.events import emit_event

from sbert.refresh.refresh_report import RefreshReport

__all__ = ["TABLE_PUBLISHED", "announce_version"]

TABLE_PUBLISHED = "sbert.table.published"


@task(name="announce version", cache_policy=NO_CACHE)
def announce_version(report: RefreshReport) -> None:
    """Emit `sbert.table.published` with the version and counts.

    A lost event costs only time: a program that follows a table compares versions, and also does so on a schedule.
    """
    emit_event(
        event=TABLE_PUBLISHED,
        resource={
            "prefect.resource.id": f"sbert.table.{report.table_uri}",
            "prefect.resource.name": report.table_uri,
            "sbert.version": str(report.version),
        },
        payload=report.model_dump(
            mode="json",
            include={
                "table_uri", "raw_uri", "version", "encoder", "encoder_fingerprint", "dim", "num_rows", "num_rows_read",
                "num_rows_encoded", "num_rows_carried", "num_rows_rejected", "num_splits_built", "num_splits_dropped",
                "run_url",
            },
        ),
    )  # fmt: skip

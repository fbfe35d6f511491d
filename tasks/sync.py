"""Follow a table with a vector store, prove it, and leave a report."""

from prefect import task
from prefect.artifacts import create_markdown_artifact
from prefect.blocks.system import Secret
from prefect.cache_policies import NO_CACHE

from sbert.errors import DestinationError
from sbert.storage.redaction import redact
from sbert.sync.follow import SyncReport, sync
from sbert.sync.reconcile import ReconcileReport, reconcile
from sbert.table.delta import Table
from sbert.table.followers import followers_of
from tasks.markdown import escaped, markdown_table
from tasks.retries import RETRIED

__all__ = ["compare_rows", "load_secret", "report_comparison", "report_sync", "sync_rows"]


@task(name="sync rows", **RETRIED)
def sync_rows(table_uri: str, destination: str, credentials: str | None, *, prove: bool, replace: bool) -> SyncReport:
    """Write changed rows; `credentials` names a Prefect Secret block."""
    return sync(table_uri, destination, prove=prove, replace=replace, secret=load_secret(credentials))


@task(name="compare rows", **RETRIED)
def compare_rows(
    table_uri: str, destination: str, credentials: str | None, *, repair: bool, recompute: bool
) -> ReconcileReport:
    """Compare every row; `credentials` names a Prefect Secret block."""
    return reconcile(
        table_uri, destination, repair_differences=repair, recompute=recompute, secret=load_secret(credentials)
    )


def load_secret(block_name: str | None) -> str | None:
    """Load a secret here, in the process that needs it: it is not a parameter, so Prefect does not store it."""
    if not block_name:
        return None
    try:
        return str(Secret.load(block_name).get())  # type: ignore[union-attr]
    except ValueError as error:
        raise DestinationError(
            f"the Prefect Secret block {block_name!r} cannot be loaded: {error}: create it under Blocks in the UI"
        ) from error


@task(name="report sync", cache_policy=NO_CACHE)
def report_sync(report: SyncReport) -> None:
    """Leave a report of the sync as a Markdown artifact."""
    rows = [
        ("destination", f"`{escaped(report.destination)}`"),
        ("collection", f"`{escaped(report.collection)}`"),
        ("from version", "nothing" if report.from_version is None else str(report.from_version)),
        ("to version", str(report.to_version)),
        ("found by", escaped(f"{report.method}{f' ({report.why})' if report.why else ''}")),
        ("rows written", f"{report.num_upserts:,}"),
        ("rows removed", f"{report.num_deletes:,}"),
        ("rows now", f"{report.num_rows:,}"),
        ("readers switched", "yes" if report.is_switched else "no"),
        ("every row proven equal", "yes" if report.is_proven else "no"),
        *_followers(report.table_uri, report.destination),
        ("seconds", f"{report.seconds:,.1f}"),
    ]
    markdown = f"# Sync of `{escaped(report.table_uri)}`\n\n{markdown_table(('', ''), rows)}"
    create_markdown_artifact(key="sync-report", markdown=markdown, description=report.destination)


def _followers(table_uri: str, destination: str) -> list[tuple[str, str]]:
    """Return how far a destination is, as rows of a report."""
    return [
        row
        for state in followers_of(Table.open(table_uri))
        if state.name == redact(destination)
        for row in (
            ("lag behind the newest version", state.describe_lag()),
            ("coverage", state.describe_coverage()),
            ("age of the newest rows", state.describe_age()),
            ("last proof", state.describe_proof()),
        )
    ]


@task(name="report comparison", cache_policy=NO_CACHE)
def report_comparison(report: ReconcileReport) -> None:
    """Leave a report of the comparison as a Markdown artifact."""
    verdict = "equal" if report.was_equal else "mended" if report.is_repaired else "different"
    rows = [
        ("destination", f"`{escaped(report.destination)}`"),
        ("compared with version", f"{report.version} (the newest is {report.newest_version})"),
        ("rows compared", f"{report.num_rows:,}"),
        ("missing", f"{report.num_missing:,}"),
        ("stale", f"{report.num_stale:,}"),
        ("extra", f"{report.num_extra:,}"),
        *_followers(report.table_uri, report.destination),
        ("seconds", f"{report.seconds:,.1f}"),
    ]
    sections = [f"# {verdict.capitalize()}: `{escaped(report.destination)}`", markdown_table(("", ""), rows)]
    for kind in ("missing", "stale", "extra"):
        keys = [(escaped(key.source), escaped(key.id)) for key in getattr(report, kind)]
        if keys:
            sections += [f"## First {kind} rows", markdown_table(("source", "id"), keys)]
    create_markdown_artifact(
        key="reconcile-report", markdown="\n\n".join(sections), description=f"{verdict}: {report.destination}"
    )

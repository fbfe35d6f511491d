"""Show a run in the Prefect UI: progress while it goes, tables when it is done."""

import datetime as dt
from collections.abc import Sequence
from uuid import UUID

from prefect import task
from prefect.artifacts import create_markdown_artifact, create_progress_artifact, update_progress_artifact
from prefect.cache_policies import NO_CACHE
from prefect.client.orchestration import get_client
from prefect.runtime import flow_run
from prefect.settings import PREFECT_UI_URL

from sbert.refresh.plan import Plan
from sbert.refresh.refresh_report import RefreshReport
from sbert.refresh.run_metrics import record_run
from sbert.refresh.table_settings import SettingChange
from sbert.storage.files import base_name
from tasks.markdown import escaped, markdown_table
from tasks.retries import RETRIED

__all__ = [
    "announce_plan",
    "open_progress",
    "record_metrics",
    "report_refresh",
    "run_url",
    "show_progress",
]

PLAN_SPLITS = 50
"""Splits that a plan's artifact lists."""
LOCAL_UI_URL = "http://127.0.0.1:4200"


def open_progress(description: str) -> UUID:
    """Begin a progress artifact of the current flow run."""
    created = create_progress_artifact(progress=0.0, description=description)
    assert isinstance(created, UUID)
    return created


def show_progress(artifact: UUID, share: float, description: str) -> None:
    """Update a progress artifact; `share` is between 0 and 1."""
    update_progress_artifact(artifact, progress=round(100 * share, 1), description=description)


def run_url(run_id: str) -> str:
    """Give the address of a flow run in the UI; without a configured server the one that `make ui` starts."""
    base = PREFECT_UI_URL.value() or LOCAL_UI_URL
    return f"{base.rstrip('/')}/runs/flow-run/{run_id}"


def announce_plan(plan: Plan, verb: str) -> None:
    """Name the current flow run after what it has to do, and leave the plan as an artifact."""
    num_changed = len(plan.build) + len(plan.resume)
    changed = f"{num_changed:,} of {num_changed + len(plan.keep):,} splits changed"
    name = f"{verb} {base_name(plan.table_uri)} · {changed}"
    run_id = flow_run.get_id()
    if run_id is not None:
        with get_client(sync_client=True) as client:
            client.update_flow_run(UUID(run_id), name=name)
    create_markdown_artifact(key="plan", markdown=plan_markdown(plan, name), description=changed)


def changes_section(changes: Sequence[SettingChange]) -> list[str]:
    """Return what a run changes about the table itself as Markdown; nothing when it changes nothing."""
    if not changes:
        return []
    rows = [
        (f"`{escaped(item.name)}`", f"{escaped(item.shown_before)} → {escaped(item.shown_after)}") for item in changes
    ]
    return ["## Changes of the table", markdown_table(("setting", "before → after"), rows)]


def plan_markdown(plan: Plan, name: str) -> str:
    """Give a plan as Markdown tables; text from the source is escaped."""
    num_bytes = plan.num_bytes_to_read
    rows = [
        ("to build", f"{len(plan.build):,} ({num_bytes / 2**20:,.1f} MiB of raw text)"),
        ("finished by an earlier run, to publish", f"{len(plan.resume):,}"),
        ("to keep", f"{len(plan.keep):,}"),
        ("to drop", f"{len(plan.leaving):,}"),
    ]
    shown = [(f"`{escaped(item.split.name)}`", f"{item.split.num_bytes:,}") for item in plan.build[:PLAN_SPLITS]]
    more = len(plan.build) - len(shown)
    sections = [
        f"# {escaped(name)}",
        f"`{escaped(plan.raw_uri)}` → `{escaped(plan.table_uri)}`, "
        f"{'a new table' if plan.base_version is None else f'version {plan.base_version}'}, "
        f"encoder `{escaped(plan.encoder.model)}`",
        markdown_table(("splits", "count"), rows),
        *changes_section(plan.changes),
    ]
    if shown:
        sections += ["## To build", markdown_table(("split", "bytes"), shown), f"… and {more:,} more" if more else ""]
    return "\n\n".join(sections)


@task(name="record metrics", **RETRIED)
def record_metrics(report: RefreshReport, started: dt.datetime, run_id: str, engine: str, concurrency: int) -> str:
    """Write the run's metrics beside the table."""
    return record_run(report, started, run_id=run_id, engine=engine, concurrency=concurrency)


@task(name="report refresh", cache_policy=NO_CACHE)
def report_refresh(report: RefreshReport) -> None:
    """Leave the run's counts, rates and rejects as a Markdown artifact."""
    create_markdown_artifact(key="refresh-report", markdown=report_markdown(report), description=report.table_uri)


def report_markdown(report: RefreshReport) -> str:
    """Give a report as Markdown tables; text from the source is escaped."""
    rate = report.num_rows_read / report.seconds if report.seconds else 0.0
    sections = [
        f"# {'Plan for' if report.dry_run else 'Refresh of'} `{escaped(report.table_uri)}`",
        markdown_table(
            ("what", "value"),
            [
                ("source", f"`{escaped(report.raw_uri)}` ({report.num_objects:,} objects)"),
                ("table version", str(report.version)),
                (
                    "encoder",
                    f"`{escaped(report.encoder)}` (dim {report.dim}, {report.encoder_fingerprint[:12]})",
                ),
                ("precision", report.precision.value),
                *([("recall@10 against float32", report.recall_note)] if report.recall_note else []),
                ("seconds", f"{report.seconds:,.1f}"),
                ("rows per second", f"{rate:,.0f}"),
            ],
        ),
        "## Rows",
        markdown_table(
            ("rows", "count"),
            [
                ("read", f"{report.num_rows_read:,}"),
                ("encoded", f"{report.num_rows_encoded:,} ({report.num_texts_encoded:,} distinct texts)"),
                ("carried over", f"{report.num_rows_carried:,}"),
                ("rejected", f"{report.num_rows_rejected:,}"),
                ("truncated", f"{report.num_rows_truncated:,}"),
                ("in the table now", "" if report.num_rows is None else f"{report.num_rows:,}"),
            ],
        ),
        "## Splits",
        markdown_table(
            ("splits", "count"),
            [
                ("built", f"{report.num_splits_built:,}"),
                ("resumed", f"{report.num_splits_resumed:,}"),
                ("kept", f"{report.num_splits_kept:,}"),
                ("dropped", f"{report.num_splits_dropped:,}"),
            ],
        ),
    ]
    sections += changes_section(report.changes)
    if estimates := _estimate_rows(report):
        sections += ["## Estimate and truth", markdown_table(("estimate", "truth"), estimates)]
    if report.rejects_by_reason:
        rejects = [(reason, f"{count:,}") for reason, count in report.rejects_by_reason.items()]
        sections += ["## Rejected rows by reason", markdown_table(("reason", "rows"), rejects)]
    if report.broken_objects:
        broken = [(escaped(uri), escaped(why)) for uri, why in report.broken_objects.items()]
        sections += ["## Objects that could not be read", markdown_table(("object", "why"), broken)]
    return "\n\n".join(sections)


def _estimate_rows(report: RefreshReport) -> list[tuple[str, str]]:
    return [
        (
            f"{name}: {'not known yet' if expected is None else f'{expected:,.6g}'}",
            "" if report.dry_run else f"{actual:,.6g}",
        )
        for name, expected, actual in report.estimate_and_truth()
    ]

"""Show a refresh or backfill in the Prefect UI: the run's name, its plan, its report."""

import datetime as dt
from collections.abc import Sequence
from uuid import UUID

from prefect import task
from prefect.artifacts import create_markdown_artifact
from prefect.cache_policies import NO_CACHE
from prefect.client.orchestration import get_client
from prefect.runtime import flow_run

from sbert.counted import counted
from sbert.refresh.backfill_selection import Selection
from sbert.refresh.plan import Plan
from sbert.refresh.refresh_report import RefreshReport
from sbert.refresh.run_metrics import record_run
from sbert.storage.files import base_name
from sbert.table.delta import Table
from sbert.table.followers import FollowerState, followers_of
from tasks.markdown import render
from tasks.retries import RETRIED

__all__ = ["announce_plan", "describe_choice", "record_metrics", "report_markdown", "report_refresh"]

MAX_SPLITS = 50
"""Splits that a plan's artifact lists."""


def announce_plan(plan: Plan) -> None:
    """Name the current flow run after its work, unless a person named it, and leave the plan as an artifact."""
    name = f"{plan.job.operation} {base_name(plan.table_uri)} · {describe_work(plan)}"
    run_id = flow_run.get_id()
    # A name that a person gave the run stays (see `flows.run_names`).
    if run_id is not None and str(flow_run.get_name()).startswith(f"{plan.job.operation} "):
        with get_client(sync_client=True) as client:
            client.update_flow_run(UUID(run_id), name=name)
    create_markdown_artifact(key="plan", markdown=plan_markdown(plan, name), description=describe_work(plan))


def describe_work(plan: Plan) -> str:
    """Return how many splits the run builds or publishes, of how many, and why.

    For example "1 of 3 splits (changed object)" or "4 of 9 splits (2 forced, 1 new object, 1 resumed)".
    """
    numbers = {reason.value: number for reason, number in plan.splits_by_reason.items()}
    if plan.resume:
        numbers["resumed"] = len(plan.resume)
    num_splits = sum(numbers.values())
    if not numbers:
        reasons = "nothing to build"
    elif len(numbers) == 1:
        reasons = next(iter(numbers))
    else:
        reasons = ", ".join(f"{number:,} {reason}" for reason, number in numbers.items())
    return f"{num_splits:,} of {counted(num_splits + plan.outlook.num_kept, 'split')} ({reasons})"


def describe_choice(selection: Selection | None, *, force: bool) -> str:
    """Return the objects and rows that a backfill chose, in words; empty for a refresh."""
    if selection is None:
        return ""
    return ", ".join(
        [*(selection.describe() or ["everything"]), *(["every vector computed anew (force)"] if force else [])]
    )


def plan_markdown(plan: Plan, name: str) -> str:
    """Return a plan as Markdown tables."""
    choice = describe_choice(plan.job.selection, force=plan.job.force)
    return render("plan.md.j2", plan=plan, name=name, chosen=choice, max_splits=MAX_SPLITS)


@task(name="record metrics", **RETRIED)
def record_metrics(report: RefreshReport, started: dt.datetime, run_id: str, engine: str, concurrency: int) -> str:
    """Write the run's metrics beside the table."""
    return record_run(report, started, run_id=run_id, engine=engine, concurrency=concurrency)


@task(name="report refresh", cache_policy=NO_CACHE)
def report_refresh(report: RefreshReport) -> None:
    """Leave the run's counts, rates and rejects, and how far the table's consumers are, as a Markdown artifact."""
    followers = [] if report.version is None else followers_of(Table.open(report.table_uri))
    create_markdown_artifact(
        key="refresh-report", markdown=report_markdown(report, followers), description=report.table_uri
    )


def report_markdown(report: RefreshReport, followers: Sequence[FollowerState] = ()) -> str:
    """Return a report as Markdown tables."""
    title = f"Plan of a {report.operation} of" if report.dry_run else f"{report.operation.capitalize()} of"
    return render(
        "refresh.md.j2",
        report=report,
        title=title,
        chosen=describe_choice(report.selection, force=report.force),
        figures=report.estimate_and_actual(),
        followers=followers,
    )

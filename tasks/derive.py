"""The parts of a run on a derived table, and its report."""

from collections.abc import Sequence

from prefect import task
from prefect.artifacts import create_markdown_artifact
from prefect.cache_policies import NO_CACHE
from prefect.events import emit_event
from prefect.runtime import task_run

from sbert.counted import counted
from sbert.derived.build import DerivationContext, deriver_for
from sbert.derived.job import DerivedJob
from sbert.derived.plan import DerivedPlan, PlannedDerivation, plan_derived
from sbert.derived.records import DerivedRecord
from sbert.derived.run import DerivedReport, commit_plan
from tasks.markdown import escaped, report_markdown
from tasks.publish import Opaque
from tasks.retries import RETRIED

__all__ = ["DERIVED_PUBLISHED", "DerivedAssignment", "commit_output", "derive_splits", "plan_output", "report_derived"]

DERIVED_PUBLISHED = "sbert.derived.published"


class DerivedAssignment:
    """A group of splits for one worker; a plain class, which Prefect does not search for futures."""

    def __init__(self, splits: Sequence[PlannedDerivation], context: DerivationContext) -> None:
        """Store a group of splits with the context that builds it."""
        self.splits = tuple(splits)
        self.context = context

    @property
    def name(self) -> str:
        """Number of splits and rows, for people."""
        return (
            f"{counted(len(self.splits), 'split')}, {counted(sum(planned.num_rows for planned in self.splits), 'row')}"
        )


@task(name="plan derived table", **RETRIED)
def plan_output(job: DerivedJob, table_uri: str, out_uri: str, run_id: str) -> Opaque[DerivedPlan]:
    """Find the splits to build, to take over, to keep and to drop."""
    return Opaque(plan_derived(job, table_uri, out_uri, run_id))


@task(name="derive splits", task_run_name="derive {assignment.name}", **RETRIED)
def derive_splits(assignment: DerivedAssignment) -> list[DerivedRecord]:
    """Write shards and completion record of each split."""
    return deriver_for(assignment.context).build_group(assignment.splits, attempt=task_run.run_count or 1)


@task(name="publish derived table", **RETRIED)
def commit_output(job: DerivedJob, plan: Opaque[DerivedPlan], records: Opaque[Sequence[DerivedRecord]]) -> int:
    """Commit; return the version of the derived table."""
    return commit_plan(job, plan.value, records.value)


@task(name="report derived", cache_policy=NO_CACHE)
def report_derived(report: DerivedReport) -> None:
    """Leave the report as a Markdown artifact, and emit `sbert.derived.published` for jobs that read the output.

    The event names the version that the output has now, also when the run changed nothing: a job that follows it compares
    versions by itself.
    """
    rows = [
        ("embeddings table", f"`{escaped(report.table_uri)}` version {report.table_version}"),
        ("encoder", f"`{escaped(report.encoder)}`"),
        ("version now", str(report.version)),
        ("rows", f"{report.num_rows:,}"),
        ("rows computed", f"{report.num_rows_built:,}"),
        ("shards built", f"{report.num_shards_built:,}"),
        ("shards taken over", f"{report.num_shards_resumed:,}"),
        ("shards kept", f"{report.num_shards_kept:,}"),
        ("shards dropped", f"{report.num_shards_dropped:,}"),
        ("seconds", f"{report.seconds:,.1f}"),
    ]
    markdown = report_markdown(f"{escaped(report.job).capitalize()}:", report.out_uri, rows)
    create_markdown_artifact(key=f"{report.job}-report", markdown=markdown, description=report.out_uri)
    emit_event(
        event=DERIVED_PUBLISHED,
        resource={
            "prefect.resource.id": f"sbert.derived.{report.out_uri}",
            "prefect.resource.name": report.out_uri,
            "sbert.version": str(report.version),
        },
        payload=report.model_dump(mode="json"),
    )

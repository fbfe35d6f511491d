"""Fit the relator of names, and leave a report of the relations."""

from prefect import task
from prefect.artifacts import create_markdown_artifact

from sbert.apply.relations.job import RelationsJob
from sbert.apply.relations.run import RelationsReport, count_relations, relations_job
from sbert.apply.relations.settings import RelationSettings
from sbert.derived.run import DerivedReport
from tasks.markdown import escaped, markdown_table, report_markdown
from tasks.retries import RETRIED

__all__ = ["fit_name_relator", "report_relations"]


@task(name="fit relator", **RETRIED)
def fit_name_relator(table_uri: str, labels_uri: str, out_uri: str, settings: RelationSettings) -> RelationsJob:
    """Fit the relator; a retry finds the relator that is fitted."""
    return relations_job(table_uri, labels_uri, out_uri, settings)


@task(name="report relations", **RETRIED)
def report_relations(output: DerivedReport, job: RelationsJob) -> RelationsReport:
    """Count the relations, and leave the counts as a Markdown artifact."""
    report = count_relations(output, job)
    properties = [
        ("labelled pairs", f"{sum(report.num_labelled_pairs.values()):,}"),
        ("labelled pairs that have no relation", f"{report.num_labelled_none:,}"),
        ("labelled pairs that get their relation ↑", f"{report.found:.1%}"),
        ("other pairs that get no relation ↑", f"{report.kept_out:.1%}"),
        ("rows with relations", f"{report.num_rows_with_relations:,} of {output.num_rows:,}"),
    ]
    relations = [
        (escaped(f"{each.relation}: {'; '.join(each.examples)}"), f"{each.num_pairs:,}") for each in report.relations
    ]
    counts = markdown_table(("relation and its surest pairs", "pairs"), relations)
    markdown = report_markdown("Relations:", output.out_uri, properties, counts)
    create_markdown_artifact(key="relations", markdown=markdown, description=output.out_uri)
    return report

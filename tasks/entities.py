"""Fit the tagger of entities, and leave a report of the entities."""

from prefect import task
from prefect.artifacts import create_markdown_artifact

from sbert.apply.entities.job import EntitiesJob
from sbert.apply.entities.run import EntitiesReport, count_entities, entities_job
from sbert.apply.entities.settings import EntitySettings
from sbert.derived.run import DerivedReport
from tasks.markdown import escaped, markdown_table, report_markdown
from tasks.retries import RETRIED

__all__ = ["fit_entity_tagger", "report_entities"]


@task(name="fit tagger", **RETRIED)
def fit_entity_tagger(table_uri: str, labels_uri: str, out_uri: str, settings: EntitySettings) -> EntitiesJob:
    """Fit the tagger; a retry finds the tagger that is fitted."""
    return entities_job(table_uri, labels_uri, out_uri, settings)


@task(name="report entities", **RETRIED)
def report_entities(output: DerivedReport, job: EntitiesJob) -> EntitiesReport:
    """Count the entities, and leave the counts as a Markdown artifact."""
    report = count_entities(output, job)
    properties = [
        ("labelled texts", f"{report.num_labelled_texts:,}"),
        ("base texts", f"{report.num_base_texts:,}"),
        ("tuned layers of the encoder", escaped(report.frozen_encoder or f"{report.num_tuned_layers}")),
        ("rows with entities", f"{report.num_rows_with_entities:,} of {output.num_rows:,}"),
    ]
    types = [(escaped(f"{each.type}: {', '.join(each.frequent)}"), f"{each.num_entities:,}") for each in report.types]
    counts = markdown_table(("type and its most frequent texts", "entities"), types)
    markdown = report_markdown("Entities:", output.out_uri, properties, counts)
    create_markdown_artifact(key="entities", markdown=markdown, description=output.out_uri)
    return report

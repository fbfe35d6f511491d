"""Keep the relations between the names in the text of every row of a table up to date.

Run it with ``sbert relations TABLE LABELS OUT``, or as a deployment that follows the entities of a table.
"""

from typing import Annotated

from prefect import flow

from flows.derived_steps import run_derivation
from flows.engines import EngineSettings
from flows.hooks import HOOKS
from flows.neighbours import OutUri
from flows.parameters import (
    ANY_JSON,
    Concurrency,
    EngineChoice,
    advanced_form,
    completed,
    location,
    make_form,
    read_advanced,
)
from flows.run_names import named_after
from sbert.apply.relations.run import RelationsReport, table_of_names
from sbert.apply.relations.settings import RelationSettings
from tasks.relations import fit_name_relator, report_relations

__all__ = ["find_table_relations"]


@flow(name="find-relations", flow_run_name=named_after("relations of {table_uri}"), persist_result=False, **HOOKS)
def find_table_relations(
    table_uri: Annotated[
        str,
        location(
            title="Entities",
            description="Output of find-entities, or an embeddings table with a column that marks the names. "
            "Example: s3://company-embeddings/tickets-entities",
        ),
    ],
    labels_uri: Annotated[
        str,
        location(
            title="Labels",
            description="File, folder or glob of texts with head, tail and relation, local or s3://. "
            "Example: s3://company-labels/relations",
        ),
    ],
    out_uri: OutUri,
    settings: Annotated[
        RelationSettings,
        read_advanced(RelationSettings),
        ANY_JSON,
        advanced_form("relations", '{"min_probability": 0.7}'),
    ] = RelationSettings(),  # noqa: B008  (frozen)
    concurrency: Concurrency = 1,
    engine: EngineChoice = EngineSettings(),  # noqa: B008  (frozen)
) -> RelationsReport:
    """Fit a relator to the labels, and write the relations of every row; compute only rows that changed since the last run.

    Returns:
        What was done, in numbers.
    """
    job = fit_name_relator(table_uri, labels_uri, out_uri, settings)
    embeddings_uri = table_of_names(table_uri, settings)[0].uri
    output = run_derivation(job, embeddings_uri, out_uri, concurrency=concurrency, engine=engine)
    related = report_relations(output, job)
    return completed(related, related.summary())


make_form(find_table_relations)

"""Keep the entities in the text of every row of a table up to date.

Run it with ``sbert entities TABLE LABELS OUT``, or as a deployment that follows each published version.
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
    ExistingTableUri,
    advanced_form,
    completed,
    location,
    make_form,
    read_advanced,
)
from flows.run_names import named_after
from sbert.apply.entities.run import EntitiesReport
from sbert.apply.entities.settings import EntitySettings
from tasks.entities import fit_entity_tagger, report_entities

__all__ = ["find_table_entities"]


@flow(name="find-entities", flow_run_name=named_after("entities of {table_uri}"), persist_result=False, **HOOKS)
def find_table_entities(
    table_uri: ExistingTableUri,
    labels_uri: Annotated[
        str,
        location(
            title="Labels",
            description="File, folder or glob of texts with marked entities, local or s3://. "
            "Example: s3://company-labels/entities",
        ),
    ],
    out_uri: OutUri,
    settings: Annotated[
        EntitySettings,
        read_advanced(EntitySettings),
        ANY_JSON,
        advanced_form("entities", '{"min_probability": 0.5}'),
    ] = EntitySettings(),  # noqa: B008  (frozen)
    concurrency: Concurrency = 1,
    engine: EngineChoice = EngineSettings(),  # noqa: B008  (frozen)
) -> EntitiesReport:
    """Fit a tagger to the labels, and write the entities of every row; compute only rows that changed since the last run.

    Returns:
        What was done, in numbers.
    """
    job = fit_entity_tagger(table_uri, labels_uri, out_uri, settings)
    output = run_derivation(job, table_uri, out_uri, concurrency=concurrency, engine=engine)
    tagged = report_entities(output, job)
    return completed(tagged, tagged.summary())


make_form(find_table_entities)

"""Keep the class of every row of a table up to date.

Run it with ``sbert classify TABLE LABELS OUT``, or as a deployment that follows each published version.
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
    form,
    location,
    make_form,
    read_advanced,
)
from flows.run_names import named_after
from sbert.apply.classification.run import ClassificationReport, classification_job, shares_before
from sbert.apply.classification.settings import ClassificationSettings
from tasks.classify import fit_heads, report_classes

__all__ = ["classify_table"]


@flow(name="classify-table", flow_run_name=named_after("classes of {table_uri}"), persist_result=False, **HOOKS)
def classify_table(
    table_uri: ExistingTableUri,
    labels_uri: Annotated[
        str,
        location(
            title="Labels",
            description="File, folder or glob of texts and their classes, local or s3://. "
            "Example: s3://company-labels/kinds",
        ),
    ],
    out_uri: OutUri,
    settings: Annotated[
        ClassificationSettings,
        read_advanced(ClassificationSettings),
        ANY_JSON,
        advanced_form("classify", '{"head": {"promised_error": 0.1}}'),
    ] = ClassificationSettings(),  # noqa: B008  (frozen)
    concurrency: Concurrency = 1,
    engine: EngineChoice = EngineSettings(),  # noqa: B008  (frozen)
    search: Annotated[
        int,
        form(
            title="Search",
            ge=0,
            le=1_000,
            description="Further settings of a head that are tried by cross-validation; held-out rows judge the best once. "
            "0: no search. Time limit: `head.search` of the advanced settings.",
        ),
    ] = 0,
) -> ClassificationReport:
    """Fit heads to the labels, classify every row by them, and report; compute only rows that changed since the last run.

    Returns:
        What was done, in numbers.
    """
    settings = settings.with_search(search)
    before = shares_before(out_uri)
    decisions = fit_heads(table_uri, labels_uri, out_uri, settings)
    job = classification_job(decisions, out_uri)
    output = run_derivation(job, table_uri, out_uri, concurrency=concurrency, engine=engine)
    classified = report_classes(output, decisions, before, settings)
    return completed(classified, classified.summary())


make_form(classify_table)

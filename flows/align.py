"""Keep the translations of a table's rows in another table up to date.

Run it with ``sbert align TABLE TABLE OUT``, or as a deployment that follows each published version.
"""

from typing import Annotated

from prefect import flow

from flows.derived_steps import run_derivation
from flows.engines import EngineSettings
from flows.hooks import HOOKS
from flows.neighbours import OutUri
from flows.parameters import Concurrency, ExistingTableUri, completed, form, location, make_form
from flows.run_names import named_after
from sbert.apply.alignment.job import AlignmentJob
from sbert.apply.alignment.run import AlignmentReport, report_alignment

__all__ = ["align_rows"]


@flow(name="align-tables", flow_run_name=named_after("align {table_uri}"), persist_result=False, **HOOKS)
def align_rows(
    table_uri: ExistingTableUri,
    right_uri: Annotated[
        str,
        location(
            title="Other table",
            description="Folder of the table of the other language, made with the same encoder. "
            "Example: s3://company-embeddings/tickets-german",
        ),
    ],
    out_uri: OutUri,
    k: Annotated[
        int, form(title="Neighbours", ge=1, le=64, description="Nearest rows that a pair is compared with (rows).")
    ] = 16,
    min_margin: Annotated[
        float,
        form(
            title="Least margin", ge=0, le=10, description="Least ratio of a pair's cosine to that of the nearest rows."
        ),
    ] = 1.0,
    max_length_ratio: Annotated[
        float,
        form(
            title="Length ratio",
            ge=1,
            le=100,
            description="Factor by which one text of a pair may be longer than usual.",
        ),
    ] = 2.5,
    concurrency: Concurrency = 1,
) -> AlignmentReport:
    """Write the translation of each row in another table, one to one, or the reason that there is none, to a derived table.

    Returns:
        What was done, in numbers.
    """
    job = AlignmentJob.of_newest(right_uri, k=k, min_margin=min_margin, max_length_ratio=max_length_ratio)
    report = run_derivation(job, table_uri, out_uri, concurrency=concurrency, engine=EngineSettings())
    aligned = report_alignment(job, report)
    return completed(aligned, aligned.summary())


make_form(align_rows)

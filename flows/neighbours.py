"""Keep the nearest rows of every row of a table up to date.

Run it with ``sbert neighbours TABLE OUT``, or as a deployment that follows each published version.
"""

from typing import Annotated

from prefect import flow

from flows.derived_steps import run_derivation
from flows.engines import EngineSettings
from flows.hooks import HOOKS
from flows.parameters import Concurrency, EngineChoice, ExistingTableUri, completed, form, make_form
from flows.run_names import named_after
from sbert.apply.neighbours.job import NeighboursJob
from sbert.derived.run import DerivedReport

__all__ = ["find_neighbours"]

OutUri = Annotated[
    str,
    form(
        title="Output",
        min_length=1,
        pattern="^(?!.*://[^/]*@)",
        description="Folder of the derived table, local or s3://; made if it is not there. "
        "Example: s3://company-embeddings/tickets-derived",
    ),
]


@flow(name="find-neighbours", flow_run_name=named_after("neighbours {table_uri}"), persist_result=False, **HOOKS)
def find_neighbours(
    table_uri: ExistingTableUri,
    out_uri: OutUri,
    k: Annotated[int, form(title="Neighbours", ge=1, le=1_000, description="Nearest rows of each row (rows).")] = 10,
    concurrency: Concurrency = 1,
    engine: EngineChoice = EngineSettings(),  # noqa: B008  (frozen)
) -> DerivedReport:
    """Write the nearest rows of every row to a derived table; compute only rows that changed since the last run.

    Returns:
        What was done, in numbers.
    """
    report = run_derivation(NeighboursJob(k=k), table_uri, out_uri, concurrency=concurrency, engine=engine)
    return completed(report, report.summary())


make_form(find_neighbours)

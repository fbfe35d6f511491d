"""Erase rows of a table for good, and prove it.

Run it with ``sbert erase TABLE --ids FILE``, or fill in the form of the deployment ``erase``.
"""

from typing import Annotated

from prefect import flow

from flows.hooks import HOOKS
from flows.parameters import NO_CREDENTIALS, DryRun, Names, TableUri, Text, form
from flows.run_names import named_after
from sbert.erase.receipt import Receipt
from sbert.errors import NotErasedError
from tasks.erase import erase_everywhere, report_erasure

__all__ = ["erase_rows"]


@flow(name="erase-rows", flow_run_name=named_after("erase {table_uri}"), persist_result=False, **HOOKS)
def erase_rows(
    table_uri: TableUri,
    ids_uri: Annotated[
        str,
        form(
            title="Ids",
            pattern=NO_CREDENTIALS,
            description="Location of a file that names the rows: JSON Lines, CSV or Parquet with a column id and perhaps "
            "source, or text with an id a line. Ids are no parameters, so that Prefect does not store them.",
        ),
    ] = "",
    destinations: Annotated[
        dict[str, str] | None,
        form(
            title="Vector stores",
            description="Location of each store that follows the table, with the name of a Prefect Secret block, or empty.",
        ),
    ] = None,
    derived: Annotated[Names, form(title="Derived tables", description="Locations of derived tables.")] = None,
    labels_uri: Annotated[
        Text, form(title="Labels", description="Labels to search for the rows; they are listed.")
    ] = None,
    models_uri: Annotated[
        Text, form(title="Models", description="Registry; models whose labels hold the rows are listed.")
    ] = None,
    dry_run: DryRun = False,
) -> Receipt:
    """Erase rows from a table, all its versions, and everything that follows it.

    Returns:
        The receipt, which is also kept beside the table.

    Raises:
        NotErasedError: when rows are left, or may be left; the run's artifact names the places.
    """
    receipt = erase_everywhere(
        table_uri, ids_uri, destinations or {}, derived or [], labels_uri, models_uri, is_dry_run=dry_run
    )
    report_erasure(receipt)
    if not receipt.is_complete:
        left = "; ".join(f"{place.place} {place.location}: {place.problem or place.num_left}" for place in receipt.left)
        raise NotErasedError(f"{receipt.table_uri}: the erasure is not complete: {left}")
    return receipt

"""Erase rows of a table for good, and prove it.

Run it with ``sbert erase TABLE --ids FILE``, or fill in the form of the deployment ``erase``.
"""

from typing import Annotated

from prefect import flow, get_run_logger

from flows.hooks import HOOKS
from flows.parameters import (
    ANY_JSON,
    DryRun,
    ExistingTableUri,
    Names,
    Text,
    completed,
    form,
    location,
    make_form,
    read_object,
    reads_with,
)
from flows.run_names import named_after
from sbert.counted import counted
from sbert.erase.receipt import Receipt
from sbert.errors import NotErasedError
from tasks.erase import erase_everywhere, report_erasure

__all__ = ["erase_rows"]


@flow(name="erase-rows", flow_run_name=named_after("erase {table_uri}"), persist_result=False, **HOOKS)
def erase_rows(
    table_uri: ExistingTableUri,
    ids_uri: Annotated[
        str,
        location(
            title="Ids",
            may_be_empty=True,
            description="Location of a file that names the rows: JSON Lines, CSV or Parquet with a column id and, if "
            "needed, source; or text with one id per line. The ids themselves are no parameters, so Prefect does not store "
            "them. "
            "Example: s3://company-private/erase.csv",
        ),
    ] = "",
    destinations: Annotated[
        dict[str, str] | None,
        reads_with(read_object),
        ANY_JSON,
        form(
            title="Vector stores",
            description="A JSON object: location of each store that follows the table, and the name of its Prefect Secret "
            'block or "". Empty: none. Example: {"lancedb:s3://company-search/lance#tickets": ""}',
        ),
    ] = None,
    derived: Annotated[
        Names,
        form(
            title="Derived tables",
            description="Locations of derived tables. Empty: none. Example: s3://company-embeddings/tickets-classes",
        ),
    ] = None,
    labels_uri: Annotated[
        Text,
        form(
            title="Labels",
            description="Labels to search for the rows; they are listed. Empty: none. Example: s3://company-labels/tickets",
        ),
    ] = None,
    models_uri: Annotated[
        Text,
        form(
            title="Models",
            description="Registry; models whose labels hold the rows are listed. Empty: none. "
            "Example: s3://company-embeddings/models",
        ),
    ] = None,
    dry_run: DryRun = False,
    allow_missing: Annotated[
        bool, form(title="Allow missing ids", description="Succeed also when ids are found nowhere.")
    ] = False,
) -> Receipt:
    """Erase rows from a table, all its versions, and everything that follows it.

    Returns:
        The receipt, which is also kept beside the table.

    Raises:
        NotErasedError: rows are left, or may be left, and the run's artifact names the places; or keys are found nowhere.
            Only their number is told, because Prefect stores messages.
    """
    receipt = erase_everywhere(
        table_uri,
        ids_uri,
        destinations or {},
        derived or [],
        labels_uri,
        models_uri,
        is_dry_run=dry_run,
        allow_missing=allow_missing,
    )
    report_erasure(receipt)
    if receipt.num_not_found:
        get_run_logger().warning(
            "%s: %s found nowhere in the table, its files and its followers",
            receipt.table_uri,
            counted(receipt.num_not_found, "key"),
        )
    _check_erased(receipt, allow_missing=allow_missing)
    return completed(receipt, receipt.summary())


def _check_erased(receipt: Receipt, *, allow_missing: bool) -> None:
    """Raise `NotErasedError` when rows are left somewhere, or keys are found nowhere and must not be missing."""
    if not receipt.is_complete:
        left = "; ".join(f"{place.place} {place.location}: {place.problem or place.num_left}" for place in receipt.left)
        raise NotErasedError(
            f"{receipt.table_uri}: the erasure is not complete, erase again when this is solved: {left}"
        )
    if receipt.num_not_found and not allow_missing:
        raise NotErasedError(
            f"{receipt.table_uri}: {counted(receipt.num_not_found, 'key')} found nowhere: check the ids (`sbert erase` "
            "names them), or set allow_missing"
        )


make_form(erase_rows)

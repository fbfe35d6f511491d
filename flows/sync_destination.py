"""Bring a vector store to the newest version of a table.

Run it with ``sbert sync TABLE DESTINATION``, or as a deployment that follows each published version.
"""

from typing import Annotated

from prefect import flow

from flows.hooks import HOOKS
from flows.parameters import ExistingTableUri, completed, form
from flows.run_names import named_after
from flows.sync_parameters import Credentials, Destination
from sbert.sync.follow import SyncReport
from tasks.sync import report_sync, sync_rows

__all__ = ["sync_destination"]


@flow(name="sync-destination", flow_run_name=named_after("sync {destination}"), persist_result=False, **HOOKS)
def sync_destination(
    table_uri: ExistingTableUri,
    destination: Destination,
    credentials: Credentials = "",
    prove: Annotated[
        bool, form(title="Prove", description="Compare every row after writing; a new collection is always compared.")
    ] = False,
    replace: Annotated[
        bool, form(title="Replace", description="Follow this table, even if the destination follows another one now.")
    ] = False,
) -> SyncReport:
    """Write changed rows to a vector store, and remove rows that are gone.

    Returns:
        What was done, in numbers.

    Raises:
        DestinationError: when the store refuses; its watermark stays, and the next run goes on.
    """
    report = sync_rows(table_uri, destination, credentials or None, prove=prove, replace=replace)
    report_sync(report)
    return completed(report, report.summary())

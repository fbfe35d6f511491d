"""Prove that a vector store holds the rows of a table.

Run it with ``sbert reconcile TABLE DESTINATION``, or as a deployment at night.
"""

from typing import Annotated

from prefect import flow

from flows.hooks import HOOKS
from flows.parameters import ExistingTableUri, completed, form
from flows.run_names import named_after
from flows.sync_parameters import Credentials, Destination
from sbert.counted import counted
from sbert.errors import NotEqualError
from sbert.sync.reconcile import ReconcileReport
from tasks.sync import compare_rows, report_comparison

__all__ = ["reconcile_destination"]


@flow(name="reconcile-destination", flow_run_name=named_after("reconcile {destination}"), persist_result=False, **HOOKS)
def reconcile_destination(
    table_uri: ExistingTableUri,
    destination: Destination,
    credentials: Credentials = "",
    repair: Annotated[bool, form(title="Repair", description="Write the rows that differ, and no others.")] = False,
    recompute: Annotated[
        bool,
        form(
            title="Recompute",
            description="Hash every row anew, also rows that nobody wrote since the last proof.",
        ),
    ] = False,
) -> ReconcileReport:
    """Compare every row of a vector store with the table version that it says to hold.

    Returns:
        What was found, in numbers and names.

    Raises:
        NotEqualError: when both sides differ and were not repaired; the run's artifact names the rows.
    """
    report = compare_rows(table_uri, destination, credentials or None, repair=repair, recompute=recompute)
    report_comparison(report)
    if not report.is_equal:
        raise NotEqualError(
            f"{report.destination}: {counted(report.num_missing, 'missing row')}, {report.num_stale:,} stale and "
            f"{report.num_extra:,} extra: run this flow again with Repair switched on"
        )
    return completed(report, report.summary())

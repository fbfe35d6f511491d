"""Draw the texts of a table as one page.

Run it with ``sbert map TABLE``, or as a deployment that follows each published version.
"""

from typing import Annotated

from prefect import flow

from flows.hooks import HOOKS
from flows.parameters import TableUri, form, location
from flows.run_names import named_after
from sbert.apply.map.run import MapReport
from sbert.apply.map.settings import MapSettings
from tasks.map import draw_page, report_map

__all__ = ["map_table"]


@flow(name="map-table", flow_run_name=named_after("map of {table_uri}"), persist_result=False, **HOOKS)
def map_table(
    table_uri: TableUri,
    output_uri: Annotated[
        str,
        location(title="Page", description="HTML file to write, local or s3://."),
    ],
    coordinates_uri: Annotated[
        str | None,
        location(
            title="Coordinates",
            may_be_empty=True,
            description="Derived table of x and y of every row, for other viewers; empty for none.",
        ),
    ] = None,
    settings: Annotated[
        MapSettings, form(title="Settings", description="Rows, topics and columns of the map.")
    ] = MapSettings(),  # noqa: B008  (frozen)
) -> MapReport:
    """Draw the newest version of the table as one HTML page.

    Returns:
        What is on the map.
    """
    report = draw_page(table_uri, output_uri, settings, coordinates_uri)
    report_map(report)
    return report

"""Draw the texts of a table as one page.

Run it with ``sbert map TABLE``, or as a deployment that follows each published version.
"""

from typing import Annotated

from prefect import flow

from flows.hooks import HOOKS
from flows.parameters import (
    ANY_JSON,
    ExistingTableUri,
    Text,
    advanced_form,
    completed,
    location,
    make_form,
    read_advanced,
)
from flows.run_names import named_after
from sbert.apply.map.run import MapReport
from sbert.apply.map.settings import MapSettings
from tasks.map import draw_page, report_map

__all__ = ["map_table"]


@flow(name="map-table", flow_run_name=named_after("map of {table_uri}"), persist_result=False, **HOOKS)
def map_table(
    table_uri: ExistingTableUri,
    output_uri: Annotated[
        str,
        location(
            title="Page",
            description="HTML file to write, local or s3://. Example: s3://company-reports/tickets.html",
        ),
    ],
    coordinates_uri: Annotated[
        Text,
        location(
            title="Coordinates",
            may_be_empty=True,
            description="Derived table of x and y of every row, for other viewers. Empty: none. "
            "Example: s3://company-embeddings/tickets-map",
        ),
    ] = None,
    topics_uri: Annotated[
        Text,
        location(
            title="Topics",
            may_be_empty=True,
            description="Output of topics for the table, whose topics give the colours. Empty: topics of the map's own. "
            "Example: s3://company-embeddings/tickets-topics",
        ),
    ] = None,
    settings: Annotated[
        MapSettings,
        read_advanced(MapSettings),
        ANY_JSON,
        advanced_form("map", '{"color_by": "kind", "num_topics": 30}'),
    ] = MapSettings(),  # noqa: B008  (frozen)
) -> MapReport:
    """Draw the newest version of the table as one HTML page.

    Returns:
        What is on the map.
    """
    report = draw_page(table_uri, output_uri, settings, coordinates_uri, topics_uri)
    report_map(report)
    return completed(report, report.summary())


make_form(map_table)

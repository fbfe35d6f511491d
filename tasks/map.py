"""Draw the map of a table, and leave a link to it."""

from prefect import task
from prefect.artifacts import create_markdown_artifact
from prefect.cache_policies import NO_CACHE

from sbert.apply.map.run import MapReport, write_map
from sbert.apply.map.settings import MapSettings
from tasks.markdown import escaped, report_markdown
from tasks.retries import RETRIED

__all__ = ["draw_page", "report_map"]


@task(name="draw map", **RETRIED)
def draw_page(
    table_uri: str, output_uri: str, settings: MapSettings, coordinates_uri: str | None, topics_uri: str | None
) -> MapReport:
    """Draw the newest version and write the page."""
    return write_map(table_uri, output_uri, settings, coordinates_uri=coordinates_uri, topics_uri=topics_uri)


@task(name="report map", cache_policy=NO_CACHE)
def report_map(report: MapReport) -> None:
    """Leave a summary of the map as a Markdown artifact."""
    rows = [
        ("page", f"`{escaped(report.output)}`"),
        ("table", f"`{escaped(report.table_uri)}` version {report.version}"),
        ("rows on the map", f"{report.num_rows:,} of {report.num_table_rows:,}"),
        ("topics, the largest first", escaped("; ".join(report.topics))),
        *([("topics of", f"`{escaped(report.topics_uri)}`")] if report.topics_uri else []),
        *([("coordinates", f"`{escaped(report.coordinates)}`")] if report.coordinates else []),
        ("size, MiB", f"{report.num_bytes / 2**20:,.1f}"),
    ]
    markdown = report_markdown("Map of", report.table_uri, rows)
    create_markdown_artifact(key="map-report", markdown=markdown, description=report.output)

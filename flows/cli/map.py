"""``sbert map``."""

from typing import Annotated, Any

import typer

from flows.cli.app import Panel, command
from flows.cli.options import Json, TableUri, check_location
from flows.cli.output import answering, out
from sbert.counted import counted


@command(Panel.APPLICATIONS, name="map", example="sbert map s3://bucket/table --output map.html --color-by category")
def draw(
    table_uri: TableUri,
    output: Annotated[
        str, typer.Option(metavar="FILE", help="HTML file to write, local or s3://.", callback=check_location)
    ] = "map.html",
    color_by: Annotated[
        str | None,
        typer.Option(
            metavar="COLUMN",
            help="Kept column by which the page colours rows when it opens.",
            show_default="topics by meaning",
        ),
    ] = None,
    text_column: Annotated[
        str | None,
        typer.Option(metavar="COLUMN", help="Kept column that is shown as the text.", show_default="the encoded one"),
    ] = None,
    coordinates: Annotated[
        str | None,
        typer.Option(
            metavar="OUT_URI",
            help="Derived table of x and y of every row, for other viewers; the map shows its places.",
            callback=check_location,
        ),
    ] = None,
    topics_uri: Annotated[
        str | None,
        typer.Option(
            "--topics-from",
            metavar="OUT_URI",
            help="Output of `sbert topics` for TABLE: its topics give the colours, with their words.",
            callback=check_location,
        ),
    ] = None,
    max_rows: Annotated[
        int, typer.Option(min=1, max=250_000, metavar="ROWS", help="Rows on the map; of a larger table a sample.")
    ] = 100_000,
    topics: Annotated[
        int, typer.Option(min=1, max=60, metavar="N", help="Topics that the map finds itself, at most.")
    ] = 16,
    seed: Annotated[int, typer.Option(min=0, metavar="NUMBER", help="The same seed gives the same map.")] = 0,
    as_json: Json = False,
) -> None:
    """Draw the texts of TABLE as one page: near texts have similar meaning. The page needs no server and no network."""
    with answering(as_json=as_json) as answer:
        from sbert.apply.map.run import write_map
        from sbert.apply.map.settings import MapSettings

        settings = MapSettings(
            max_rows=max_rows, color_by=color_by, text_column=text_column, num_topics=topics, seed=seed
        )
        report = write_map(table_uri, output, settings, coordinates_uri=coordinates, topics_uri=topics_uri)
        answer.print(report.model_dump(mode="json"), _show_map)


def _show_map(result: dict[str, Any]) -> None:
    rows = counted(result["num_table_rows"], "row")
    drawn = f"{result['num_rows']:,} of {rows}" if result["num_rows"] < result["num_table_rows"] else rows
    out.print(
        f"wrote {result['output']}: {drawn} of version {result['version']}, "
        f"{counted(len(result['topics']), 'topic')}, {result['num_bytes'] / 2**20:,.1f} MiB",
        markup=False,
    )

"""``sbert search``."""

from typing import Annotated, Any

import typer
from rich.table import Table as TextTable

from flows.cli.common import Json, TableUri, app, cell, errors, out, print_result


@app.command()
def search(
    table_uri: TableUri,
    query: Annotated[str, typer.Argument(help="What to look for.")],
    k: Annotated[int, typer.Option("-k", min=1, help="How many rows.")] = 10,
    as_json: Json = False,
) -> None:
    """Print the rows of TABLE nearest to a query."""
    from sbert.search import search_table
    from sbert.table import Table

    with errors(as_json):
        hits = search_table(Table.open(table_uri), query, k)
        results = [{"id": hit.id, "source": hit.source, "score": round(hit.score, 6), **hit.kept} for hit in hits]
        print_result({"table_uri": table_uri, "query": query, "results": results}, as_json, _show_search)


def _show_search(result: dict[str, Any]) -> None:
    table = TextTable(title=f"nearest to: {result['query']}", title_justify="left", expand=False)
    kept = [name for hit in result["results"][:1] for name in hit if name not in {"id", "source", "score"}]
    for name, justify in (
        ("score", "right"),
        ("id", "left"),
        *((name, "left") for name in kept),
        ("source", "left"),
    ):
        table.add_column(name, justify=justify, overflow="ellipsis", max_width=60, no_wrap=True)  # type: ignore[arg-type]
    for hit in result["results"]:
        cells = [cell(hit.get(name)) for name in kept]
        table.add_row(f"{hit['score']:.3f}", cell(hit["id"]), *cells, cell(hit["source"].rsplit("/", 1)[-1]))
    out.print(table)

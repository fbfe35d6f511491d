"""``sbert search``."""

from typing import Annotated, Any

import typer
from rich import box
from rich.table import Table as TextTable

from flows.cli.common import Json, TableUri, app, cell, errors, out, print_result

MAX_SHORT = 10
"""Values up to this length are never cut."""
MAX_RATIO = 40
"""Columns share the width by their longest value, at most this much: one long text does not squeeze out the ids."""


@app.command()
def search(
    table_uri: TableUri,
    query: Annotated[str, typer.Argument(help="What to look for.")],
    k: Annotated[int, typer.Option("-k", min=1, help="How many rows.")] = 10,
    as_json: Json = False,
) -> None:
    """Print the rows of TABLE nearest to a query."""
    from sbert.index.exact_search import search_table
    from sbert.table.delta import Table

    with errors(as_json):
        hits = search_table(Table.open(table_uri), query, k)
        results = [{"id": hit.id, "source": hit.source, "score": round(hit.score, 6), **hit.kept} for hit in hits]
        print_result({"table_uri": table_uri, "query": query, "results": results}, as_json, _show_search)


def _show_search(result: dict[str, Any]) -> None:
    kept = [name for hit in result["results"][:1] for name in hit if name not in {"id", "source", "score"}]
    table = TextTable(
        title=f"nearest to: {cell(result['query'])}",
        title_justify="left",
        box=box.SIMPLE_HEAD,
        show_edge=False,
        expand=True,
    )
    table.add_column("score", justify="right", min_width=5)
    for name in ("id", *kept, "source"):
        longest = max((len(_shown(hit, name)) for hit in result["results"]), default=0)
        is_short = longest <= MAX_SHORT
        least, ratio = (max(longest, len(name)), None) if is_short else (MAX_SHORT, min(longest, MAX_RATIO))
        table.add_column(name, overflow="ellipsis", no_wrap=True, min_width=least, ratio=ratio)
    for hit in result["results"]:
        table.add_row(f"{hit['score']:.3f}", *(cell(_shown(hit, name)) for name in ("id", *kept, "source")))
    out.print(table)


def _shown(hit: dict[str, Any], name: str) -> str:
    """Give a value as one line; of the source only the object's name."""
    value = "" if hit.get(name) is None else str(hit[name])
    return " ".join((value.rsplit("/", 1)[-1] if name == "source" else value).split())

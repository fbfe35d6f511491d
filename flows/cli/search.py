"""``sbert search``."""

from enum import StrEnum
from functools import partial
from typing import TYPE_CHECKING, Annotated, Any

import typer
from rich import box
from rich.table import Table as TextTable

from flows.cli.app import Panel, command
from flows.cli.options import Json, TableUri, check_location
from flows.cli.output import answering, cell, out
from flows.cli.search_reasons import add_reasons, show_reasons
from sbert.counted import counted
from sbert.runtime.memory import cycle_searches

if TYPE_CHECKING:
    from sbert.index.search_settings import SearchSettings
    from sbert.table.delta import Table

MAX_COLUMN = 40
"""Longest value that a column of the table shows whole; a window too narrow for such columns gets a list of hits."""
MAX_TEXT_LINES = 2
"""Lines of a long value in the list of hits."""
INDENT = 7
PLACES = frozenset({"document_id", "start", "end"})
"""Columns of passages that a person does not read; --json has them."""


class Per(StrEnum):
    """Unit of the results of a search."""

    ROW = "row"
    DOCUMENT = "document"


class Mode(StrEnum):
    """Method that finds rows: `sbert.index.search_settings.SearchMode`, without loading the library for ``--help``."""

    VECTOR = "vector"
    WORDS = "words"
    HYBRID = "hybrid"


@command(Panel.JOBS, example='sbert search s3://bucket/table "how do I reset my password" -k 5')
def search(
    table_uri: TableUri,
    query: Annotated[str | None, typer.Argument(metavar="QUERY", help="Text to search for.")] = None,
    k: Annotated[int, typer.Option("-k", "--num", min=1, max=10_000, metavar="N", help="Rows of each query.")] = 10,
    where: Annotated[
        str | None,
        typer.Option(
            metavar="SQL",
            help="Search only rows that satisfy this, over kept columns, such as \"lang = 'en' and price < 10\".",
        ),
    ] = None,
    queries_uri: Annotated[
        str | None,
        typer.Option(
            "--queries",
            metavar="URI",
            help="Many queries instead of one: file, folder or glob in any format of raw text; needs --output.",
            callback=check_location,
        ),
    ] = None,
    output: Annotated[
        str | None,
        typer.Option(
            metavar="FILE",
            help="Parquet file for the rows that --queries find, local or s3://.",
            callback=check_location,
        ),
    ] = None,
    text_column: Annotated[
        str, typer.Option(metavar="COLUMN", help="Column of --queries that holds the text.")
    ] = "text",
    id_column: Annotated[
        str | None,
        typer.Option(
            metavar="COLUMN",
            help="Column of --queries that holds the query's id.",
            show_default="id where there is one, else derived",
        ),
    ] = None,
    mode: Annotated[
        Mode,
        typer.Option(help="Find rows by meaning, by the words of the query (names, codes, rare words), or by both."),
    ] = Mode.VECTOR,
    diversity: Annotated[
        float, typer.Option(min=0, max=1, metavar="SHARE", help="How much each row must differ from the rows above it.")
    ] = 0.0,
    words_column: Annotated[
        str | None,
        typer.Option(metavar="COLUMN", help="Kept column whose words are searched.", show_default="the encoded text"),
    ] = None,
    per: Annotated[
        Per,
        typer.Option(help="Search for rows, or of a table of passages for documents: the best passage of each."),
    ] = Per.ROW,
    explain: Annotated[
        bool,
        typer.Option("--explain", help="Name the pairs of words that make each row near, and what vectors overlook."),
    ] = False,
    as_json: Json = False,
) -> None:
    """Print the rows of TABLE nearest to a query, or write the rows nearest to many queries to a file."""
    _check_usage(query, queries_uri, output, is_explained=explain)
    with answering(as_json=as_json) as answer:
        with cycle_searches.load():
            from sbert.index.search_settings import SearchSettings
            from sbert.table.delta import Table

        settings = SearchSettings.model_validate(
            {"k": k, "where": where, "mode": mode.value, "diversity": diversity, "words_column": words_column}
        )
        table = Table.open(table_uri)
        if query is not None:
            answer.print(_search_one(table, table_uri, query, settings, per, is_explained=explain), _show_search)
        else:
            assert queries_uri is not None
            assert output is not None
            columns = {"text_column": text_column, "id_column": id_column}
            answer.print(_search_many(table, queries_uri, output, settings, per, columns), _show_file_search)


def _search_one(
    table: "Table", table_uri: str, query: str, settings: "SearchSettings", per: Per, *, is_explained: bool
) -> dict[str, Any]:
    """Search for one query, and name the reasons if asked."""
    with cycle_searches.load():
        from sbert.index.best_passages import search_documents
        from sbert.index.search import Searcher

    searcher = Searcher(table)
    search_rows = searcher.search if per is Per.ROW else partial(search_documents, searcher)
    result = search_rows(query, settings=settings)
    results = [{"id": hit.id, "source": hit.source, "score": round(hit.score, 6), **hit.kept} for hit in result.hits()]
    if is_explained:
        add_reasons(table, query, settings.words_column, results)
    return {"table_uri": table_uri, "query": query, "results": results, "way": result.way.model_dump(mode="json")}


def _search_many(
    table: "Table", queries_uri: str, output: str, settings: "SearchSettings", per: Per, columns: dict[str, str | None]
) -> dict[str, Any]:
    """Search for the queries of a file, and write the rows to another file."""
    with cycle_searches.load():
        from sbert.index.query_file import search_file
        from sbert.source.settings import SourceSettings

    source = SourceSettings.model_validate(columns)
    report = search_file(table, queries_uri, output, settings=settings, source=source, per_document=per is Per.DOCUMENT)
    return report.model_dump(mode="json")


def _check_usage(
    query: str | None,
    queries_uri: str | None,
    output: str | None,
    *,
    is_explained: bool = False,
) -> None:
    if (query is None) == (queries_uri is None):
        raise typer.BadParameter("give one query, or a file of them with --queries")
    if (queries_uri is None) != (output is None):
        raise typer.BadParameter(
            "--queries and --output belong together: name the file of queries and the file to write"
        )
    if queries_uri is not None and is_explained:
        raise typer.BadParameter("--explain and --queries cannot be combined: search for one query")


def _show_file_search(result: dict[str, Any]) -> None:
    out.print(
        f"wrote {result['output']}: {counted(result['num_hits'], 'row')} for "
        f"{counted(result['num_queries'], 'query', 'queries')} ({_describe_way(result)}, {result['seconds']:,.1f} s)",
        markup=False,
    )
    if result["num_queries_rejected"]:
        reasons = ", ".join(f"{count:,} {reason}" for reason, count in sorted(result["rejected_by_reason"].items()))
        out.print(f"  {counted(result['num_queries_rejected'], 'record')} rejected: {reasons}", markup=False)
        for reject in result["rejected"]:
            out.print(f"  {reject['query_id']}: {reject['detail']}", markup=False)


def _describe_way(result: dict[str, Any]) -> str:
    from sbert.index.search_settings import SearchWay

    return SearchWay.model_validate(result["way"]).describe()


def _show_search(result: dict[str, Any]) -> None:
    hits = result["results"]
    kept = _kept_columns(hits)
    names = ["id", *kept, "source"]
    longest = {name: max([len(name), *(len(_one_line(hit, name)) for hit in hits)]) for name in names}
    ways = {"vector": "nearest to", "words": "words of", "hybrid": "nearest to and words of"}
    title = f"{ways[result['way'].get('mode', 'vector')]}: {cell(result['query'])}"
    least_width = INDENT + sum(min(length, MAX_COLUMN) + 3 for length in longest.values())
    if not hits:
        out.print(f"{title}: no row was found")
    elif least_width <= out.width:
        out.print(_as_table(title, names, longest, hits))
    else:
        out.print(title, style="italic")
        for hit in hits:
            _print_hit(hit, kept)
    show_reasons(hits)
    out.print(_describe_way(result), style="dim", markup=False)


def _kept_columns(hits: list[dict[str, Any]]) -> list[str]:
    """Return the kept columns that are shown; of passages not their places, and the document is in the id."""
    kept = [name for hit in hits[:1] for name in hit if name not in {"id", "source", "score", "explanation"}]
    is_passages = {"document_id", "passage", "headings"} <= set(kept)
    return [name for name in kept if not (is_passages and name in PLACES)]


def _as_table(title: str, names: list[str], longest: dict[str, int], hits: list[dict[str, Any]]) -> TextTable:
    table = TextTable(title=title, title_justify="left", box=box.SIMPLE_HEAD, show_edge=False, expand=True)
    table.add_column("score", justify="right", min_width=5)
    for name in names:
        is_long = longest[name] > MAX_COLUMN
        least = min(longest[name], MAX_COLUMN)
        table.add_column(name, overflow="ellipsis", no_wrap=True, min_width=least, ratio=1 if is_long else None)
    for hit in hits:
        table.add_row(f"{hit['score']:.3f}", *(cell(_one_line(hit, name)) for name in names))
    return table


def _print_hit(hit: dict[str, Any], kept: list[str]) -> None:
    """Print a hit below the one before: score and id, short values on one line, long values on lines of their own."""
    values = {name: _one_line(hit, name) for name in ("id", *kept, "source")}
    short = [f"{name} {values[name]}" for name in (*kept, "source") if values[name] and len(values[name]) <= MAX_COLUMN]
    long = [values[name] for name in (*kept, "source") if len(values[name]) > MAX_COLUMN]
    block = TextTable.grid(padding=(0, 2, 0, 0))
    block.add_column(justify="right", width=INDENT - 2)
    block.add_column(overflow="fold")
    block.add_row(f"{hit['score']:.3f}", f"[bold]{cell(values['id'])}[/bold]")
    if short:
        block.add_row("", cell(" · ".join(short)), style="dim")
    room = max(10, (out.width - INDENT) * MAX_TEXT_LINES - 1)
    for value in long:
        block.add_row("", cell(value if len(value) <= room else value[: room - 1] + "…"))
    out.print(block)


def _one_line(hit: dict[str, Any], name: str) -> str:
    """Return a value as one line; of the source only the object's name."""
    value = "" if hit.get(name) is None else str(hit[name])
    return " ".join((value.rsplit("/", 1)[-1] if name == "source" else value).split())

"""``sbert index``."""

from typing import Annotated, Any

import typer

from flows.cli.app import Panel, command
from flows.cli.options import Json, SettingsJson, TableUri, check_location
from flows.cli.output import answering, out
from flows.cli.settings_json import load_settings
from sbert.counted import counted


@command(Panel.JOBS, example="sbert index s3://bucket/table")
def index(
    table_uri: TableUri,
    queries_uri: Annotated[
        str | None,
        typer.Option(
            "--queries",
            metavar="URI",
            help="Queries with which recall is measured too: file, folder or glob in any format of raw text.",
            callback=check_location,
        ),
    ] = None,
    text_column: Annotated[
        str, typer.Option(metavar="COLUMN", help="Column of --queries that holds the text.")
    ] = "text",
    check: Annotated[
        bool, typer.Option("--check", help="Read every byte of the index, and build damaged segments again.")
    ] = False,
    drop: Annotated[bool, typer.Option("--drop", help="Remove the index; searches are exact afterwards.")] = False,
    settings: SettingsJson = None,
    as_json: Json = False,
) -> None:
    """Build the index of TABLE, or bring it up to date, and measure the share of the true nearest rows that it finds."""
    with answering(as_json=as_json) as answer:
        from sbert.index.index_run import drop_index, index_table
        from sbert.index.index_settings import IndexSettings

        if drop:
            answer.print({"table_uri": table_uri, "num_segments_removed": drop_index(table_uri)}, _show_drop)
            return
        queries = None
        if queries_uri is not None:
            from sbert.index.query_file import read_queries
            from sbert.source.settings import SourceSettings

            queries = read_queries(queries_uri, SourceSettings(text_column=text_column))
        report = index_table(table_uri, settings=load_settings(settings, IndexSettings), queries=queries, check=check)
        answer.print(report.model_dump(mode="json"), _show_index)


def _show_index(report: dict[str, Any]) -> None:
    recall = report["recall"]
    measured = "nothing to measure"
    if recall is not None:
        measured = f"recall@10 {recall['value']:.3f} (95 % interval {recall['low']:.3f} to {recall['high']:.3f})"
    labelled = report["labelled_recall"]
    given = "" if labelled is None else f", {labelled['value']:.3f} on {labelled['num_queries']:,} given queries"
    out.print(
        f"{report['table_uri']} version {report['version']}: "
        f"{report['num_rows_indexed']:,} of {counted(report['num_rows'], 'row')} in "
        f"{counted(report['num_segments'], 'segment')}, {measured}{given}\n"
        f"  {counted(report['num_segments_built'], 'segment')} built, {report['num_segments_merged']:,} made by merging, "
        f"{report['num_segments_broken']:,} broken ones replaced; {counted(report['num_rows_built'], 'row')}, "
        f"{report['seconds']:,.1f} s",
        markup=False,
    )


def _show_drop(result: dict[str, Any]) -> None:
    out.print(f"{result['table_uri']}: {counted(result['num_segments_removed'], 'segment')} removed", markup=False)

"""``sbert index-words``."""

from typing import Annotated, Any

import typer

from flows.cli.app import Panel, command
from flows.cli.options import Json, TableUri
from flows.cli.output import answering, out
from sbert.counted import counted


@command(Panel.JOBS, name="index-words", example="sbert index-words s3://bucket/table")
def index_words(
    table_uri: TableUri,
    words_column: Annotated[
        str | None,
        typer.Option(metavar="COLUMN", help="Kept column whose words are indexed.", show_default="the encoded text"),
    ] = None,
    check: Annotated[
        bool, typer.Option("--check", help="Read every byte of the word index, and build damaged segments again.")
    ] = False,
    drop: Annotated[bool, typer.Option("--drop", help="Remove the word index instead.")] = False,
    as_json: Json = False,
) -> None:
    """Build or bring up to date the word index of TABLE, for `sbert search --mode words` and `--mode hybrid`."""
    with answering(as_json=as_json) as answer:
        from sbert.index.words import word_index
        from sbert.index.words.settings import WordSettings

        if drop:
            number = word_index.drop_words(table_uri)
            answer.print({"table_uri": table_uri, "num_segments_removed": number}, _show_drop)
            return
        report = word_index.index_words(table_uri, settings=WordSettings(text_column=words_column), check=check)
        answer.print(report.model_dump(mode="json"), _show_report)


def _show_report(report: dict[str, Any]) -> None:
    out.print(
        f"{report['table_uri']} version {report['version']}: words of {report['column']}, "
        f"{counted(report['num_rows'], 'row')} in "
        f"{counted(report['num_segments'], 'segment')}, {report['num_bytes'] / 2**20:,.1f} MiB\n"
        f"  built: {report['num_segments_built']:,} ({counted(report['num_rows_built'], 'row')}), "
        f"{report['seconds']:,.1f} s",
        markup=False,
    )


def _show_drop(result: dict[str, Any]) -> None:
    out.print(f"{result['table_uri']}: {counted(result['num_segments_removed'], 'segment')} removed", markup=False)

"""``sbert topics``."""

from enum import StrEnum
from typing import Annotated, Any

import typer

from flows.cli.app import Panel, command
from flows.cli.derived_answer import show_derived
from flows.cli.options import Json, OutUri, TableUri
from flows.cli.output import answering, out
from sbert.counted import counted

NUM_SHOWN = 10
"""Topics that are printed."""


class Period(StrEnum):
    """Lengths of a period of counts over time."""

    DAY = "day"
    WEEK = "week"
    MONTH = "month"


@command(Panel.APPLICATIONS, example="sbert topics s3://bucket/table s3://bucket/topics --time-column created_at")
def topics(
    table_uri: TableUri,
    out_uri: OutUri,
    num: Annotated[
        int | None,
        typer.Option(
            "-n",
            "--num",
            min=1,
            max=2_000,
            metavar="N",
            help="Number of topics to look for.",
            show_default="by the rows",
        ),
    ] = None,
    text_column: Annotated[
        str | None,
        typer.Option(metavar="COLUMN", help="Kept column that holds the text.", show_default="the encoded one"),
    ] = None,
    time_column: Annotated[
        str | None,
        typer.Option(
            metavar="COLUMN",
            help="Kept column with the time of each row, for counts over time.",
        ),
    ] = None,
    period: Annotated[Period, typer.Option(help="Length of a period of these counts.")] = Period.WEEK,
    refit: Annotated[
        bool, typer.Option("--refit", help="Fit the topics anew; topics that stay keep their numbers.")
    ] = False,
    as_json: Json = False,
) -> None:
    """Write the topic of every row of TABLE to the table OUT; topics keep their numbers from run to run."""
    with answering(as_json=as_json) as answer:
        from sbert.apply.topics.run import find_topics
        from sbert.apply.topics.settings import FitSettings, TopicSettings

        settings = TopicSettings(
            fit=FitSettings(num_topics=num),
            text_column=text_column,
            time_column=time_column,
            period=period.value,
            refit=refit,
        )
        report = find_topics(table_uri, out_uri, settings)
        answer.print(report.model_dump(mode="json"), _show_topics)


def _show_topics(report: dict[str, Any]) -> None:
    show_derived(report)
    fitted = f", fitted in this run: {report['refitted']}" if report["refitted"] else ""
    out.print(
        f"  {counted(report['num_topics'], 'topic')}, {counted(report['num_outliers'], 'row')} without a topic{fitted}",
        markup=False,
    )
    if report["new_topics"] or report["ended_topics"]:
        out.print(
            f"  new topics: {_names(report['new_topics'])}; ended: {_names(report['ended_topics'])}", markup=False
        )
    if report["num_without_time"]:
        out.print(
            f"  {counted(report['num_without_time'], 'row')} without a time, not counted in any period", markup=False
        )
    for topic in report["topics"][:NUM_SHOWN]:
        out.print(f"  {topic['topic']:>5} {topic['num_rows']:>9,} rows  {', '.join(topic['words'][:6])}", markup=False)
    if report["num_topics"] > NUM_SHOWN:
        out.print(f"  and {report['num_topics'] - NUM_SHOWN:,} more", markup=False)
    out.print(f"  report: {report['report_uri']}", markup=False)


def _names(numbers: list[int]) -> str:
    return ", ".join(map(str, numbers)) or "none"

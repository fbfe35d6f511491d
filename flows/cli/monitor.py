"""``sbert monitor``."""

import sys
from typing import TYPE_CHECKING, Annotated

import typer

from flows.cli.app import Panel, command
from flows.cli.options import Json, OutUri, SettingsJson, check_location
from flows.cli.output import answering, out
from sbert.counted import counted

if TYPE_CHECKING:
    from sbert.apply.monitoring.report import MonitoringReport


@command(
    Panel.APPLICATIONS,
    example="sbert monitor s3://bucket/classes s3://bucket/opinion --time-column created_at --by product",
)
def monitor(
    predictions_uri: Annotated[
        str,
        typer.Argument(
            metavar="PREDICTIONS",
            help="Output of `sbert classify`, local or s3://; with --volume a table of embeddings will do.",
            callback=check_location,
        ),
    ],
    out_uri: OutUri,
    time_column: Annotated[
        str | None,
        typer.Option(
            metavar="COLUMN",
            help="Kept column that says when a row was written; needed unless the settings name it.",
            show_default=False,
        ),
    ] = None,
    by: Annotated[
        str | None,
        typer.Option(
            metavar="COLUMN", help="Kept column whose values are watched apart.", show_default="all rows together"
        ),
    ] = None,
    bucket: Annotated[
        str | None,
        typer.Option(metavar="LENGTH", help="Length of a bucket of time, such as 6h, 1d or 1w.", show_default="1d"),
    ] = None,
    volume: Annotated[
        bool, typer.Option("--volume", help="Watch the number of rows alone; PREDICTIONS may be a table of embeddings.")
    ] = False,
    settings: SettingsJson = None,
    as_json: Json = False,
) -> None:
    """Count the classes of PREDICTIONS over time, and say in which topics a class or the volume rose beyond chance."""
    if time_column is None and settings is None:
        raise typer.BadParameter("name the column that says when a row was written", param_hint="'--time-column'")
    with answering(as_json=as_json) as answer:
        from flows.cli.settings_json import load_named
        from sbert.apply.monitoring.run import monitor as watch
        from sbert.apply.monitoring.settings import MonitoringSettings

        named = {
            "time_column": time_column,
            "topic_column": by,
            "bucket": bucket,
            "series": ("volume",) if volume else None,
        }
        report = watch(predictions_uri, out_uri, load_named(settings, MonitoringSettings, named))
        if report.waiting_alerts and not as_json and _is_terminal():
            report = _ask(report)
        answer.print(report.model_dump(mode="json"), lambda _: _show(report))


def _is_terminal() -> bool:
    return sys.stdin.isatty()


def _ask(report: "MonitoringReport") -> "MonitoringReport":
    """Ask at the terminal which first alerts of topics are told; return the report with them."""
    from sbert.apply.monitoring.told_alerts import decide_alerts
    from sbert.registry.approval import made_now

    approved: dict[str, bool] = {}
    for alert in report.waiting_alerts:
        if alert.topic not in approved:
            out.print(f"{alert.sentence}\npage: {report.page_uri}", markup=False)
            approved[alert.topic] = typer.confirm(
                f"This is the first alert of {alert.topic}. Tell of it?", default=False
            )
    decision = made_now(approved=True, name=typer.prompt("Your name"), reason=typer.prompt("Reason"))
    topics = [topic for topic, is_approved in approved.items() if is_approved]
    told = decide_alerts(report.out_uri, report.waiting_alerts, topics, decision)
    return report.model_copy(update={"new_alerts": [*report.new_alerts, *told], "waiting_alerts": []})


def _show(report: "MonitoringReport") -> None:
    from sbert.apply.monitoring.report import left_out, model_sentence, withdrawn_sentences

    out.print(
        f"{report.out_uri} version {report.version}: {counted(report.num_rows, 'row')} in "
        f"{counted(report.num_cells, 'cell')} of {counted(report.num_topics, 'topic')}"
        f"{''.join(f', {text}' for text in left_out(report))}, {report.seconds:,.1f} s",
        markup=False,
    )
    if changed := model_sentence(report):
        out.print(f"  {changed}", markup=False)
    for sentence, reason in withdrawn_sentences(report):
        out.print(f"  withdrawn, because {reason}: {sentence}", markup=False)
    for alert in report.new_alerts:
        out.print(f"  new: {alert.sentence}", markup=False)
    out.print(f"  {report.tested}", markup=False, style=None if report.num_tested else "yellow")
    for alert in report.waiting_alerts:
        out.print(f"  waits for a person: {alert.sentence}", markup=False)
    if report.waiting_alerts:
        out.print("  to decide, run this command at a terminal, or its flow from the Prefect UI", markup=False)
    out.print(
        f"  {counted(report.num_open, 'alert')} open, {len(report.alerts):,} in all; page: {report.page_uri}",
        markup=False,
    )

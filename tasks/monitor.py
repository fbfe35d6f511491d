"""Monitor opinion, leave a report, and emit events for new alerts."""

from prefect import task
from prefect.artifacts import create_markdown_artifact
from prefect.cache_policies import NO_CACHE
from prefect.events import emit_event

from sbert.apply.monitoring.report import MonitoringReport, left_out, model_sentence, withdrawn_sentences
from sbert.apply.monitoring.run import monitor
from sbert.apply.monitoring.settings import MonitoringSettings
from tasks.markdown import escaped, markdown_table, report_markdown
from tasks.retries import RETRIED

__all__ = ["OPINION_ALERT", "announce_alerts", "report_opinion", "watch_opinion"]

OPINION_ALERT = "sbert.opinion.alert"
MAX_ALERTS = 50
"""Alerts that the artifact names; the page names all."""


@task(name="watch opinion", **RETRIED)
def watch_opinion(predictions_uri: str, out_uri: str, settings: MonitoringSettings) -> MonitoringReport:
    """Write cells, alerts and page."""
    return monitor(predictions_uri, out_uri, settings)


@task(name="report opinion", cache_policy=NO_CACHE)
def report_opinion(report: MonitoringReport) -> None:
    """Leave the alerts and counts as a Markdown artifact."""
    rows = [
        ("rows", f"{report.num_rows:,}"),
        *([("left out", escaped(", ".join(missing)))] if (missing := left_out(report)) else []),
        ("topics; cells", f"{report.num_topics:,}; {report.num_cells:,}"),
        ("tested", report.tested),
        ("alerts open; in all; new", f"{report.num_open:,}; {len(report.alerts):,}; {len(report.new_alerts):,}"),
        *([("wait for a person", f"{len(report.waiting_alerts):,}")] if report.waiting_alerts else []),
        *_withdrawn_rows(report),
        ("page", f"`{escaped(report.page_uri)}`"),
        *([("model", changed)] if (changed := model_sentence(report)) else []),
    ]
    alerts = [
        (escaped(alert.sentence), "open" if alert.closed is None else f"until {alert.closed:%Y-%m-%d %H:%M}")
        for alert in report.alerts[:MAX_ALERTS]
    ]
    states = markdown_table(("alert", "state"), alerts) if alerts else ""
    markdown = report_markdown("Opinion:", report.out_uri, rows, states)
    create_markdown_artifact(key="opinion-report", markdown=markdown, description=report.out_uri)


def _withdrawn_rows(report: MonitoringReport) -> list[tuple[str, str]]:
    """Return the number of withdrawn alerts, `MAX_ALERTS` of them by name, and the number of those without a name."""
    if not report.num_withdrawn:
        return []
    sentences = withdrawn_sentences(report)
    num_named = len(report.withdrawn_alerts)
    hidden = f"; {MAX_ALERTS} of {num_named:,} are named here, the page names all" if num_named > MAX_ALERTS else ""
    shown = [*sentences[: min(num_named, MAX_ALERTS)], *sentences[num_named:]]
    return [
        ("withdrawn", f"{report.num_withdrawn:,}{hidden}"),
        *((f"withdrawn, because {reason}", escaped(sentence)) for sentence, reason in shown),
    ]


@task(name="announce alerts", cache_policy=NO_CACHE)
def announce_alerts(report: MonitoringReport) -> None:
    """Emit `sbert.opinion.alert` for each new alert; the payload has its sentence, numbers and typical texts."""
    for alert in report.new_alerts:
        emit_event(
            event=OPINION_ALERT,
            resource={
                "prefect.resource.id": f"sbert.opinion.{report.out_uri}",
                "prefect.resource.name": report.out_uri,
                "sbert.topic": alert.topic,
                "sbert.series": alert.series,
            },
            payload={**alert.model_dump(mode="json"), "page_uri": report.page_uri},
        )

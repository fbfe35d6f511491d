"""Ask a person in the Prefect UI whether the first alerts of topics are told."""

import hashlib
import logging

from prefect.input import RunInput
from pydantic import Field

from sbert.apply.monitoring.report import MonitoringReport
from sbert.apply.monitoring.settings import MonitoringSettings
from sbert.apply.monitoring.told_alerts import decide_alerts
from sbert.counted import counted
from sbert.registry.approval import made_now
from tasks.ask_approval import can_ask, wait_for_person
from tasks.markdown import escaped

__all__ = ["FirstAlertForm", "ask_first_alerts"]

log = logging.getLogger(__name__)


class FirstAlertForm(RunInput):
    """The form that the Prefect UI shows for a run of the monitoring that waits."""

    approve: bool = Field(default=False, title="Tell", description="Tell of the first alerts of the topics below.")
    topics: list[str] = Field(
        default=[], title="Topics", description="Remove a topic to refuse its alert; its next alert waits again."
    )
    name: str = Field(default="", title="Your name", description="Stands in the record of alerts.")
    reason: str = Field(default="", title="Reason", description="Stands in the record of alerts.")


def ask_first_alerts(report: MonitoringReport, settings: MonitoringSettings) -> MonitoringReport:
    """Pause the run until a person decides on the first alerts of topics; return the report with the approved alerts.

    If no alert waits, the run does not pause. If the server has no UI (a temporary one), the alerts wait for the next run.
    If nobody answers within `first_alert_hours`, the alerts are refused.
    """
    if not report.waiting_alerts or not can_ask():
        return report
    waiting = report.waiting_alerts
    topics = list(dict.fromkeys(alert.topic for alert in waiting))
    log.info(
        "%s: the first alerts of %s wait for approval: resume this run in the Prefect UI; page: %s",
        report.out_uri, counted(len(topics), "topic"), report.page_uri,
    )  # fmt: skip
    form = FirstAlertForm.with_initial_data(description=_question(report), topics=topics)
    keys = hashlib.sha256("|".join(alert.key for alert in waiting).encode()).hexdigest()[:16]
    answer = wait_for_person(
        form, hours=settings.first_alert_hours, setting="first_alert_hours", key=f"first-alert-{keys}"
    )
    decision = made_now(approved=answer.approve, name=answer.name, reason=answer.reason)
    log.info("%s: first alerts %s", report.out_uri, decision.sentence())
    told = decide_alerts(report.out_uri, waiting, answer.topics, decision)
    return report.model_copy(update={"new_alerts": [*report.new_alerts, *told], "waiting_alerts": []})


def _question(report: MonitoringReport) -> str:
    lines = [f"- {escaped(alert.sentence)}" for alert in report.waiting_alerts]
    head = "These topics never had an alert that people were told of. Shall people be told?"
    return "\n\n".join([head, "\n".join(lines), f"Page: `{escaped(report.page_uri)}`"])

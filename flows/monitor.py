"""Watch a table over time, with its classes or its volume alone.

Run it with ``sbert monitor PREDICTIONS OUT --time-column …``, or as a deployment that follows the output of ``classify``.
"""

from typing import Annotated

from prefect import flow

from flows.hooks import HOOKS
from flows.neighbours import OutUri
from flows.parameters import ANY_JSON, advanced_form, completed, location, make_form, read_advanced
from flows.run_names import named_after
from sbert.apply.monitoring.report import MonitoringReport
from sbert.apply.monitoring.settings import MonitoringSettings
from tasks.ask_first_alerts import ask_first_alerts
from tasks.monitor import announce_alerts, report_opinion, watch_opinion

__all__ = ["monitor_opinion"]


@flow(name="monitor-opinion", flow_run_name=named_after("opinion of {predictions_uri}"), persist_result=False, **HOOKS)
def monitor_opinion(
    predictions_uri: Annotated[
        str,
        location(
            title="Predictions",
            description="Output of the classification, local or s3://. For volume alone, a table of embeddings too. "
            "Example: s3://company-embeddings/tickets-classes",
        ),
    ],
    out_uri: OutUri,
    settings: Annotated[
        MonitoringSettings,
        read_advanced(MonitoringSettings),
        ANY_JSON,
        advanced_form("monitor", '{"time_column": "created_at", "topic_column": "product"}', empty="Required."),
    ],
) -> MonitoringReport:
    """Count classes by topic and time, report rises beyond chance, and emit an event for each new alert.

    With `first_alert: ask` the run waits for a person before it tells of the first alert of a topic.

    Returns:
        What was found.
    """
    report = watch_opinion(predictions_uri, out_uri, settings)
    report = ask_first_alerts(report, settings)
    report_opinion(report)
    announce_alerts(report)
    return completed(report, report.summary())


make_form(monitor_opinion)

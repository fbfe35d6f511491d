"""Monitor a table over time, with or without classes: count rows by cell, compare cells with earlier cells, and report
rises.

>>> from sbert.apply.monitoring.run import monitor
>>> report = monitor("data/classes", "data/opinion", MonitoringSettings(time_column="at"))  # doctest: +SKIP
"""

import datetime as dt
import hashlib
import logging
import time
import uuid

import numpy as np
import polars as pl

from sbert.apply.monitoring.alerts import VOLUME, Alert, TopicHistory, walk_topic
from sbert.apply.monitoring.cell_table import JOB, publish_cells
from sbert.apply.monitoring.cells import CellCounts, buckets_between, count_cells
from sbert.apply.monitoring.monitored_table import MonitoredTable, open_monitored
from sbert.apply.monitoring.page import PAGE_NAME, opinion_page
from sbert.apply.monitoring.report import (
    AlertReport,
    MonitoringReport,
    WithdrawalReason,
    WithdrawnAlert,
    left_out,
    tested_sentence,
)
from sbert.apply.monitoring.settings import MonitoringSettings
from sbert.apply.monitoring.told_alerts import (
    Told,
    found_alerts,
    gone_alerts,
    news,
    read_told,
    write_told,
)
from sbert.apply.monitoring.typical_texts import TypicalText, texts_of_alerts
from sbert.counted import counted
from sbert.derived.derived_table import find_output
from sbert.errors import SettingsError
from sbert.storage.files import join, normalize_uri, write_bytes
from sbert.table.lease import hold_lease

__all__ = ["monitor"]

log = logging.getLogger(__name__)

MAX_BUCKETS = 20_000
"""Buckets from the first to the last; more are an error, since one wrong year would make them."""

NOT_ASKED = {"first_alert", "first_alert_hours", "max_alerts_shown", "num_texts", "text_column"}
"""Settings that decide how people are told, but not which cells are alerts."""


def monitor(
    predictions_uri: str, out_uri: str, settings: MonitoringSettings, *, now: dt.datetime | None = None
) -> MonitoringReport:
    """Count the classes of a table by topic and time, find rises, and write cells, alerts and a page.

    Args:
        predictions_uri: the output of `sbert classify`; or an embeddings table, whose volume is watched alone.
        out_uri: a derived table of cells; made if it is not there.
        settings: which columns say time and topic, and when a cell is an alert.
        now: the present moment; rows of a later time are left out.

    Raises:
        EncoderMismatchError: the table has another encoder than the classes.
        ColumnError: the table does not keep the time or topic column, or no value of the first is a time.
        NotATableError, TableError: the classes are not the output of `sbert classify`, or the output is of another job.
        SettingsError: too many topics or buckets.
    """
    began = time.monotonic()
    monitored = open_monitored(predictions_uri, settings)
    out_uri = normalize_uri(out_uri)
    find_output(out_uri, JOB)  # another table there is an error before any work
    counts = count_cells(monitored, settings, now or dt.datetime.now(dt.UTC))
    histories = _histories(counts, monitored, settings)
    alerts = _alerts_with_texts(histories, monitored, settings)
    run_id = str(uuid.uuid4())
    with hold_lease(out_uri, run_id, JOB):
        before = read_told(out_uri)
        asked = hashlib.sha256(settings.model_dump_json(exclude=NOT_ASKED).encode()).hexdigest()[:16]
        version = publish_cells(out_uri, histories, monitored, settings, run_id)
        is_new_model = before is not None and before.model != monitored.model
        has_new_settings = before is not None and before.settings != asked
        told_now = news(
            alerts,
            before,
            settings.first_alert,
            is_told_anew=is_new_model or has_new_settings,
            closes_after=dt.timedelta(seconds=settings.close_after * settings.bucket_seconds),
        )
        topics = {history.topic for history in histories}
        reason = WithdrawalReason.SETTINGS if has_new_settings else WithdrawalReason.ROWS
        gone, num_with_topic = gone_alerts(alerts, before, topics)
        report = MonitoringReport(
            predictions_uri=monitored.uri,
            out_uri=out_uri,
            version=version,
            num_rows=counts.num_rows,
            num_without_time=counts.num_without_time,
            num_unreadable_time=counts.num_unreadable_time,
            unreadable_time=counts.unreadable_time,
            num_in_future=counts.num_in_future,
            num_topics=len(histories),
            num_cells=sum(len(history.buckets) for history in histories),
            num_tested=sum(int(history.is_tested_B.sum()) for history in histories),
            num_small=sum(_num_small(history, settings) for history in histories),
            first_bucket=min((history.buckets[0] for history in histories), default=None),
            last_bucket=max((history.buckets[-1] for history in histories), default=None),
            num_open=sum(alert.closed is None for alert in alerts),
            alerts=alerts,
            new_alerts=told_now.told,
            waiting_alerts=told_now.waiting,
            withdrawn_alerts=[]
            if is_new_model
            else [WithdrawnAlert(sentence=sentence, reason=reason) for sentence in gone],
            num_withdrawn_with_topic=num_with_topic,
            withdrawn_with_topic_reason=reason,
            is_new_model=is_new_model,
            gone_with_model=gone if is_new_model else [],
            found_with_model=found_alerts(alerts, before) if is_new_model else [],
            page_uri=join(out_uri, "_reports", PAGE_NAME),
        )
        report = report.model_copy(update={"tested": tested_sentence(report, settings)})
        page = opinion_page(report, histories, monitored.shares, settings, is_multi_label=monitored.is_multi_label)
        write_bytes(report.page_uri, page.encode())
        decisions = before.decisions if before else {}
        decided = {key: topic for key, topic in before.alert_topics.items() if key in decisions} if before else {}
        told = Told(
            model=monitored.model,
            settings=asked,
            last_bucket=report.last_bucket,
            sentences={item.key: item.sentence for item in alerts},
            open_keys=[item.key for item in alerts if item.closed is None],
            alert_topics=decided | {item.key: item.topic for item in alerts},
            topics=told_now.topics,
            waiting=[alert.key for alert in told_now.waiting],
            decisions=decisions,
        )
        write_told(out_uri, told.without_gone_topics(topics))
    return report.model_copy(update={"seconds": round(time.monotonic() - began, 3)})


def _alerts_with_texts(
    histories: list[TopicHistory], monitored: MonitoredTable, settings: MonitoringSettings
) -> list[AlertReport]:
    """Return all alerts, the newest first; alerts on the page have typical texts."""
    alerts = sorted(
        (alert for history in histories for alert in history.alerts),
        key=lambda item: (item.opened, item.key),
        reverse=True,
    )
    texts = texts_of_alerts(alerts[: settings.max_alerts_shown], monitored, settings)
    return [_report(alert, own) for alert, own in zip(alerts, [*texts, *[[]] * len(alerts)], strict=False)]


def _histories(counts: CellCounts, monitored: MonitoredTable, settings: MonitoringSettings) -> list[TopicHistory]:
    cells = counts.counts
    if cells.is_empty():
        if counts.num_rows:
            log.warning(
                "%s: of %s none has a time that can be used (%s): nothing is watched",
                monitored.uri, counted(counts.num_rows, "row"), ", ".join(left_out(counts)),
            )  # fmt: skip
        return []
    first, last = (
        moment for moment in cells.select(pl.col("bucket").min(), pl.col("bucket").max().alias("last")).row(0)
    )
    num_buckets = int((last.timestamp() - first.timestamp()) / settings.bucket_seconds) + 1
    if num_buckets > MAX_BUCKETS:
        raise SettingsError(
            f"{monitored.uri}: {num_buckets:,} buckets of {settings.bucket} lie between {first} and {last}, but at most "
            f"{MAX_BUCKETS:,} are possible: choose longer buckets, or correct the times"
        )
    buckets = buckets_between(first, last, settings)
    if len(buckets) <= settings.min_history:
        log.warning(
            "%s: the rows lie in %s, but a test needs %d earlier buckets (min_history): nothing can be an alert yet",
            monitored.uri, counted(len(buckets), "bucket"), settings.min_history,
        )  # fmt: skip
    histories = []
    for topic, part in sorted(cells.partition_by("topic", as_dict=True).items()):
        first = part["bucket"].min()
        assert isinstance(first, dt.datetime)
        begin = buckets.index(first)
        histories.append(
            walk_topic(
                str(topic[0]),
                part,
                buckets[begin:],
                monitored.classes,
                settings,
                is_multi_label=monitored.is_multi_label,
            )
        )
    return histories


def _num_small(history: TopicHistory, settings: MonitoringSettings) -> int:
    volumes_B = history.counts_BS[:, -1]
    return int(((volumes_B > 0) & (volumes_B < settings.min_volume)).sum())


def _report(alert: Alert, texts: list[TypicalText]) -> AlertReport:
    is_share = alert.series != VOLUME
    return AlertReport(
        key=alert.key,
        topic=alert.topic,
        series=alert.series,
        sentence=alert.sentence(),
        opened=alert.opened,
        closed=alert.closed,
        peak=alert.peak,
        share=alert.count / max(1, alert.total) if is_share else None,
        num_rows=alert.total,
        expected=alert.expected.value,
        p_value=float(np.clip(alert.expected.p_value, 0, 1)),
        level=alert.level,
        texts=[text.text if text.count == 1 else f"{text.text} (and {text.count - 1:,} more)" for text in texts],
    )

"""Watch the classes of a table over time: count, compare with what came before, and say what rose.

>>> from sbert.apply.monitoring.run import monitor
>>> report = monitor("data/classes", "data/opinion", MonitoringSettings(time_column="at"))  # doctest: +SKIP
"""

import datetime as dt
import hashlib
import json
import logging
import time

import numpy as np
import polars as pl
from pydantic import BaseModel

from sbert.apply.classification.head import Head
from sbert.apply.classification.job import ClassificationJob, load_head
from sbert.apply.monitoring.alerts import VOLUME, Alert, TopicHistory, walk_topic
from sbert.apply.monitoring.cell_table import publish_cells
from sbert.apply.monitoring.cells import CellCounts, count_cells
from sbert.apply.monitoring.opinion_report import AlertReport, MonitoringReport, tested_sentence
from sbert.apply.monitoring.page import PAGE_NAME, opinion_page
from sbert.apply.monitoring.settings import MonitoringSettings
from sbert.apply.monitoring.shares import CorrectedShares
from sbert.apply.monitoring.typical_texts import TypicalText, texts_of_alerts
from sbert.derived.derived_table import DerivedTable
from sbert.errors import (
    EmbeddingsTableError,
    EncoderMismatchError,
    MissingError,
    NotATableError,
    SettingsError,
    TableError,
)
from sbert.storage.files import join, normalize_uri, read_bytes, write_bytes
from sbert.table.delta import Table

__all__ = ["monitor"]

log = logging.getLogger(__name__)

ALERTS_NAME = "alerts.json"
MAX_BUCKETS = 20_000
"""Buckets from the first to the last; more are an error, since one wrong year would make them."""


class _Known(BaseModel):
    """What the run before left, in `_reports/alerts.json`."""

    model: str
    settings: str = ""
    last_bucket: dt.datetime | None
    sentences: dict[str, str]


def monitor(
    predictions_uri: str, out_uri: str, settings: MonitoringSettings, *, now: dt.datetime | None = None
) -> MonitoringReport:
    """Count the classes of a table by topic and time, find what rose, and write cells, alerts and a page.

    Args:
        predictions_uri: the output of `sbert classify`.
        out_uri: a derived table of cells; made if it is not there.
        settings: which columns say time and topic, and when a cell is an alert.
        now: the present moment; rows of a later time are left out.

    Raises:
        EncoderMismatchError: the table has another encoder than the classes.
        ColumnError: the table does not keep the time or topic column, or no value of the first is a time.
        NotATableError, TableError: the classes are not the output of `sbert classify`.
        SettingsError: too many topics or buckets.
    """
    began = time.monotonic()
    now = now or dt.datetime.now(dt.UTC)
    predictions = _open_classes(predictions_uri)
    job, table = _classification_of(predictions)
    head_name = next((head for head in job.heads if head.task == settings.task), None)
    if head_name is None and len(job.heads) == 1 and not settings.task:
        head_name = job.heads[0]
    if head_name is None:
        tasks = ", ".join(head.task or "(none)" for head in job.heads)
        raise SettingsError(f"{predictions.uri}: there is no task {settings.task!r}: set task to one of {tasks}")
    head = load_head(job.heads_uri, head_name, table)
    _check_series(head.classes, settings, predictions.uri)
    label_column = f"{job.prefix(head_name)}label"
    counts = count_cells(predictions, table, label_column, settings, now)
    histories = _histories(counts, head, settings, predictions.uri)
    alerts = sorted(
        (alert for history in histories for alert in history.alerts),
        key=lambda item: (item.opened, item.key),
        reverse=True,
    )
    shown = alerts[: settings.max_alerts_shown]
    texts = texts_of_alerts(shown, predictions, table, label_column, settings)
    out_uri = normalize_uri(out_uri)
    known = _known(out_uri)
    asked = hashlib.sha256(settings.model_dump_json().encode()).hexdigest()[:16]
    model = f"{head.record.fingerprint}|{table.encoder.fingerprint}"
    reported = [_report(alert, found) for alert, found in zip(alerts, [*texts, *[[]] * len(alerts)], strict=False)]
    is_new_model = known is not None and known.model != model
    version = publish_cells(out_uri, histories, CorrectedShares(head.confusion), predictions, table, settings)
    last = max((history.buckets[-1] for history in histories), default=None)
    report = MonitoringReport(
        predictions_uri=predictions.uri,
        out_uri=out_uri,
        version=version,
        num_rows=counts.num_rows,
        num_without_time=counts.num_without_time,
        num_in_future=counts.num_in_future,
        num_topics=len(histories),
        num_cells=sum(len(history.buckets) for history in histories),
        num_tested=sum(int(history.is_tested_B.sum()) for history in histories),
        num_small=sum(_num_small(history, settings) for history in histories),
        first_bucket=min((history.buckets[0] for history in histories), default=None),
        last_bucket=last,
        num_open=sum(alert.closed is None for alert in alerts),
        alerts=reported,
        new_alerts=_new(reported, known, is_told_anew=is_new_model or (known is not None and known.settings != asked)),
        is_new_model=is_new_model,
        gone_with_model=_gone(reported, known) if is_new_model else [],
        found_with_model=_found(reported, known) if is_new_model else [],
        page_uri=join(out_uri, "_reports", PAGE_NAME),
    )
    report = report.model_copy(update={"tested": tested_sentence(report, settings)})
    page = opinion_page(report, histories, CorrectedShares(head.confusion), settings)
    write_bytes(report.page_uri, page.encode())
    left = _Known(
        model=model, settings=asked, last_bucket=last, sentences={item.key: item.sentence for item in reported}
    )
    write_bytes(join(out_uri, "_reports", ALERTS_NAME), left.model_dump_json(indent=1).encode())
    return report.model_copy(update={"seconds": round(time.monotonic() - began, 3)})


def _open_classes(uri: str) -> DerivedTable:
    """Open the output of a classification.

    Raises:
        EmbeddingsTableError: there are embeddings.
        NotATableError: there is no derived table.
    """
    try:
        return DerivedTable.open(uri)
    except EmbeddingsTableError as error:
        raise EmbeddingsTableError(
            f"{uri}: this is an embeddings table, but monitoring counts the classes of its rows: make them with "
            f"`sbert classify {uri} LABELS CLASSES`, and name CLASSES"
        ) from error


def _classification_of(predictions: DerivedTable) -> tuple[ClassificationJob, Table]:
    """Return the job that made the classes, and the version of the embeddings table that they are of."""
    info = predictions.info
    if info.job != ClassificationJob.name:
        raise TableError(
            f"{predictions.uri}: this table belongs to the job {info.job}: name the output of `sbert classify`"
        )
    newest = Table.open(info.table_uri)
    if newest.encoder.fingerprint != info.encoder_fingerprint:
        raise EncoderMismatchError(
            f"{predictions.uri}: its classes are of the encoder {info.encoder_fingerprint[:12]}, but {newest.uri} has "
            f"{newest.encoder.fingerprint[:12]} now: run `sbert classify` again first"
        )
    job = ClassificationJob.model_validate(info.settings)
    try:
        return job, Table.open(info.table_uri, info.table_version)
    except (NotATableError, TableError) as error:
        raise TableError(
            f"{predictions.uri}: the classes are of version {info.table_version} of {info.table_uri}, which cannot be read "
            f"any more ({error}): run `sbert classify` again first"
        ) from error


def _check_series(classes: list[str], settings: MonitoringSettings, where: str) -> None:
    unknown = sorted({*settings.series} - {*classes, VOLUME})
    if unknown:
        raise SettingsError(
            f"{where}: series names {', '.join(map(repr, unknown))}, which is no class and not {VOLUME!r}: name some of "
            f"{', '.join([*classes, VOLUME])}"
        )


def _histories(
    counts: CellCounts, head: Head, settings: MonitoringSettings, predictions_uri: str
) -> list[TopicHistory]:
    cells = counts.counts
    if cells.is_empty():
        if counts.num_rows:
            log.warning(
                "%s: none of %d rows has a time that can be used (%d without, %d in the future): nothing is watched",
                predictions_uri, counts.num_rows, counts.num_without_time, counts.num_in_future,
            )  # fmt: skip
        return []
    first, last = (
        moment for moment in cells.select(pl.col("bucket").min(), pl.col("bucket").max().alias("last")).row(0)
    )
    grid = pl.datetime_range(first, last, settings.bucket, time_unit="ms", time_zone=settings.time_zone, eager=True)
    if len(grid) > MAX_BUCKETS:
        raise SettingsError(
            f"{predictions_uri}: {len(grid):,} buckets of {settings.bucket} lie between {first} and {last}, at most "
            f"{MAX_BUCKETS:,} are possible: choose longer buckets, or correct the times"
        )
    if len(grid) <= settings.min_history:
        log.warning(
            "%s: there are %d buckets, min_history asks for %d earlier ones: nothing can be an alert yet",
            predictions_uri, len(grid), settings.min_history,
        )  # fmt: skip
    buckets = grid.to_list()
    histories = []
    for topic, part in sorted(cells.partition_by("topic", as_dict=True).items()):
        begin = buckets.index(part["bucket"].min())
        histories.append(walk_topic(str(topic[0]), part, buckets[begin:], head.classes, settings))
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
        texts=[text.text if text.count == 1 else f"{text.text} (and {text.count - 1:,} more)" for text in texts],
    )


def _known(out_uri: str) -> _Known | None:
    """Return what the run before left; None for the first run."""
    uri = join(out_uri, "_reports", ALERTS_NAME)
    try:
        return _Known.model_validate(json.loads(read_bytes(uri)))
    except MissingError:
        return None
    except ValueError as error:
        raise TableError(
            f"{uri}: cannot be read ({error}): remove it; the next run then tells of no earlier alert"
        ) from error


def _new(alerts: list[AlertReport], known: _Known | None, *, is_told_anew: bool) -> list[AlertReport]:
    """Return the alerts to tell people about.

    The first run tells of alerts that are open now. A run with another model or other settings tells only of what happened
    after the run before: what it sees differently in the past is a change of its own, not of the world.
    """
    if known is None:
        return [alert for alert in alerts if alert.closed is None]
    fresh = [alert for alert in alerts if alert.key not in known.sentences]
    if not is_told_anew:
        return fresh
    return [alert for alert in fresh if known.last_bucket is None or alert.opened > known.last_bucket]


def _gone(alerts: list[AlertReport], known: _Known | None) -> list[str]:
    keys = {alert.key for alert in alerts}
    return [sentence for key, sentence in (known.sentences if known else {}).items() if key not in keys]


def _found(alerts: list[AlertReport], known: _Known | None) -> list[str]:
    if known is None:
        return []
    return [
        alert.sentence
        for alert in alerts
        if alert.key not in known.sentences and known.last_bucket is not None and alert.opened <= known.last_bucket
    ]

"""Count the alerts that a switch of the model causes: two heads name the same tweets, and the second follows the first.

The first head is monitored up to a bucket. Then the second head names all rows, as `sbert classify` does with a new head, and the
next run tells its alerts (`sbert.apply.monitoring.told_alerts.news`). A bucket is tested with the rows of its time and of before
alone, so the alerts of a shorter history are those of the whole one that opened within it.
"""

import datetime as dt
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace

import polars as pl

from sbert.apply.monitoring.alerts import Alert
from sbert.apply.monitoring.report import AlertReport
from sbert.apply.monitoring.settings import FirstAlert, MonitoringSettings
from sbert.apply.monitoring.told_alerts import Told, news

__all__ = ["AFTER", "SwitchCounts", "measure_switches"]

AFTER = "label_after"
"""Column of the classes that the second head named."""
Watch = Callable[[str, pl.DataFrame, MonitoringSettings], list[Alert]]


@dataclass(frozen=True)
class SwitchCounts:
    """Switches of the model, and the alerts around them; all are sums over the switches."""

    num_series: int = 0
    num_switches: int = 0
    told: int = 0
    """Alerts told by the run after the switch, over the same rows."""
    seen_differently: int = 0
    """Alerts of the past that one head sees and the other does not."""
    only_second: int = 0
    """The part of these that the second head alone sees: as new alerts of the same head they would be told."""
    told_next: int = 0
    """Alerts told where the switch comes together with the rows of the next bucket."""
    told_without: int = 0
    """Alerts that the first head would have told in that run."""
    of_both: int = 0
    """Alerts told that the first head would have told too."""
    repeated: int = 0
    """Alerts of that run that are not told, because the first head had an alert of the same event open."""


def measure_switches(
    series: Sequence[tuple[str, pl.DataFrame]], settings: MonitoringSettings, warm_up: dt.timedelta, watch: Watch
) -> SwitchCounts:
    """Switch from the first head to the second after each bucket of each series.

    Args:
        series: topics, and their rows with ``moment``, ``label`` and `AFTER`.
        settings: those of the monitoring.
        warm_up: time from the first bucket, within which no model is switched.
        watch: returns the alerts of a topic from its rows.
    """
    counts = SwitchCounts(num_series=len(series))
    for topic, rows in series:
        first = watch(topic, rows, settings)
        second = watch(topic, rows.with_columns(label=pl.col(AFTER)), settings)
        begin = rows["moment"].dt.truncate(settings.bucket)
        buckets = pl.datetime_range(
            begin.min(), begin.max(), settings.bucket, time_unit="ms", time_zone="UTC", eager=True
        )  # type: ignore[call-overload]
        for bucket in buckets.to_list():
            if buckets[0] + warm_up <= bucket < buckets[-1]:
                counts = _switched(counts, first, second, bucket, settings)
    return counts


def _switched(
    counts: SwitchCounts,
    first: list[Alert],
    second: list[Alert],
    bucket: dt.datetime,
    settings: MonitoringSettings,
) -> SwitchCounts:
    step = dt.timedelta(seconds=settings.bucket_seconds)
    known, known_after = _until(first, bucket), _until(second, bucket)
    keys, keys_after = {alert.key for alert in known}, {alert.key for alert in known_after}
    before = Told(
        model="first",
        last_bucket=bucket,
        sentences={alert.key: alert.sentence for alert in known},
        open_keys=[alert.key for alert in known if alert.closed is None or alert.closed > bucket],
    )

    def told(alerts: list[AlertReport], record: Told = before, *, is_told_anew: bool = True) -> set[str]:
        closes_after = settings.close_after * step
        outcome = news(alerts, record, FirstAlert.AUTOMATIC, is_told_anew=is_told_anew, closes_after=closes_after)
        return {alert.key for alert in outcome.told}

    after_next = _until(second, bucket + step)
    told_next = told(after_next)
    of_first = told(_until(first, bucket + step), is_told_anew=False)
    return replace(
        counts,
        num_switches=counts.num_switches + 1,
        told=counts.told + len(told(known_after)),
        seen_differently=counts.seen_differently + len(keys ^ keys_after),
        only_second=counts.only_second + len(keys_after - keys),
        told_next=counts.told_next + len(told_next),
        told_without=counts.told_without + len(of_first),
        of_both=counts.of_both + len(told_next & of_first),
        repeated=counts.repeated + len(told(after_next, before.model_copy(update={"open_keys": []})) - told_next),
    )


def _until(alerts: list[Alert], bucket: dt.datetime) -> list[AlertReport]:
    """Return the alerts that opened up to a bucket, as a run reports them."""
    return [
        AlertReport(
            key=alert.key, topic=alert.topic, series=alert.series, sentence=alert.sentence(), opened=alert.opened,
            closed=alert.closed, peak=alert.peak, share=None, num_rows=alert.total, expected=alert.expected.value,
            p_value=alert.expected.p_value, level=alert.level, texts=[],
        )
        for alert in alerts
        if alert.opened <= bucket
    ]  # fmt: skip

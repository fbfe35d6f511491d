"""Walk through the buckets of a topic in time: compute the expectation for each bucket, and open and close alerts.

The whole history is walked through in each run, from the classes that the rows have now. So late, changed and deleted rows
change their cells and what follows, and a new model is judged by a history of its own.
"""

import datetime as dt
import math
from dataclasses import dataclass, replace

import numpy as np
import numpy.typing as npt
import polars as pl
from numpy.lib.stride_tricks import sliding_window_view

from sbert.apply.monitoring.settings import MonitoringSettings
from sbert.apply.monitoring.surges import (
    Expected,
    Spans,
    clump_share,
    share_surprise,
    volume_surprise,
    weights_of,
)
from sbert.counted import counted

__all__ = ["VOLUME", "Alert", "TopicHistory", "opening_level", "walk_topic"]

VOLUME = "volume"
"""Name of the series of all rows of a topic; the other series are classes."""
MONTH_SECONDS = 30 * 86_400
HISTORY_HALF_LIVES = 8
"""Half-lives after which a bucket no longer counts."""
OPEN_HALF_LIVES = 2
"""Half-lives after which an open alert ends: the surprising level has become the usual level."""
MONDAY_TO_FRIDAY = 5

Int64 = npt.NDArray[np.int64]
Bools = npt.NDArray[np.bool_]


@dataclass(frozen=True)
class Alert:
    """A series of a topic that rose above its expectation."""

    topic: str
    series: str
    """A class, or `VOLUME`."""
    opened: dt.datetime
    """Begin of the first bucket."""
    closed: dt.datetime | None
    """Begin of the bucket in which it ended; None while it is open."""
    peak: dt.datetime
    """The most surprising bucket."""
    count: int
    """Rows of the series in the most surprising bucket, and in the buckets before it that were tested together with it."""
    total: int
    """All rows of the topic in these buckets."""
    expected: Expected
    since: dt.datetime
    """Begin of the first bucket that was looked at together with the most surprising one."""
    level: float
    """The p-value at which an alert of this series opens (`opening_level`)."""

    @property
    def key(self) -> str:
        """Name of the alert, the same in every run."""
        return f"{self.topic}|{self.series}|{self.opened.isoformat()}"

    def sentence(self) -> str:
        """Return the alert as a sentence."""
        odds = f"once in {1 / max(self.expected.p_value, 1e-12):,.0f} buckets"
        when = f"{self.since:%Y-%m-%d %H:%M}"
        rows = counted(self.total, "row")
        if self.series == VOLUME:
            return (
                f"{self.topic}: {rows} from {when} on, about {self.expected.value:,.0f} were expected; "
                f"by chance this happens {odds}"
            )
        return (
            f"{self.topic}: {self.count / max(1, self.total):.0%} of {rows} from {when} on are {self.series}, "
            f"{self.expected.value:.0%} were expected; by chance this happens {odds}"
        )


@dataclass(frozen=True)
class TopicHistory:
    """Every bucket of a topic from its first row on."""

    topic: str
    buckets: list[dt.datetime]
    """Begin of each of B buckets."""
    counts_BS: Int64
    """Rows of each series by bucket, `VOLUME` last."""
    series: list[str]
    expected: dict[str, list[Expected | None]]
    """Expectation of each series and bucket; None where too few rows come before it."""
    is_open: dict[str, list[bool]]
    """For each series and bucket, whether an alert is open."""
    alerts: list[Alert]
    is_tested_B: Bools
    """For each bucket, whether an alert could have opened in it: enough rows, and enough buckets before it."""
    levels: dict[str, float | None]
    """The p-value at which an alert of each series opens; None where rises of the series are no alerts."""


def opening_level(settings: MonitoringSettings, num_series: int) -> float:
    """Return the p-value at which an alert opens.

    A topic has ``num_series`` tests a bucket, of the series whose rises are alerts. At this level,
    `MonitoringSettings.false_alerts` of those in 30 days are expected to pass by chance (Bonferroni's correction of the
    expected number, over all cells of the topic that are looked at in 30 days, and not over other topics).
    """
    num_tests = max(1, num_series) * MONTH_SECONDS / settings.bucket_seconds
    return min(0.05, settings.false_alerts / num_tests)


def walk_topic(
    topic: str,
    cells: pl.DataFrame,
    buckets: list[dt.datetime],
    classes: list[str],
    settings: MonitoringSettings,
    *,
    is_multi_label: bool = False,
) -> TopicHistory:
    """Walk through a topic.

    Args:
        topic: its name.
        cells: its counts, with the columns ``bucket``, ``label`` and ``count``.
        buckets: every bucket from the topic's first to the last of all topics, without gaps.
        classes: the classes, in the order of the series; none where only the volume is watched.
        settings: what opens and closes an alert.
        is_multi_label: whether a row can have several classes; the counts of a null label are then all rows. Each class is
            tested by itself, as rows that were given it among all rows.
    """
    series = [*classes, VOLUME]
    counts_BS = _counts(cells, buckets, classes, is_multi_label=is_multi_label)
    slots = [_slot(bucket, settings) for bucket in buckets]
    watched = [name for name in series if not settings.series or name in settings.series]
    level = opening_level(settings, len(watched))
    levels = {name: level if name in watched else None for name in series}
    expected: dict[str, list[Expected | None]] = {}
    is_open: dict[str, list[bool]] = {}
    alerts: list[Alert] = []
    is_tested_B = np.zeros(len(buckets), np.bool_)
    for place, name in enumerate(series):
        opens_at = level if name in watched else -1.0  # no p-value reaches it
        walk = _SeriesWalk(topic, name, buckets, slots, counts_BS[:, place], counts_BS[:, -1], opens_at, settings)
        walk.run()
        expected[name], is_open[name] = walk.expected, walk.is_open
        alerts += walk.alerts
        is_tested_B |= walk.is_tested_B
    return TopicHistory(topic, buckets, counts_BS, series, expected, is_open, alerts, is_tested_B, levels)


class _SeriesWalk:
    """One series of one topic."""

    def __init__(
        self,
        topic: str,
        series: str,
        buckets: list[dt.datetime],
        slots: list[tuple[int, int]],
        counts_B: Int64,
        totals_B: Int64,
        level: float,
        settings: MonitoringSettings,
    ) -> None:
        self._topic, self._series = topic, series
        self._buckets, self._settings, self._level = buckets, settings, level
        self._slots = np.array(slots).reshape(len(buckets), 2)
        self._counts, self._totals = counts_B, totals_B
        self._is_usual = np.ones(len(buckets), np.bool_)
        self.expected: list[Expected | None] = []
        self.is_open: list[bool] = []
        self.alerts: list[Alert] = []
        self.is_tested_B = np.zeros(len(buckets), np.bool_)

    def run(self) -> None:
        """Test each bucket with the rows that were known at its time."""
        opened, calm = -1, 0
        for at in range(len(self._buckets)):
            expected = self._expect(at)
            self.expected.append(expected)
            self.is_tested_B[at] = expected is not None and self._has_volume(at, expected)
            if opened < 0:
                if expected is not None and self.is_tested_B[at] and expected.p_value <= self._level:
                    opened, calm = at, 0
                    self._is_usual[at - expected.num_buckets + 1 : at] = False
            else:
                is_calm = expected is None or expected.p_value > self._settings.close_above
                calm = calm + 1 if is_calm else 0
                is_level = at - opened >= OPEN_HALF_LIVES * self._settings.half_life
                if calm >= self._settings.close_after or is_level:
                    self.alerts.append(self._alert(opened, at))
                    if is_level:  # what was before says nothing about it
                        self._is_usual[:opened], self._is_usual[opened:at] = False, True
                    opened = -1
            self._is_usual[at] = opened < 0
            self.is_open.append(opened >= 0)
        if opened >= 0:
            self.alerts.append(self._alert(opened, None))

    def _has_volume(self, at: int, expected: Expected) -> bool:
        first = at - expected.num_buckets + 1
        return bool(self._totals[first : at + 1].sum() >= self._settings.min_volume)

    def _expect(self, at: int) -> Expected | None:
        """Return the most surprising of the looks at a bucket: alone, and together with buckets before it.

        Each p-value is multiplied by the number of looks (Bonferroni's correction for taking the smallest), and by the share
        of looks that do not repeat the look before.
        """
        lengths = [1] if self._series == VOLUME else [length for length in self._settings.windows if length <= at + 1]
        looks = [best for length in lengths if (best := self._look(at, length)) is not None]
        if not looks:
            return None
        best = min(looks, key=lambda look: look.p_value)
        return replace(best, p_value=min(1.0, best.p_value * len(lengths)))

    def _look(self, at: int, length: int) -> Expected | None:
        """Test the last `length` buckets together against the buckets before them."""
        begin = at - length + 1
        first = max(0, begin - math.ceil(HISTORY_HALF_LIVES * self._settings.half_life))
        earlier = first + np.flatnonzero(self._is_usual[first:begin])
        if (self._totals[earlier] > 0).sum() < self._settings.min_history:
            return None
        same = (self._slots[earlier] == self._slots[at]).all(axis=1)
        weights = weights_of((at - earlier).astype(np.float64), same, self._settings.half_life)
        if self._series == VOLUME:
            return volume_surprise(int(self._totals[at]), self._totals[earlier], weights)
        count, total = (int(values[begin : at + 1].sum()) for values in (self._counts, self._totals))
        if total == 0:
            return None
        spans = None if length == 1 else self._spans(first, begin, length, at)
        surprise = share_surprise(count, total, self._counts[earlier], self._totals[earlier], weights, spans)
        return replace(surprise, p_value=surprise.p_value * clump_share(surprise.p_value, length), num_buckets=length)

    def _spans(self, first: int, begin: int, length: int, at: int) -> Spans | None:
        """Return all spans of so many usual buckets from `first` to `begin`; None without one."""
        is_whole = (
            sliding_window_view(self._is_usual[first:begin], length).all(axis=1) if begin - first >= length else ()
        )
        starts = first + np.flatnonzero(is_whole)
        if not len(starts):
            return None
        counts_S, totals_S = (
            sliding_window_view(values[:begin], length)[starts].sum(axis=1) for values in (self._counts, self._totals)
        )
        ages_S = (at - starts - length + 1).astype(np.float64)
        return Spans(counts_S, totals_S, weights_of(ages_S, np.zeros(len(ages_S), np.bool_), self._settings.half_life))

    def _alert(self, opened: int, closed: int | None) -> Alert:
        until = len(self._buckets) if closed is None else max(opened + 1, closed)
        p_values = [
            (at_bucket.p_value, at) for at in range(opened, until) if (at_bucket := self.expected[at]) is not None
        ]
        peak = min(p_values)[1]
        expected = self.expected[peak]
        assert expected is not None
        since = peak - expected.num_buckets + 1
        return Alert(
            topic=self._topic,
            series=self._series,
            opened=self._buckets[opened],
            closed=None if closed is None else self._buckets[closed],
            peak=self._buckets[peak],
            count=int(self._counts[since : peak + 1].sum()),
            total=int(self._totals[since : peak + 1].sum()),
            expected=expected,
            since=self._buckets[since],
            level=self._level,
        )


def _counts(cells: pl.DataFrame, buckets: list[dt.datetime], classes: list[str], *, is_multi_label: bool) -> Int64:
    """Return rows by bucket and series, shape (B, classes + 1); the last is that of all rows."""
    # By the moment: the two hours that a clock put back repeats are equal as local times.
    place = {bucket.timestamp(): at for at, bucket in enumerate(buckets)}
    number = {name: at for at, name in enumerate(classes)}
    counts_BS = np.zeros((len(buckets), len(classes) + 1), np.int64)
    for bucket, label, count in cells.select("bucket", "label", "count").iter_rows():
        if label is not None:  # without classes there is the volume alone
            counts_BS[place[bucket.timestamp()], number[label]] += count
        if label is None or not is_multi_label:
            counts_BS[place[bucket.timestamp()], -1] += count
    return counts_BS


def _slot(bucket: dt.datetime, settings: MonitoringSettings) -> tuple[int, int]:
    """Return the part of the day, and whether it is a working day; of a bucket of days the day of the week."""
    if settings.bucket_seconds >= 86_400:
        return 0, bucket.weekday() if settings.bucket_seconds == 86_400 else 0
    return bucket.hour * 60 + bucket.minute, int(bucket.weekday() < MONDAY_TO_FRIDAY)

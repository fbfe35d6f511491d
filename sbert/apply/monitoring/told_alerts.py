"""The record of alerts that people were told of: `_reports/alerts.json`, beside the page.

With `first_alert: ask` the first alert of a topic waits until a person has decided. The decision stands in this file.

The file holds topics, classes and numbers, and what people said of alerts; never a text or an id of a row. An erasure keeps
it (`sbert/erase/reports.py`), so that alerts which are open are not told again: never add texts of rows to it.
"""

import datetime as dt
import json
from collections.abc import Collection, Iterable
from dataclasses import dataclass
from typing import Self

from pydantic import BaseModel, Field

from sbert.apply.monitoring.report import AlertReport
from sbert.apply.monitoring.settings import FirstAlert
from sbert.errors import MissingError, TableError
from sbert.registry.approval import Approval
from sbert.storage.files import join, read_bytes, write_bytes

__all__ = [
    "News",
    "Told",
    "decide_alerts",
    "found_alerts",
    "gone_alerts",
    "news",
    "read_told",
    "write_told",
]

ALERTS_NAME = "alerts.json"


class Told(BaseModel):
    """The record that the run before left."""

    model: str
    settings: str = ""
    last_bucket: dt.datetime | None
    sentences: dict[str, str]
    """Every alert of the history by its key."""
    open_keys: list[str] = Field(default=[])
    """Keys of the alerts that were open; empty in a file of an earlier version."""
    alert_topics: dict[str, str] = Field(default={})
    """Topic of each alert and of each decision by the alert's key; empty in a file of an earlier version."""
    topics: list[str] | None = None
    """Topics of which people were told an alert; None in a file of an earlier version: all topics with an alert."""
    waiting: list[str] = Field(default=[])
    """Keys of alerts that wait for a person."""
    decisions: dict[str, Approval] = Field(default={})
    """Decisions of people about alerts, by the alert's key."""

    @property
    def known_topics(self) -> set[str]:
        """Topics whose next alert needs no person."""
        if self.topics is not None:
            return set(self.topics)
        return {topic for key in self.sentences for topic in _possible_topics(key)}

    def topic_of(self, key: str, topics: Collection[str]) -> str | None:
        """Return the topic of an alert; None if it is not one of `topics`.

        A file of an earlier version names no topics of alerts. There the longest of `topics` with which the key begins is
        taken, since topics and classes may contain the sign that separates the parts of a key.
        """
        possible = [self.alert_topics[key]] if key in self.alert_topics else _possible_topics(key)
        return max((topic for topic in possible if topic in topics), key=len, default=None)

    def without_gone_topics(self, topics: Collection[str]) -> Self:
        """Return the record of `topics` alone, so that an earlier record keeps no topic that was erased.

        A topic that comes back is a new one, so its first alert waits for a person again where people are asked.
        """
        return self.model_copy(
            update={
                "topics": [topic for topic in self.topics or [] if topic in topics],
                "alert_topics": {key: topic for key, topic in self.alert_topics.items() if topic in topics},
                "decisions": {
                    key: decision for key, decision in self.decisions.items() if self.topic_of(key, topics) is not None
                },
            }
        )


@dataclass(frozen=True)
class News:
    """The alerts of a run to tell people about, and those that wait."""

    told: list[AlertReport]
    waiting: list[AlertReport]
    """First alerts of their topics, which a person decides on."""
    topics: list[str]
    """Topics about which people have been told an alert, in this run or before."""


def read_told(out_uri: str) -> Told | None:
    """Return the record of the run before; None for the first run.

    Raises:
        TableError: the file cannot be read.
    """
    uri = join(out_uri, "_reports", ALERTS_NAME)
    try:
        return Told.model_validate(json.loads(read_bytes(uri)))
    except MissingError:
        return None
    except ValueError as error:
        raise TableError(
            f"{uri}: cannot be read ({error}): remove this file; the next run then reports every open alert again"
        ) from error


def write_told(out_uri: str, told: Told) -> None:
    """Write the record that the next run reads."""
    write_bytes(join(out_uri, "_reports", ALERTS_NAME), told.model_dump_json(indent=1).encode())


def news(
    alerts: list[AlertReport],
    before: Told | None,
    first_alert: FirstAlert,
    *,
    is_told_anew: bool,
    closes_after: dt.timedelta,
) -> News:
    """Return the alerts to tell people about, and the alerts that wait for a person.

    The first run tells people the alerts that are open now. A run with another model or other settings tells only the alerts
    of events after the previous run, because earlier differences come from the model or the settings. An event of which an
    alert was open then is not told again because the new model sees it begin later, unless this run saw it end before. An
    event of which an alert was open is not told again either because late rows make it begin earlier. An alert that waited
    for a person and is still there goes on waiting; when people are no longer asked, it is told.

    Args:
        alerts: the alerts of this run.
        before: the record of the run before; None for the first run.
        first_alert: whether a person decides on the first alert of a topic.
        is_told_anew: whether model or settings are other ones than in the run before.
        closes_after: time after which an open alert closes at the earliest.
    """
    fresh = _fresh(alerts, before, closes_after) if is_told_anew else _unknown(alerts, before)
    waited = _openings(before.waiting) if before else {}
    fresh = [alert for alert in alerts if alert in fresh or _covers_any(alert, waited)]
    topics = before.known_topics if before else set()
    waiting = [alert for alert in fresh if first_alert is FirstAlert.ASK and alert.topic not in topics]
    told = [alert for alert in fresh if alert not in waiting]
    return News(told, waiting, sorted(topics | {alert.topic for alert in told}))


def _unknown(alerts: list[AlertReport], before: Told | None) -> list[AlertReport]:
    if before is None:
        return [alert for alert in alerts if alert.closed is None]
    known, were_open = _openings(before.sentences), _openings(before.open_keys)
    return [
        alert
        for alert in alerts
        if _utc(alert.opened) not in known.get(_series_of(alert), ()) and not _covers_any(alert, were_open)
    ]


def _fresh(alerts: list[AlertReport], before: Told | None, closes_after: dt.timedelta) -> list[AlertReport]:
    """Return the unknown alerts of events after the previous run."""
    unknown = _unknown(alerts, before)
    if before is None or before.last_bucket is None:
        return unknown
    last = _utc(before.last_bucket)
    were_open = _openings(before.open_keys)

    def goes_on(alert: AlertReport) -> bool:
        """Return whether the alert may be of an event that was open: this run did not see that event end before."""
        openings = were_open.get(_series_of(alert), ())
        ended = any(
            _series_of(other) == _series_of(alert)
            and _utc(other.opened) <= last
            and other.closed is not None
            and min(openings) < _utc(other.closed) <= _utc(alert.opened)
            for other in alerts
            if openings
        )
        return bool(openings) and not ended

    return [alert for alert in unknown if _utc(alert.opened) > (last + closes_after if goes_on(alert) else last)]


def decide_alerts(
    out_uri: str, waiting: Iterable[AlertReport], approved_topics: Iterable[str], decision: Approval
) -> list[AlertReport]:
    """Record a person's decision about waiting alerts; return the alerts to tell now.

    A topic that was approved is known from now on: its later alerts wait for nobody. An alert that was refused is not told;
    the next one of its topic waits again.

    Args:
        out_uri: the output of the monitoring.
        waiting: the alerts that the person saw.
        approved_topics: topics to tell of; the alerts of all others are refused.
        decision: who decided, and why; `approved` is set by topic.

    Raises:
        TableError: the record of alerts is not there or cannot be read.
    """
    before = read_told(out_uri)
    if before is None:
        raise TableError(f"{out_uri}: there is no record of alerts (_reports/{ALERTS_NAME}): run `sbert monitor` first")
    topics = set(approved_topics) if decision.approved else set()
    asked = [alert for alert in waiting if alert.key in before.waiting]  # another run may have been faster
    told = [alert for alert in asked if alert.topic in topics]
    decisions = {alert.key: decision.model_copy(update={"approved": alert.topic in topics}) for alert in asked}
    write_told(
        out_uri,
        before.model_copy(
            update={
                "topics": sorted(before.known_topics | {alert.topic for alert in told}),
                "waiting": [key for key in before.waiting if key not in decisions],
                "decisions": before.decisions | decisions,
            }
        ),
    )
    return told


def gone_alerts(alerts: list[AlertReport], before: Told | None, topics: Collection[str]) -> tuple[list[str], int]:
    """Return the sentences of alerts that were there in the run before, and the number of those whose topics are gone.

    An alert is still there if an alert of this run covers the moment at which it opened. An alert of a topic without rows is
    counted and not named, so that no page names a topic that was erased.

    Args:
        alerts: the alerts of this run.
        before: the record of the run before.
        topics: the topics that have rows.
    """
    if before is None:
        return [], 0
    by_series: dict[str, list[AlertReport]] = {}
    for alert in alerts:
        by_series.setdefault(_series_of(alert), []).append(alert)
    gone = {}
    for key, sentence in before.sentences.items():
        opening = _openings([key])
        if not any(_covers_any(alert, opening) for series in opening for alert in by_series.get(series, ())):
            gone[key] = sentence
    named = [sentence for key, sentence in gone.items() if before.topic_of(key, topics) is not None]
    return named, len(gone) - len(named)


def found_alerts(alerts: list[AlertReport], before: Told | None) -> list[str]:
    """Return the sentences of alerts about the past that the run before did not see."""
    if before is None or before.last_bucket is None:
        return []
    known, last = _openings(before.sentences), _utc(before.last_bucket)
    return [alert.sentence for alert in alerts if _utc(alert.opened) <= last and not _covers_any(alert, known)]


def _covers_any(alert: AlertReport, openings: dict[str, list[dt.datetime]]) -> bool:
    """Return whether an alert of the same topic and series opened at a moment within this alert."""
    opened, closed = _utc(alert.opened), None if alert.closed is None else _utc(alert.closed)
    return any(
        opened <= moment and (closed is None or moment < closed) for moment in openings.get(_series_of(alert), ())
    )


def _openings(keys: Iterable[str]) -> dict[str, list[dt.datetime]]:
    """Return the moments at which alerts opened, in UTC, by topic and series. Keys hold local times, in any zone."""
    openings: dict[str, list[dt.datetime]] = {}
    for key in keys:
        series, opened = key.rsplit("|", 1)
        openings.setdefault(series, []).append(_utc(dt.datetime.fromisoformat(opened)))
    return openings


def _series_of(alert: AlertReport) -> str:
    """Return the alert's topic and series, as its key names them."""
    return alert.key.rsplit("|", 1)[0]


def _utc(moment: dt.datetime) -> dt.datetime:
    """Return a moment in UTC: within a zone Python compares local times, of which summer time repeats some."""
    return moment.astimezone(dt.UTC)


def _possible_topics(key: str) -> list[str]:
    """Return every topic that the key may have: several if topic or class contains the sign between them."""
    parts = key.rsplit("|", 1)[0].split("|")
    return ["|".join(parts[:number]) for number in range(1, len(parts))]

"""The results of a run of opinion monitoring."""

import datetime as dt
from enum import StrEnum
from typing import Protocol

from pydantic import BaseModel, ConfigDict, Field

from sbert.apply.monitoring.settings import MonitoringSettings
from sbert.counted import counted

__all__ = [
    "AlertReport",
    "MonitoringReport",
    "WithdrawalReason",
    "WithdrawnAlert",
    "left_out",
    "model_sentence",
    "tested_sentence",
    "withdrawn_sentences",
]


class AlertReport(BaseModel):
    """An alert; scripts rely on the keys."""

    model_config = ConfigDict(frozen=True)

    key: str = Field(description="Name of the alert, the same in every run.")
    topic: str
    series: str = Field(description="A class, or volume.")
    sentence: str = Field(description="What happened, in words.")
    opened: dt.datetime
    closed: dt.datetime | None = Field(description="None while it is open.")
    peak: dt.datetime = Field(description="Begin of its most surprising bucket.")
    share: float | None = Field(description="Share of the class in that bucket; None for volume.")
    num_rows: int = Field(description="Rows of the topic in that bucket.")
    expected: float = Field(description="The share, or the rows, that were expected.")
    p_value: float = Field(
        description="Probability of at least as much in that bucket, if nothing has changed; corrected for windows alone."
    )
    level: float = Field(
        description="An alert opens at this p-value or below; corrected for all series and buckets of a topic in 30 days."
    )
    texts: list[str] = Field(description="Typical texts, one for all that say the same.")


class WithdrawalReason(StrEnum):
    """Why an alert of the run before is gone, although the classes are of the same model."""

    ROWS = "rows"
    """Rows of its topic were deleted, changed or added."""
    SETTINGS = "settings"
    """The settings that decide about alerts are other ones; rows may have changed too."""


class WithdrawnAlert(BaseModel):
    """An alert of the run before that is gone; scripts rely on the keys."""

    model_config = ConfigDict(frozen=True)

    sentence: str = Field(description="What had happened, in the words of the run before.")
    reason: WithdrawalReason


class MonitoringReport(BaseModel):
    """The results of a run; scripts rely on the keys."""

    model_config = ConfigDict(frozen=True)

    predictions_uri: str
    out_uri: str
    version: int = Field(description="Version of the table of cells.")
    num_rows: int = Field(description="Rows with a class; without classes all rows.")
    num_without_time: int = Field(description="Rows whose time is empty.")
    num_unreadable_time: int = Field(
        default=0, description="Rows whose time is not empty and cannot be read as a time."
    )
    unreadable_time: str | None = Field(default=None, description="The first such value, in quotes; None without one.")
    num_in_future: int = Field(description="Rows whose time is more than a day ahead.")
    num_topics: int
    num_cells: int
    num_tested: int = Field(
        default=0,
        description="Cells in which an alert could have opened: enough rows (min_volume), and enough buckets before them "
        "(min_history).",
    )
    num_small: int = Field(default=0, description="Cells with rows, but fewer than min_volume.")
    tested: str = Field(default="", description="How much was tested, in a sentence.")
    first_bucket: dt.datetime | None
    last_bucket: dt.datetime | None
    num_open: int = Field(description="Alerts that are open.")
    alerts: list[AlertReport] = Field(description="All alerts of the history, the newest first.")
    new_alerts: list[AlertReport] = Field(description="Alerts to tell people about: not known to the run before.")
    waiting_alerts: list[AlertReport] = Field(
        default=[], description="First alerts of their topics, which wait for a person (first_alert: ask)."
    )
    withdrawn_alerts: list[WithdrawnAlert] = Field(
        default=[],
        description="Alerts of the run before that are gone, because rows or settings changed. Those that are gone with "
        "another model are in gone_with_model.",
    )
    num_withdrawn_with_topic: int = Field(
        default=0,
        description="Alerts of the run before whose topics are not there any more, with another model too. They are not "
        "named, since such topics are forgotten.",
    )
    withdrawn_with_topic_reason: WithdrawalReason = Field(
        default=WithdrawalReason.ROWS,
        description="Why these topics are not there any more: they have no rows, or the settings were changed.",
    )
    is_new_model: bool = Field(description="Whether the classes are of another head or encoder than in the run before.")
    gone_with_model: list[str] = Field(description="Alerts of the model before that the new one does not see.")
    found_with_model: list[str] = Field(description="Alerts about the past that only the new model sees.")
    page_uri: str
    seconds: float = 0.0

    @property
    def num_withdrawn(self) -> int:
        """Withdrawn alerts, named or not."""
        return len(self.withdrawn_alerts) + self.num_withdrawn_with_topic

    def summary(self) -> str:
        """Return the outcome in one line."""
        alerts = f"{counted(self.num_open, 'open alert')}, {len(self.new_alerts):,} new"
        waiting = f", {len(self.waiting_alerts):,} waiting for a person" if self.waiting_alerts else ""
        withdrawn = f", {self.num_withdrawn:,} withdrawn" if self.num_withdrawn else ""
        return f"Version {self.version}: {counted(self.num_rows, 'row')}, {alerts}{waiting}{withdrawn}"


_REASONS = {
    WithdrawalReason.ROWS: "rows of this topic were deleted, changed or added",
    WithdrawalReason.SETTINGS: "the settings were changed",
}


class LeftOut(Protocol):
    """Numbers of rows that have no cell."""

    @property
    def num_without_time(self) -> int:
        """Rows whose time is empty."""

    @property
    def num_unreadable_time(self) -> int:
        """Rows whose time cannot be read."""

    @property
    def unreadable_time(self) -> str | None:
        """The first such value."""

    @property
    def num_in_future(self) -> int:
        """Rows whose time is more than a day ahead."""


def left_out(rows: LeftOut) -> list[str]:
    """Return the numbers of rows without a cell, each with its reason; reasons without rows are left out."""
    numbers = (
        (rows.num_without_time, "without a time"),
        (rows.num_unreadable_time, f"with a time that cannot be read, for example {rows.unreadable_time}"),
        (rows.num_in_future, "in the future"),
    )
    return [f"{number:,} {reason}" for number, reason in numbers if number]


def model_sentence(report: MonitoringReport) -> str:
    """Return in a sentence the difference that another model makes to the past; empty where it makes none."""
    num_gone, num_found = len(report.gone_with_model), len(report.found_with_model)
    differences = [
        *([f"no longer sees {counted(num_gone, 'past alert')}"] if num_gone else []),
        *([f"sees {counted(num_found, 'alert')} in the past that the model before did not see"] if num_found else []),
    ]
    if not differences:
        return ""
    return f"the model changed: it {', and '.join(differences)}; this is no news"


def withdrawn_sentences(report: MonitoringReport) -> list[tuple[str, str]]:
    """Return each withdrawn alert and the reason, in words.

    Alerts of topics that are not there any more are one entry, the last one, without names.
    """
    sentences = [(alert.sentence, _REASONS[alert.reason]) for alert in report.withdrawn_alerts]
    if number := report.num_withdrawn_with_topic:
        reason = "their topics have no rows any more" if number > 1 else "its topic has no rows any more"
        if report.withdrawn_with_topic_reason is WithdrawalReason.SETTINGS:
            reason = _REASONS[WithdrawalReason.SETTINGS]
        sentences.append((counted(number, "alert"), reason))
    return sentences


def tested_sentence(report: MonitoringReport, settings: MonitoringSettings) -> str:
    """Return in a sentence the tested share of a history, and a remedy if nothing was tested."""
    cells = counted(report.num_cells, "cell")
    if not report.num_cells:
        rows = counted(report.num_rows, "row")
        return f"Nothing was tested: of {rows} none has a time that can be used."
    if report.num_tested:
        cell = "a topic" if report.num_topics > 1 else "all rows"
        return (
            f"{report.num_tested:,} of {cells} ({cell} in a bucket of {settings.bucket}) had enough rows and history to be "
            "tested."
        )
    if report.num_small:
        return (
            f"Nothing was tested: {report.num_small:,} of {cells} {'has' if report.num_small == 1 else 'have'} fewer than "
            f"{counted(settings.min_volume, 'row')} (min_volume), and a test needs {settings.min_history} earlier buckets "
            "with rows (min_history). Choose longer buckets, or lower min_volume."
        )
    return (
        f"Nothing was tested: a test needs {settings.min_history} earlier buckets with rows (min_history), and no cell has "
        "so many. Choose shorter buckets, or wait for more rows."
    )

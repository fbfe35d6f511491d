"""Settings of opinion monitoring."""

import re
from enum import StrEnum
from typing import Annotated
from zoneinfo import ZoneInfo

from pydantic import BaseModel, ConfigDict, Field, field_validator

from sbert.apply.times import TimeFormat
from sbert.errors import SettingsError

__all__ = ["BUCKET_SECONDS", "FirstAlert", "MonitoringSettings"]

UNIT_SECONDS = {"m": 60, "h": 3_600, "d": 86_400, "w": 604_800}
BUCKET = re.compile(r"([1-9][0-9]{0,3})([mhdw])")
BUCKET_SECONDS = 60, 366 * 86_400
"""Least and greatest length of a bucket."""


class FirstAlert(StrEnum):
    """Treatment of the first alert of a topic."""

    AUTOMATIC = "automatic"
    """People are told at once."""
    ASK = "ask"
    """A person decides whether people are told."""


class MonitoringSettings(BaseModel):
    """Settings for counting rows in cells, and for alerts."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    time_column: str = Field(
        min_length=1, title="Time column", description="Kept column that says when a row was written."
    )
    topic_column: str | None = Field(
        default=None,
        title="Topic column",
        description="Kept column whose values are watched apart; empty for all rows together.",
    )
    text_column: str | None = Field(
        default=None,
        title="Text column",
        description="Kept column whose texts are shown for an alert; empty for the column that was encoded, else text.",
    )
    task: str = Field(
        default="",
        title="Task",
        description="Task of the classification, where it has several; empty for the only one.",
    )
    bucket: str = Field(
        default="1d", title="Bucket", description="Length of a bucket of time: a number and m, h, d or w, such as 6h."
    )
    time_zone: str = Field(
        default="UTC",
        title="Time zone",
        description="IANA name of the zone in which buckets begin, and of times that name no zone.",
    )
    time_format: TimeFormat = Field(
        default=TimeFormat.AUTO, title="Time format", description="How numbers in the time column are read."
    )
    half_life: float = Field(
        default=14.0,
        gt=0,
        title="Half-life",
        description="Age at which an earlier bucket counts half as much in the expected value (buckets).",
    )
    min_history: int = Field(
        default=4, ge=2, title="Least history", description="Earlier buckets with rows that a test needs (buckets)."
    )
    min_volume: int = Field(
        default=10, ge=1, title="Least volume", description="Rows of a bucket below which no alert opens (rows)."
    )
    false_alerts: float = Field(
        default=0.3,
        gt=0,
        le=100,
        title="False alerts",
        description="Alerts by chance that are accepted for a topic in 30 days, over all that is tested (alerts).",
    )
    series: tuple[str, ...] = Field(
        default=(),
        title="Series",
        description="Classes, or volume, whose rises are alerts and share false_alerts; empty for all.",
    )
    windows: tuple[Annotated[int, Field(ge=1, le=1_000)], ...] = Field(
        default=(1,),
        min_length=1,
        title="Windows",
        description="Numbers of buckets over which shares are tested together; the tests share false_alerts (buckets).",
    )
    close_above: float = Field(
        default=0.05,
        gt=0,
        lt=1,
        title="Closing p-value",
        description="A bucket with a greater p-value counts as calm (0 to 1).",
    )
    close_after: int = Field(
        default=2, ge=1, title="Calm buckets", description="Calm buckets in a row that close an alert (buckets)."
    )
    first_alert: FirstAlert = Field(
        default=FirstAlert.AUTOMATIC,
        title="First alert",
        description="Whether the first alert of a topic is told at once, or a person is asked first: automatic or ask.",
    )
    first_alert_hours: float = Field(
        default=24.0,
        gt=0,
        le=8_760,
        title="Time to answer",
        description="A first alert that nobody approves within this time is refused, where a run waits for it (hours).",
    )
    max_topics: int = Field(
        default=1_000, ge=1, title="Most topics", description="More values of the topic column are an error (topics)."
    )
    num_texts: int = Field(
        default=5, ge=0, le=100, title="Texts", description="Typical texts shown for an alert (texts)."
    )
    max_alerts_shown: int = Field(
        default=50,
        ge=1,
        le=1_000,
        title="Alerts shown",
        description="Newest alerts that the page shows with their texts (alerts).",
    )

    @field_validator("bucket")
    @classmethod
    def _check_bucket(cls, value: str) -> str:
        match = BUCKET.fullmatch(value)
        if match is None or not BUCKET_SECONDS[0] <= int(match[1]) * UNIT_SECONDS[match[2]] <= BUCKET_SECONDS[1]:
            raise SettingsError(f"bucket is {value!r}, expected a number and m, h, d or w up to 366d, such as 6h or 1d")
        return value

    @field_validator("time_zone")
    @classmethod
    def _check_zone(cls, value: str) -> str:
        try:
            ZoneInfo(value)
        except (KeyError, ValueError, OSError) as error:
            raise SettingsError(f"time_zone is {value!r}, expected an IANA name such as Europe/Berlin") from error
        return value

    @property
    def bucket_seconds(self) -> int:
        """Length of a bucket (seconds)."""
        match = BUCKET.fullmatch(self.bucket)
        assert match is not None
        return int(match[1]) * UNIT_SECONDS[match[2]]

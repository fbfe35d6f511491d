"""Events of users with items, read from any format of raw text; bad ones are counted by reason."""

import datetime as dt
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt
import polars as pl

from sbert.apply.recommendation.settings import EventColumns
from sbert.apply.times import moments_of
from sbert.errors import ColumnError
from sbert.labels.label_records import read_label_object
from sbert.labels.settings import LabelSettings
from sbert.source.listing import list_objects

__all__ = ["Events", "check_events", "read_events", "split_by_time"]

Int64 = npt.NDArray[np.int64]


@dataclass(frozen=True)
class Events:
    """Good events, ordered by user and time, and how many were rejected."""

    users: list[str]
    """Ids of the users, by number."""
    rows: pl.DataFrame
    """Columns `user` and `item` (numbers), `weight`, `moment` (UTC, milliseconds)."""
    rejected: dict[str, int]
    """Number of rejected events, by reason."""


def read_events(uri: str, items: list[str], columns: EventColumns, now: dt.datetime) -> Events:
    """Return the events of all objects under `uri`.

    Args:
        uri: an object or a folder, local or s3://, in any format of raw text that has columns.
        items: ids of the items, by number; an event with another item is rejected.
        columns: names of the columns, and weights.
        now: moment with a zone; later events are rejected.

    Raises:
        ColumnError: a column is missing.
        SourceError, StorageError: the objects cannot be read.
    """
    settings = LabelSettings()
    frames = [read_label_object(item, settings) for item in list_objects(uri, documents=False)]
    found = [frame for frame in frames if frame.width]
    if not found:
        return check_events(pl.DataFrame(), items, columns, now)
    return check_events(pl.concat(found, how="diagonal_relaxed"), items, columns, now)


def check_events(rows: pl.DataFrame, items: list[str], columns: EventColumns, now: dt.datetime) -> Events:
    """Return the good events among rows; arguments and errors as `read_events`."""
    if not rows.width:
        empty = {"user": pl.Int64(), "item": pl.Int64(), "weight": pl.Float64(), "moment": pl.Datetime("ms", "UTC")}
        return Events([], pl.DataFrame(schema=empty), {})
    wanted = [columns.user, columns.item, columns.time, *([columns.weight] if columns.weight else [])]
    missing = [name for name in wanted if name not in rows.columns]
    if missing:
        raise ColumnError(
            f"events: there is no column {missing[0]!r} among {', '.join(rows.columns)}: name it in the settings"
        )
    moments = moments_of(rows[columns.time])
    if columns.weight:
        weight = pl.col(columns.weight).cast(pl.Float64, strict=False)
    elif columns.type in rows.columns:
        weight = pl.col(columns.type).replace_strict(columns.weights, default=None, return_dtype=pl.Float64)
    else:
        weight = pl.lit(1.0)
    numbers = pl.DataFrame({"item_id": items, "item": range(len(items))}, schema_overrides={"item": pl.Int64})
    checked = (
        rows.select(
            user_id=pl.col(columns.user).cast(pl.String), item_id=pl.col(columns.item).cast(pl.String), weight=weight
        )
        .with_columns(moment=moments)
        .join(numbers, on="item_id", how="left", maintain_order="left")
        .with_columns(
            reason=pl.when(pl.col("user_id").fill_null("") == "").then(pl.lit("no user"))
            .when(pl.col("item").is_null()).then(pl.lit("unknown item"))
            .when(pl.col("moment").is_null()).then(pl.lit("no time"))
            .when(pl.col("moment") > now).then(pl.lit("time in the future"))
            .when(~(pl.col("weight").is_finite() & (pl.col("weight") > 0)).fill_null(value=False))
            .then(pl.lit("no weight"))
        )
    )  # fmt: skip
    good = checked.filter(pl.col("reason").is_null())
    users = good["user_id"].unique().sort().to_list()
    by_user = pl.DataFrame(
        {"user_id": users, "user": range(len(users))}, schema={"user_id": pl.String(), "user": pl.Int64()}
    )
    ordered = good.join(by_user, on="user_id").select("user", "item", "weight", "moment").sort("user", "moment", "item")
    reasons = checked["reason"].drop_nulls().value_counts().sort("reason")
    return Events(users, ordered, dict(reasons.iter_rows()))


def split_by_time(rows: pl.DataFrame, later_share: float) -> tuple[pl.DataFrame, pl.DataFrame]:
    """Return the earlier and the later part of each user's events; a user's first event is always earlier."""
    place, count = pl.int_range(pl.len()).over("user"), pl.len().over("user")
    later = place >= pl.max_horizontal(1, count - (count * later_share).floor())
    marked = rows.with_columns(later=later)
    return marked.filter(~pl.col("later")).drop("later"), marked.filter("later").drop("later")

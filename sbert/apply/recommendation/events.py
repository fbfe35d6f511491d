"""Events of users with items, read from any format of raw text; bad ones are counted by reason."""

import datetime as dt
import hashlib
from collections import Counter
from dataclasses import dataclass, replace
from functools import cached_property

import numpy as np
import polars as pl

from sbert.apply.recommendation.event_files import read_event_rows
from sbert.apply.recommendation.items import Items
from sbert.apply.recommendation.settings import EventColumns
from sbert.apply.times import moments_of
from sbert.errors import ColumnError

__all__ = ["Events", "check_events", "history_hashes", "read_events", "split_by_time"]


@dataclass(frozen=True)
class Events:
    """Good events, ordered by user, time and item, and how many were rejected."""

    users: list[str]
    """Ids of the users, by number."""
    rows: pl.DataFrame
    """Columns `user` and `item` (numbers), `weight`, `is_shown` (not taken, only shown), `moment` (UTC, milliseconds)."""
    rejected: dict[str, int]
    """Number of rejected events, by reason."""

    @cached_property
    def taken(self) -> pl.DataFrame:
        """The events by which a user took an item."""
        return self.rows.filter(~pl.col("is_shown")).drop("is_shown")


def read_events(uri: str, items: Items, columns: EventColumns, now: dt.datetime) -> Events:
    """Return the events of all objects under `uri`.

    Args:
        uri: an object or a folder, local or s3://, in any format of raw text that has columns.
        items: the items; an event with another item is rejected.
        columns: names of the columns, and weights.
        now: moment with a zone; later events are rejected.

    Raises:
        ColumnError: a column is missing.
        SourceError, StorageError: the objects cannot be read.
    """
    rows, broken = read_event_rows(uri, columns)
    events = check_events(rows, items, columns, now)
    return replace(events, rejected=dict(sorted((Counter(events.rejected) + broken).items())))


def check_events(rows: pl.DataFrame, items: Items, columns: EventColumns, now: dt.datetime) -> Events:
    """Return the good events among rows; arguments and errors as `read_events`. Without any type every event weighs 1."""
    wanted = [columns.user, columns.item, columns.time, *([columns.weight] if columns.weight else [])]
    missing = [name for name in wanted if name not in rows.columns]
    if missing:
        raise ColumnError(
            f"events: there is no column {missing[0]!r} among {', '.join(rows.columns)}: name it in the settings (events)"
        )
    moments = moments_of(rows[columns.time])
    has_types = columns.type in rows.columns and rows[columns.type].null_count() < len(rows)
    kind = pl.col(columns.type) if has_types else pl.lit(None, pl.String)
    if columns.weight:
        weight = pl.col(columns.weight).cast(pl.Float64, strict=False)
    elif has_types:
        weight = kind.replace_strict(columns.weights, default=None, return_dtype=pl.Float64)
    else:
        weight = pl.lit(1.0)
    is_shown = kind.is_in(list(columns.shown)).fill_null(value=False)
    checked = (
        rows.select(
            user_id=pl.col(columns.user).cast(pl.String),
            item_id=pl.col(columns.item).cast(pl.String),
            weight=pl.when(is_shown).then(1.0).otherwise(weight),
            is_shown=is_shown,
        )
        .with_columns(moment=moments)
        .join(_numbers(items), on="item_id", how="left", maintain_order="left")
        .with_columns(
            reason=pl.when(pl.col("user_id").fill_null("") == "").then(pl.lit("no user"))
            .when(pl.col("item").is_null()).then(pl.lit("unknown item"))
            .when(pl.col("item") < 0).then(pl.lit("item in several sources"))
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
    ordered = (
        good.join(by_user, on="user_id")
        .select("user", "item", "weight", "is_shown", "moment")
        .sort("user", "moment", "item", "is_shown", "weight")
    )
    reasons = checked["reason"].drop_nulls().value_counts().sort("reason")
    return Events(users, ordered, dict(reasons.iter_rows()))


def _numbers(items: Items) -> pl.DataFrame:
    """Return the number of each id; -1 where several sources have it."""
    numbered = items.keys.select(item_id="id").with_row_index("item").with_columns(pl.col("item").cast(pl.Int64))
    return numbered.group_by("item_id").agg(item=pl.when(pl.len() == 1).then(pl.col("item").first()).otherwise(-1))


def history_hashes(events: Events, items: Items) -> list[bytes]:
    """Return a hash of the events of each user, 16 bytes, in which an item counts with its text."""
    rows = events.rows
    records = np.zeros(len(rows), [("item", "V16"), ("weight", "<f8"), ("is_shown", "u1")])
    records["item"] = np.ascontiguousarray(items.states).view("V16").ravel()[rows["item"].to_numpy()]
    records["weight"], records["is_shown"] = rows["weight"].to_numpy(), rows["is_shown"].to_numpy()
    ends = np.cumsum(np.bincount(rows["user"].to_numpy(), minlength=len(events.users)))
    content, size = records.tobytes(), records.itemsize
    starts = np.concatenate([[0], ends[:-1]]) if len(ends) else ends
    return [
        hashlib.blake2b(content[begin * size : end * size], digest_size=16).digest()
        for begin, end in zip(starts.tolist(), ends.tolist(), strict=True)
    ]


def split_by_time(rows: pl.DataFrame, later_share: float) -> tuple[pl.DataFrame, pl.DataFrame]:
    """Return the earlier and the later part of each user's events; a user's first event is always earlier."""
    place, count = pl.int_range(pl.len()).over("user"), pl.len().over("user")
    later = place >= pl.max_horizontal(1, count - (count * later_share).floor())
    marked = rows.with_columns(later=later)
    return marked.filter(~pl.col("later")).drop("later"), marked.filter("later").drop("later")

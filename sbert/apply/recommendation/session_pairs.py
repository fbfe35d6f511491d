"""Pairs of items that several users took in one session, as labels of the kind ``pairs`` that `sbert retrain` reads.

A session is a run of events of one user without a long pause. Items that users take together in sessions belong together,
whatever their texts have in common, so they teach the encoder what its texts do not say. A pair needs several users:
pairs of one user are chance, and would tell what one person did.

A run adds only pairs that no file of the folder has: ``wanted - have``. Nothing else is remembered between runs.
"""

import hashlib
import io
import logging
import posixpath

import polars as pl

from sbert.apply.recommendation.events import Events
from sbert.apply.recommendation.items import Items
from sbert.apply.recommendation.settings import SessionSettings
from sbert.errors import EmptySourceError, LabelError, MissingError, SettingsError
from sbert.labels.label_kinds import COLUMNS, LabelKind
from sbert.labels.label_records import read_label_object
from sbert.labels.load import list_label_objects
from sbert.labels.settings import LabelSettings
from sbert.storage.conditional_put import create_bytes
from sbert.storage.files import filesystem, join, list_names, normalize_uri, strip_protocol
from sbert.table.delta import Table

__all__ = ["add_pairs", "item_texts", "known_pairs", "session_pairs"]

log = logging.getLogger(__name__)

FILE_ENDINGS = (".jsonl", ".json", ".csv", ".tsv", ".parquet")
ANCHOR, POSITIVE = COLUMNS[LabelKind.PAIRS]


def item_texts(items: Items, table: Table, column: str) -> pl.Series:
    """Return the text of each item, from a kept column of the table; empty where it is null."""
    texts = table.scan().select("source", "id", text=pl.col(column).cast(pl.String).fill_null("")).collect()
    return items.keys.join(texts, on=["source", "id"], how="left", maintain_order="left")["text"]


def session_pairs(events: Events, items: Items, texts_N: pl.Series, settings: SessionSettings) -> pl.DataFrame:
    """Return the pairs of items of sessions, pairs of the most users first.

    Of each item those pairs stay whose items go together most: by the users who took both, divided by the geometric mean of
    the users who took one, with `settings.shrinkage` users added. The item that most of the users took first is the anchor.

    Args:
        events: the events.
        items: N items.
        texts_N: their texts. Items with an empty text make no pair, nor do two items with one text.
        settings: what a session is, and which pairs count.
    """
    counted = _counted(_in_sessions(events, settings), settings)
    keys = items.keys.select("source", "id").with_columns(text=texts_N).with_row_index("item")
    keys = keys.with_columns(pl.col("item").cast(pl.Int64))
    anchors = keys.rename({"item": "first", "source": "source1", "id": "id1", "text": ANCHOR})
    positives = keys.rename({"item": "second", "source": "source2", "id": "id2", "text": POSITIVE})
    return (
        counted.join(anchors, on="first", how="left")
        .join(positives, on="second", how="left")
        .filter(pl.col(ANCHOR) != "", pl.col(POSITIVE) != "", pl.col(ANCHOR) != pl.col(POSITIVE))
        .sort(["num_users", "first", "second"], descending=[True, False, False])
        .with_columns(_key())
        .unique("key", keep="first", maintain_order=True)
        .select(ANCHOR, POSITIVE, "num_users", "source1", "id1", "source2", "id2")
    )


def add_pairs(pairs: pl.DataFrame, labels_uri: str) -> tuple[str, int]:
    """Write the pairs that the labels lack as one new file beside them; return its location and their number.

    Nothing is written, and the location is empty, where there are no new pairs. The order of a pair does not matter.

    Raises:
        SettingsError: a file or a pattern is named, not a folder.
        LabelError: the folder holds labels of another kind.
        BrokenObjectError, StorageError: labels cannot be read, or storage refuses.
    """
    new = (
        pairs.with_columns(_key())
        .join(known_pairs(labels_uri), on="key", how="anti", maintain_order="left")
        .drop("key")
    )
    if new.is_empty():
        return "", 0
    buffer = io.BytesIO()
    new.write_ndjson(buffer)
    content = buffer.getvalue()
    name = f"session-pairs-{hashlib.sha256(content).hexdigest()[:16]}.jsonl"
    uri = join(normalize_uri(labels_uri), name)
    create_bytes(uri, content)  # a name that is taken has this content
    log.info("%d new pairs of sessions: %s", new.height, uri)
    return uri, new.height


def _in_sessions(events: Events, settings: SessionSettings) -> pl.DataFrame:
    """Return each item once for each session in which it was taken, in the order of the events."""
    pause = pl.col("moment").diff().over("user") > pl.duration(minutes=settings.gap_minutes)
    return (
        events.taken.with_columns(session=pause.fill_null(value=True).cum_sum())
        .unique(["session", "item"], keep="first", maintain_order=True)
        .select("user", "session", "item")
    )


def _counted(rows: pl.DataFrame, settings: SessionSettings) -> pl.DataFrame:
    """Return pairs of items with the number of their users: pairs of enough users, among the best of an item."""
    frames = [pl.DataFrame(schema={"user": pl.Int64, "first": pl.Int64, "second": pl.Int64})]
    for distance in range(1, settings.window + 1):
        later = pl.col("item").shift(-distance).over("session")
        frames.append(rows.select("user", first="item", second=later).drop_nulls())
    low, high = pl.min_horizontal("first", "second"), pl.max_horizontal("first", "second")
    counted = (
        pl.concat(frames)
        .with_columns(low=low, high=high)
        .group_by("user", "low", "high")
        .agg(is_low_first=(pl.col("first") == pl.col("low")).mean() >= 0.5)
        .group_by("low", "high")
        .agg(num_users=pl.len().cast(pl.Int64), share_low_first=pl.col("is_low_first").mean())
        .filter(pl.col("num_users") >= settings.min_users)
    )
    users_of = rows.group_by("item").agg(users=pl.col("user").n_unique().cast(pl.Float64))
    norm = (pl.col("users") * pl.col("users_high")).sqrt() + settings.shrinkage
    scored = (
        counted.join(users_of.rename({"item": "low"}), on="low")
        .join(users_of.rename({"item": "high", "users": "users_high"}), on="high")
        .with_columns(score=pl.col("num_users") / norm)
        .sort(["score", "low", "high"], descending=[True, False, False])
    )
    both = pl.concat([scored.select("low", "high", item=side) for side in ("low", "high")]).with_row_index("at")
    # Each half of `both` is in the order of the scores, so the place of a pair in the list of an item is a count.
    order = both.with_columns(place=pl.col("at") % max(len(scored), 1)).sort("place", "at")
    best = order.group_by("item", maintain_order=True).head(settings.max_pairs).select("low", "high").unique()
    is_forward = pl.col("share_low_first") >= 0.5
    return scored.join(best, on=["low", "high"], how="semi").select(
        "num_users",
        first=pl.when(is_forward).then("low").otherwise("high"),
        second=pl.when(is_forward).then("high").otherwise("low"),
    )


def _key() -> pl.Expr:
    """Return the key of a pair of items, the same in either order."""
    low, high = pl.min_horizontal(ANCHOR, POSITIVE), pl.max_horizontal(ANCHOR, POSITIVE)
    return pl.concat_str([low, high], separator="\x1f").alias("key")


def _check_folder(labels_uri: str) -> None:
    uri = normalize_uri(labels_uri)
    folder, _, name = uri.rpartition("/")
    if "/" not in strip_protocol(uri).strip("/"):
        return  # a bucket
    is_pattern = any(sign in uri for sign in "*?[")
    if not is_pattern and name not in list_names(folder):
        is_file = posixpath.splitext(name)[1] in FILE_ENDINGS  # it is not there yet, but is meant to be one
    else:
        is_file = not is_pattern and filesystem(uri).isfile(strip_protocol(uri))
    if is_file or is_pattern:
        what = "a pattern" if is_pattern else "a file"
        raise SettingsError(
            f"{labels_uri}: this names {what}, but new pairs are written as a new file: name a folder, such as {folder}"
        )


def known_pairs(labels_uri: str) -> pl.DataFrame:
    """Return the keys of the pairs that the labels have; a missing or empty folder has none.

    Raises:
        SettingsError: a file or a pattern is named, so that there is no place for a new file.
        LabelError: the folder holds labels of another kind.
        BrokenObjectError, StorageError: labels cannot be read, or storage refuses.
    """
    _check_folder(labels_uri)
    keys = [pl.DataFrame(schema={"key": pl.String()})]
    try:
        objects = list_label_objects(labels_uri)
    except (MissingError, EmptySourceError):
        objects = []
    for item in objects:
        labels = read_label_object(item, LabelSettings())
        if labels.is_empty():
            continue
        if not {ANCHOR, POSITIVE} <= set(labels.columns):
            raise LabelError(
                f"{item.uri}: has the columns {', '.join(labels.columns)}, not {ANCHOR} and {POSITIVE}: name another folder "
                "for the pairs, because all labels of one training must be of one kind"
            )
        keys.append(labels.select(pl.col(ANCHOR, POSITIVE).cast(pl.String)).select(_key()))
    return pl.concat(keys)

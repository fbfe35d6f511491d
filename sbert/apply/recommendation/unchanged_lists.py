"""The lists of the version before that are still right: nothing that decides them has changed."""

import logging
from collections.abc import Iterator
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt
import polars as pl
import pyarrow as pa

from sbert.apply.recommendation.items import ITEM_KEYS, Items
from sbert.apply.recommendation.lists import can_change
from sbert.apply.recommendation.ranker import Ranker, blocks_of
from sbert.apply.recommendation.settings import ListSettings
from sbert.apply.recommendation.signals import Signals, UserHistories
from sbert.derived.derived_table import DerivedTable
from sbert.derived.paired_rows import read_shards
from sbert.errors import NotATableError, StorageError, TableError
from sbert.table.delta import Table
from sbert.table.table_shard import TableShard

__all__ = ["UnchangedLists", "find_unchanged_lists", "items_before"]

log = logging.getLogger(__name__)

COLUMNS = ("user", "history", "rank", *ITEM_KEYS, "score", "is_new")
Int64 = npt.NDArray[np.int64]


@dataclass(frozen=True)
class UnchangedLists:
    """Shards of the version before, and the users in them whose lists stay."""

    output: DerivedTable
    groups: list[tuple[list[TableShard], set[str]]]

    def users(self) -> set[str]:
        """Return the users whose lists stay."""
        return {user for _, users in self.groups for user in users}

    def rows(self, users: set[str], columns: list[str]) -> Iterator[pa.Table]:
        """Read the lists of users, all of which are among `users()`."""
        for shards, kept in self.groups:
            wanted = pa.array(sorted(users & kept), pa.string())
            for block in read_shards(self.output, shards, columns) if len(wanted) else ():
                yield block.filter(pa.compute.is_in(block["user"], value_set=wanted))


def items_before(output: DerivedTable) -> Items | None:
    """Return the items of the version that an output was computed from; None if that version is gone."""
    try:
        return Items.read(Table.open(output.info.table_uri, output.info.table_version))
    except (NotATableError, StorageError, TableError) as error:
        log.info("every list is made again, because the earlier version of the items is gone: %s", error)
        return None


def find_unchanged_lists(
    output: DerivedTable,
    wanted: set[str],
    histories: dict[str, bytes],
    items: Items,
    joined: Int64,
    score: "ScoreJoined",
    settings: ListSettings,
) -> UnchangedLists:
    """Return the lists that stay.

    Args:
        output: the version before, by the same model and settings.
        wanted: fingerprints of parts that stay as they are; they are not read.
        histories: hash of the events of each user now.
        items: the items now.
        joined: numbers of the items that were not there, or had another text.
        score: scores the joined items for some users.
        settings: settings of the lists.
    """
    parts: dict[str, list[TableShard]] = {}
    for shard in output.shards():
        if shard.num_rows and shard.fingerprint not in wanted:
            parts.setdefault(shard.fingerprint, []).append(shard)
    groups = []
    for shards in parts.values():
        blocks = list(read_shards(output, shards, COLUMNS))
        rows = pl.from_arrow(pa.concat_tables(blocks))
        assert isinstance(rows, pl.DataFrame)
        lists = _whole_lists(rows, items, histories)
        kept = set(lists["user"]) if not len(joined) else _unchanged(lists, score, settings)
        groups.append((shards, kept))
    return UnchangedLists(output, groups)


@dataclass(frozen=True)
class ScoreJoined:
    """Scores of the items that joined, for any users."""

    ranker: Ranker
    signals: Signals
    users: UserHistories
    numbers: dict[str, int]
    """Number of each user."""
    joined: Int64

    def __call__(self, users: list[str]) -> Iterator[npt.NDArray[np.float32]]:
        """Yield the scores of each user, in order."""
        some = np.array([self.numbers[user] for user in users], np.int64)
        for block in blocks_of(some, len(self.joined)):
            yield from self.ranker.scores(self.signals, self.users, block, self.joined)


def _whole_lists(rows: pl.DataFrame, items: Items, histories: dict[str, bytes]) -> pl.DataFrame:
    """Return the lists of users without new events, all of whose items are there as they were."""
    now = pl.DataFrame(
        {"user": list(histories), "now": list(histories.values())}, schema={"user": pl.String(), "now": pl.Binary()}
    )
    lists = (
        rows.with_columns(place=pl.Series(items.places(rows)))
        .sort("user", "rank")
        .group_by("user", maintain_order=True)
        .agg(pl.col("history").first().cast(pl.Binary), pl.col("place").min(), pl.col("rank").max(), pl.col("score"),
             pl.col("is_new"), count=pl.len())
        .join(now, on="user", maintain_order="left")
    )  # fmt: skip
    is_whole = (pl.col("history") == pl.col("now")) & (pl.col("place") >= 0) & (pl.col("rank") == pl.col("count"))
    return lists.filter(is_whole)


def _unchanged(lists: pl.DataFrame, score: ScoreJoined, settings: ListSettings) -> set[str]:
    users = lists["user"].to_list()
    rows = zip(users, score(users), lists["score"], lists["is_new"], strict=True)
    return {
        user
        for user, scores, of_list, is_new in rows
        if not can_change(scores, of_list.to_numpy(), is_new.to_numpy(), settings)
    }

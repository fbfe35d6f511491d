"""Scheduling: group splits, so that a worker gets several at a time.

Handing over a task costs milliseconds and a connection, whatever its size. So a hundred thousand splits travel in some
thousand groups. Groups shrink towards the end, so that no worker waits long for the last one. Each split keeps its own
completion record. A worker that dies costs only the unfinished splits of its group.
"""

import math
from collections.abc import Callable, Mapping, Sequence
from typing import TypeVar

from pydantic import BaseModel, ConfigDict, Field

from sbert.refresh.fingerprints import PlannedSplit

__all__ = ["SplitGroup", "cut_into_groups", "group_splits"]

Item = TypeVar("Item")

SHARES = 2
"""A group is one part in `SHARES` of a worker's fair share of the remaining splits: large groups first, single splits last
(guided self-scheduling, Polychronopoulos and Kuck 1987). So workers finish at about the same time."""


class SplitGroup(BaseModel):
    """Splits that a worker gets together."""

    model_config = ConfigDict(frozen=True)

    splits: tuple[PlannedSplit, ...]
    excluded_ids: dict[str, frozenset[str]] = Field(
        default_factory=dict, description="Ids that a later split of the same object has, by fingerprint of the split."
    )

    @property
    def name(self) -> str:
        """Name of the first split, and the number of the others, for people."""
        first = self.splits[0].split.name
        return first if len(self.splits) == 1 else f"{first} and {len(self.splits) - 1} more"

    @property
    def object_uris(self) -> set[str]:
        """Source objects of all splits."""
        return {span.object.uri for planned in self.splits for span in planned.split.spans}


def group_splits(
    planned: Sequence[PlannedSplit],
    excluded_ids: Mapping[str, frozenset[str]],
    *,
    num_workers: int,
    max_splits: int,
    max_bytes: int,
) -> list[SplitGroup]:
    """Cut a list of splits into groups of neighbours.

    Args:
        planned: the splits, in order.
        excluded_ids: ids to leave out, by fingerprint.
        num_workers: groups that are built at the same time.
        max_splits: maximum number of splits in a group.
        max_bytes: raw bytes after which a group is full; a larger split is a group of its own.
    """
    groups = cut_into_groups(
        planned, lambda item: item.split.num_bytes, num_workers=num_workers, max_items=max_splits, max_size=max_bytes
    )
    return [
        SplitGroup(
            splits=tuple(group),
            excluded_ids={
                item.fingerprint: excluded_ids[item.fingerprint] for item in group if item.fingerprint in excluded_ids
            },
        )
        for group in groups
    ]


def cut_into_groups(
    items: Sequence[Item], size_of: Callable[[Item], int], *, num_workers: int, max_items: int, max_size: int
) -> list[list[Item]]:
    """Cut a list into groups of neighbours that shrink towards the end.

    Args:
        items: the items, in order.
        size_of: returns the size of an item, in any unit.
        num_workers: groups that are worked on at the same time.
        max_items: maximum number of items in a group.
        max_size: size at which a group is full; a larger item is a group of its own.
    """
    groups: list[list[Item]] = []
    left_items, left_size = len(items), sum(map(size_of, items))
    full_items = full_size = group_size = 0
    for item in items:
        size = size_of(item)
        if not groups or len(groups[-1]) >= full_items or group_size + size > full_size:
            groups.append([])
            group_size = 0
            full_items = min(max_items, math.ceil(left_items / (SHARES * num_workers)))
            # Twice the size: items of like size are grouped by number, only larger ones by size.
            full_size = min(max_size, math.ceil(2 * left_size / (SHARES * num_workers)))
        groups[-1].append(item)
        group_size += size
        left_items, left_size = left_items - 1, left_size - size
    return groups

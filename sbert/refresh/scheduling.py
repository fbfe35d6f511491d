"""Groups of splits: what one worker is handed at a time.

The one idea: a hand-over costs milliseconds and a connection, whatever is handed over, so a hundred thousand splits travel
in some thousand groups. Groups shrink as the end comes near, so that no worker waits long for the last.
Each split keeps its own completion record: a worker that dies costs the splits of its group that were not finished.
"""

import math
from collections.abc import Mapping, Sequence

from pydantic import BaseModel, ConfigDict, Field

from sbert.refresh.fingerprints import PlannedSplit

__all__ = ["SplitGroup", "group_splits"]

SHARES = 2
"""A group is this part of a worker's fair share of what is left: large groups first, single splits last (guided
self-scheduling, Polychronopoulos and Kuck 1987), so that workers end together."""


class SplitGroup(BaseModel):
    """Splits that are handed to a worker together."""

    model_config = ConfigDict(frozen=True)

    splits: tuple[PlannedSplit, ...]
    excluded_ids: dict[str, frozenset[str]] = Field(
        default_factory=dict, description="Ids that a later split of the same object has, by fingerprint of the split."
    )

    @property
    def name(self) -> str:
        """The first split's name and how many more there are, for people."""
        first = self.splits[0].split.name
        return first if len(self.splits) == 1 else f"{first} and {len(self.splits) - 1} more"

    @property
    def object_uris(self) -> set[str]:
        """The source objects of all splits."""
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
        num_workers: how many groups are worked on at once.
        max_splits: most splits of a group.
        max_bytes: raw bytes after which a group is full; a larger split is a group of its own.
    """
    groups: list[list[PlannedSplit]] = []
    left_splits, left_bytes = len(planned), sum(item.split.num_bytes for item in planned)
    full_splits = full_bytes = num_bytes = 0
    for item in planned:
        size = item.split.num_bytes
        if not groups or len(groups[-1]) >= full_splits or num_bytes + size > full_bytes:
            groups.append([])
            num_bytes = 0
            full_splits = min(max_splits, math.ceil(left_splits / (SHARES * num_workers)))
            # Twice as many bytes: splits of like size are grouped by number, only larger ones by size.
            full_bytes = min(max_bytes, math.ceil(2 * left_bytes / (SHARES * num_workers)))
        groups[-1].append(item)
        num_bytes += size
        left_splits, left_bytes = left_splits - 1, left_bytes - size
    return [
        SplitGroup(
            splits=tuple(group),
            excluded_ids={
                item.fingerprint: excluded_ids[item.fingerprint] for item in group if item.fingerprint in excluded_ids
            },
        )
        for group in groups
    ]

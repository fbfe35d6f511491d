"""Groups of splits: what one worker is handed at a time.

The one idea: a hand-over costs milliseconds and a connection, whatever is handed over, so a hundred thousand splits travel
in some thousand groups. Groups are small enough that every worker gets several, so that none waits long for the last.
Each split keeps its own completion record: a worker that dies costs the splits of its group that were not finished.
"""

import math
from collections.abc import Mapping, Sequence

from pydantic import BaseModel, ConfigDict, Field

from sbert.plan import PlannedSplit

__all__ = ["SplitGroup", "group_splits"]

GROUPS_PER_WORKER = 8


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
    if not planned:
        return []
    share = num_workers * GROUPS_PER_WORKER
    full_splits = min(max_splits, math.ceil(len(planned) / share))
    # Twice the mean: splits of like size are grouped by number, only larger ones by size.
    full_bytes = min(max_bytes, math.ceil(2 * sum(item.split.num_bytes for item in planned) / share))
    groups: list[list[PlannedSplit]] = []
    num_bytes = 0
    for item in planned:
        if not groups or len(groups[-1]) >= full_splits or num_bytes + item.split.num_bytes > full_bytes:
            groups.append([])
            num_bytes = 0
        groups[-1].append(item)
        num_bytes += item.split.num_bytes
    return [
        SplitGroup(
            splits=tuple(group),
            excluded_ids={
                item.fingerprint: excluded_ids[item.fingerprint] for item in group if item.fingerprint in excluded_ids
            },
        )
        for group in groups
    ]

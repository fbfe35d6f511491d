"""Plan the index of a version: which segments serve it, which splits need one, and which segments are worth merging."""

import math
from collections import defaultdict
from collections.abc import Iterable, Sequence
from dataclasses import dataclass

from sbert.index.index_settings import IndexSettings
from sbert.index.split_places import SplitPlaces
from sbert.table.vector_segments import SegmentRecord, SegmentSplit, ServingSegment, choose_segments

__all__ = ["IndexPlan", "plan_index", "plan_merges"]

Group = tuple[SegmentSplit, ...]
"""The splits of a segment to build."""


@dataclass(frozen=True)
class IndexPlan:
    """Segments that exist, and splits that are in no segment."""

    keep: tuple[ServingSegment, ...]
    build: tuple[Group, ...]


def plan_index(
    records: Iterable[SegmentRecord], places: SplitPlaces, encoder_fingerprint: str, settings: IndexSettings
) -> IndexPlan:
    """Return the segments that stay, and the splits of the segments to build."""
    usable = [record for record in records if record.settings_hash == settings.segment_hash()]
    serving = choose_segments(usable, places.num_rows, encoder_fingerprint)
    keep = [
        segment for segment in serving if segment.num_rows >= (1 - settings.max_gone_share) * segment.record.num_rows
    ]
    missing = [SegmentSplit(fingerprint=name, num_rows=places.num_rows[name]) for name in places.without(keep)]
    return IndexPlan(tuple(keep), tuple(_groups(missing, settings.segment_rows)))


def plan_merges(serving: Sequence[ServingSegment], settings: IndexSettings) -> list[Group]:
    """Return the segments that merging makes: of each size class with `merge_segments` segments all become one.

    The sizes of a class differ by at most a factor of `merge_segments`. So a table of N rows has at most
    ``merge_segments * log(N)`` segments, and a row is merged at most ``log(N)`` times.
    """
    classes: dict[int, list[ServingSegment]] = defaultdict(list)
    for segment in serving:
        classes[int(math.log(max(1, segment.num_rows), settings.merge_segments))].append(segment)
    merges = []
    for _, segments in sorted(classes.items()):
        num_rows = sum(segment.num_rows for segment in segments)
        if len(segments) >= settings.merge_segments and num_rows <= settings.segment_rows:
            merges.append(
                tuple(
                    split
                    for segment in segments
                    for split in segment.record.splits
                    if split.fingerprint in segment.splits
                )
            )
    return merges


def _groups(splits: Iterable[SegmentSplit], segment_rows: int) -> Iterable[Group]:
    """Cut splits into groups of at most `segment_rows` rows; a larger split is a group of its own."""
    group: list[SegmentSplit] = []
    num_rows = 0
    for split in sorted(splits, key=lambda split: split.fingerprint):
        if group and num_rows + split.num_rows > segment_rows:
            yield tuple(group)
            group, num_rows = [], 0
        group.append(split)
        num_rows += split.num_rows
    if group:
        yield tuple(group)

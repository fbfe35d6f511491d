"""Segments of the index as a place of erased rows. A segment that holds an erased row, or may hold one, is removed whole.

A segment holds vectors without ids. Its splits tell which rows it holds, as long as they are in the newest version. The rows
of a split that left the table are unknown, so a segment with such a split is removed too. `sbert index` builds what is
missing.
"""

import re
from collections.abc import Sequence
from typing import ClassVar

import polars as pl

from sbert.counted import counted
from sbert.erase.places import ErasedRows, Place
from sbert.erase.receipt import PlaceReport
from sbert.index.segment_cache import forget_segment
from sbert.index.split_places import SplitPlaces
from sbert.index.version_rows import VersionRows
from sbert.storage.files import delete, join
from sbert.table.delta import Table
from sbert.table.erased_keys import key_columns
from sbert.table.shard_layout import read_split
from sbert.table.vector_segments import INDEX_FOLDER, SegmentRecord, read_segments, remove_segment

__all__ = ["IndexSegments"]

OWN_NAME = re.compile(
    rf"{INDEX_FOLDER}/((?:ivf|segment)-[0-9a-f]{{32}}[-.].*|version-\d{{20}}\.json|\.(ivf|segment|version)-.*\.tmp)"
)


class IndexSegments(Place):
    """Vectors of rows in the segments of the index."""

    name: ClassVar[str] = "segments of the index"

    def owns(self, path: str) -> bool:
        """Return whether a file belongs to the index."""
        return OWN_NAME.fullmatch(path) is not None

    def erase(self, table_uri: str, paths: Sequence[str], rows: ErasedRows, *, is_dry_run: bool) -> PlaceReport:
        """Remove segments that hold or may hold erased rows, and files of segments that were never finished."""
        holding, unfinished = self._holding(table_uri, paths, rows)
        former = [path.removeprefix(f"{INDEX_FOLDER}/") for path in unfinished if path.endswith(".graph")]
        verb = "would be removed" if is_dry_run else "removed"
        actions = [f"{counted(len(holding), 'segment')} {verb}; `sbert index` builds them again"] if holding else []
        if former:
            actions.append(f"{counted(len(former), 'segment')} of an earlier release {verb}, which may hold such rows")
        if not is_dry_run:
            for name in former:
                forget_segment(join(table_uri, INDEX_FOLDER), name)
            for record in holding:
                remove_segment(table_uri, record.name)
                forget_segment(join(table_uri, INDEX_FOLDER), record.lists.name)
            delete(join(table_uri, path) for path in unfinished)
        return PlaceReport(
            place=self.name,
            location=join(table_uri, INDEX_FOLDER),
            num_found=sum(holding.values()),
            action="; ".join(actions) or "nothing to do",
        )

    def look(self, table_uri: str, paths: Sequence[str], rows: ErasedRows, report: PlaceReport) -> PlaceReport:
        """Check again whether a segment holds or may hold erased rows."""
        holding, _ = self._holding(table_uri, paths, rows)
        num_left = sum(max(1, number) for number in holding.values())
        return report.model_copy(update={"look": f"{counted(len(paths), 'file')} looked at", "num_left": num_left})

    def _holding(
        self, table_uri: str, paths: Sequence[str], rows: ErasedRows
    ) -> tuple[dict[SegmentRecord, int], list[str]]:
        """Return the segments that hold erased rows, or may, with their number; and files that no record names."""
        if not paths:
            return {}, []
        records, _ = read_segments(table_uri)
        version = VersionRows(Table.open(table_uri))
        places = SplitPlaces(version)
        counted: dict[str, int] = {}
        holding: dict[SegmentRecord, int] = {}
        for record in records:
            live = {
                part.fingerprint for part in record.splits if places.num_rows.get(part.fingerprint) == part.num_rows
            }
            for fingerprint in live - counted.keys():
                counted[fingerprint] = _count(version, places, fingerprint, rows)
            number = sum(counted[fingerprint] for fingerprint in live)
            if number or len(live) < len(record.splits):
                holding[record] = number
        named = {f"{INDEX_FOLDER}/{name}" for record in records for name in _names(record)}
        return holding, [path for path in paths if path not in named and "/version-" not in path]


def _names(record: SegmentRecord) -> list[str]:
    return [f"{record.name}.json", *(file.name for file in record.files)]


def _count(version: VersionRows, places: SplitPlaces, fingerprint: str, rows: ErasedRows) -> int:
    """Return the number of erased rows in a split of the newest version."""
    columns = key_columns(version.table.arrow_schema)
    number = 0
    for block in read_split(version.table.uri, places.shards, fingerprint, columns):
        frame = pl.from_arrow(block)
        assert isinstance(frame, pl.DataFrame)
        number += int(rows.keys.mask(frame).sum())
    return number

"""Units of work: slices of large objects, whole objects, packs of tiny ones.

The one idea: the cut depends on nothing but the objects themselves. Slices begin at fixed multiples of a size, a tiny
object's pack is decided by its folder and the hash of its name, so that one new object changes one pack.
"""

import hashlib
import logging
import posixpath
from collections import defaultdict
from collections.abc import Sequence

import pyarrow.parquet as pq
from pydantic import BaseModel, ConfigDict, Field

from sbert.errors import StorageError
from sbert.source.objects import Compression, ObjectFormat, SourceObject
from sbert.source.settings import SplitSettings
from sbert.storage.files import base_name, open_input

__all__ = ["Span", "Split", "make_splits", "with_first_rows"]

log = logging.getLogger(__name__)

COUNT_BYTES = 8 * 2**20


class Span(BaseModel):
    """A whole object, or a slice of it."""

    model_config = ConfigDict(frozen=True)

    object: SourceObject
    start: int | None = Field(default=None, description="First byte (JSON Lines) or row group (Parquet); None: all.")
    stop: int | None = Field(default=None, description="The byte or row group after the last.")
    first_row: int = Field(
        default=1, description="Number of the first row within the object; not part of the identity."
    )
    max_rows: int | None = Field(default=None, description="Rows after which the span is cut off; None: all.")

    def identity(self) -> list[str | int | None]:
        """Give what decides the rows: URI, version, start and stop, and the cut if there is one."""
        facts = [self.object.uri, self.object.version, self.start, self.stop]
        return facts if self.max_rows is None else [*facts, self.max_rows]


class Split(BaseModel):
    """A unit of work."""

    model_config = ConfigDict(frozen=True)

    spans: tuple[Span, ...]
    name: str = Field(description="For people: tickets.jsonl [2 of 5].")

    @property
    def num_bytes(self) -> int:
        """Bytes to read (for Parquet slices: the object's bytes)."""
        return sum(
            span.object.num_bytes
            if span.start is None or span.stop is None or span.object.format is ObjectFormat.PARQUET
            else span.stop - span.start
            for span in self.spans
        )

    def identity(self) -> list[list[str | int | None]]:
        """Give what decides the split's rows, in a fixed order."""
        ordered = sorted(self.spans, key=lambda span: (span.object.uri, span.start or 0))
        return [span.identity() for span in ordered]


def make_splits(objects: Sequence[SourceObject], settings: SplitSettings) -> list[Split]:
    """Cut objects into units of work, ordered by the first object's URI."""
    tiny = [item for item in objects if item.num_bytes < settings.pack_below_bytes]
    splits = _packs(tiny, settings)
    for item in objects:
        if item.num_bytes >= settings.pack_below_bytes:
            splits += _slices(item, settings)
    return sorted(splits, key=lambda split: (split.spans[0].object.uri, split.spans[0].start or 0))


def _slices(item: SourceObject, settings: SplitSettings) -> list[Split]:
    name = base_name(item.uri)
    whole = [Split(spans=(Span(object=item),), name=name)]
    if item.num_bytes <= settings.split_bytes or item.compression is not Compression.NONE:
        return whole
    if item.format is ObjectFormat.JSONL:
        starts = list(range(0, item.num_bytes, settings.split_bytes))
        bounds = [(start, min(start + settings.split_bytes, item.num_bytes)) for start in starts]
    elif item.format is ObjectFormat.PARQUET:
        bounds = _row_group_bounds(item, settings.split_bytes)
    else:
        return whole
    if len(bounds) < 2:
        return whole
    return [
        Split(spans=(Span(object=item, start=start, stop=stop),), name=f"{name} [{number} of {len(bounds)}]")
        for number, (start, stop) in enumerate(bounds, start=1)
    ]


def _row_group_bounds(item: SourceObject, split_bytes: int) -> list[tuple[int, int]]:
    """Group neighbouring row groups up to a size; an unreadable footer is left for the reading to report."""
    try:
        with open_input(item.uri, in_order=False) as file:
            metadata = pq.ParquetFile(file).metadata
    except StorageError:
        raise
    except (OSError, ValueError) as error:  # pyarrow's errors for broken files
        log.warning("%s: cannot be cut by row groups: %s", item.uri, error)
        return []
    bounds: list[tuple[int, int]] = []
    first, size = 0, 0
    for group in range(metadata.num_row_groups):
        group_bytes = metadata.row_group(group).total_byte_size
        if size and size + group_bytes > split_bytes:
            bounds.append((first, group))
            first, size = group, 0
        size += group_bytes
    bounds.append((first, metadata.num_row_groups))
    return bounds


def _packs(objects: Sequence[SourceObject], settings: SplitSettings) -> list[Split]:
    folders: dict[str, list[SourceObject]] = defaultdict(list)
    for item in objects:
        folders[posixpath.dirname(item.uri)].append(item)
    splits: list[Split] = []
    for folder, members in folders.items():
        needed = max(
            -(-sum(item.num_bytes for item in members) // settings.pack_bytes),
            -(-len(members) // settings.pack_objects),
            1,
        )
        num_packs = 1 << (needed - 1).bit_length()  # a power of two: it changes rarely as the folder grows
        packs: dict[int, list[SourceObject]] = defaultdict(list)
        for item in members:
            packs[_bucket(item.uri) % num_packs].append(item)
        for number, pack in sorted(packs.items()):
            spans = tuple(Span(object=item) for item in sorted(pack, key=lambda item: item.uri))
            where = base_name(folder) or "/"
            name = base_name(pack[0].uri) if len(pack) == 1 else f"{where}/ pack {number + 1} ({len(pack)} objects)"
            splits.append(Split(spans=spans, name=name))
    return splits


def _bucket(uri: str) -> int:
    return int.from_bytes(hashlib.blake2b(uri.encode("utf-8", "surrogateescape"), digest_size=8).digest(), "big")


def with_first_rows(splits: Sequence[Split]) -> list[Split]:
    """Number the first row of every slice, so that row numbers count within the object.

    JSON Lines objects are read once up to the last slice wanted, counting newlines; Parquet has the counts in its footer.
    """
    starts: dict[str, set[int]] = defaultdict(set)
    objects: dict[str, SourceObject] = {}
    for split in splits:
        for span in split.spans:
            if span.start:
                starts[span.object.uri].add(span.start)
                objects[span.object.uri] = span.object
    numbers = {uri: _first_rows(objects[uri], sorted(wanted)) for uri, wanted in starts.items()}
    return [
        Split(
            name=split.name,
            spans=tuple(
                span.model_copy(update={"first_row": numbers[span.object.uri][span.start]}) if span.start else span
                for span in split.spans
            ),
        )
        for split in splits
    ]


def _first_rows(item: SourceObject, starts: list[int]) -> dict[int, int]:
    if item.format is ObjectFormat.PARQUET:
        with open_input(item.uri, in_order=False) as file:
            metadata = pq.ParquetFile(file).metadata
            sizes = [metadata.row_group(group).num_rows for group in range(metadata.num_row_groups)]
        return {start: 1 + sum(sizes[:start]) for start in starts}
    found: dict[int, int] = {}
    num_lines, position = 0, 0
    last = b"\n"
    with open_input(item.uri) as file:
        for start in starts:
            while position < start:
                chunk = file.read(min(COUNT_BYTES, start - position))
                if not chunk:
                    break
                num_lines += chunk.count(b"\n")
                position += len(chunk)
                last = chunk[-1:]
            # A line that begins before `start` and ends after it belongs to the slice before.
            found[start] = num_lines + 1 if last == b"\n" else num_lines + 2
    return found

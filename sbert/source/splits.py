"""Units of work: slices of large objects, whole objects, packs of tiny ones.

The cut depends on nothing but the objects themselves. Slices begin at fixed multiples of a size. The folder of a tiny
object and the hash of its name decide its pack. A refresh keeps the packs that the table has, and packs by this rule only
the tiny objects that are left over (`sbert.refresh.table_packs`).
"""

import hashlib
import re
from collections import defaultdict
from collections.abc import Sequence
from dataclasses import replace

from pydantic import BaseModel, ConfigDict, Field

from sbert.source.formats.all_formats import format_of
from sbert.source.objects import SourceObject, Span
from sbert.source.settings import SplitSettings
from sbert.storage.files import base_name

__all__ = ["Split", "folder_of", "is_full", "is_tiny", "make_packs", "make_splits", "with_first_rows"]

FULL_SHARE = 4
"""A pack with one part in so many of the objects or bytes that packs aim at is full. The rule makes packs of more than half
of them on average, so few of its packs are not full."""

PACK_SIZE = re.compile(r"\((?:\d+ of )?(\d+) objects\)$")
"""The end of a pack's name."""


class Split(BaseModel):
    """A unit of work."""

    model_config = ConfigDict(frozen=True)

    spans: tuple[Span, ...]
    name: str = Field(description="For people: tickets.jsonl [2 of 5].")

    @property
    def num_bytes(self) -> int:
        """Bytes to read (for Parquet slices: the object's bytes)."""
        return sum(
            span.stop - span.start
            if span.start is not None and span.stop is not None and format_of(span.object.format).slices_are_bytes
            else span.object.num_bytes
            for span in self.spans
        )

    def part(self, spans: tuple[Span, ...]) -> "Split":
        """Return a split of some of the spans; the name of a pack says how many of its objects are left."""
        name = self.name
        if len(self.spans) > 1:
            name = PACK_SIZE.sub(lambda size: f"({len(spans)} of {size[1]} objects)", name)
        return Split(spans=spans, name=name)

    def identity(self) -> list[list[str | int | None]]:
        """Return everything that decides the split's rows, in a fixed order."""
        ordered = sorted(self.spans, key=lambda span: (span.object.uri, span.start or 0))
        return [span.identity() for span in ordered]


def make_splits(objects: Sequence[SourceObject], settings: SplitSettings) -> list[Split]:
    """Cut objects into units of work, ordered by the first object's URI."""
    tiny: list[SourceObject] = []
    splits: list[Split] = []
    for item in objects:
        if is_tiny(item, settings):
            tiny.append(item)
        else:
            splits += _slices(item, settings)
    splits += make_packs(tiny, settings)
    return sorted(splits, key=lambda split: (split.spans[0].object.uri, split.spans[0].start or 0))


def is_tiny(item: SourceObject, settings: SplitSettings) -> bool:
    """Return whether an object is packed with others of its folder."""
    return item.num_bytes < settings.pack_below_bytes


def is_full(pack: Split, settings: SplitSettings) -> bool:
    """Return whether a pack has a good part of the objects or bytes that packs aim at."""
    num_bytes = sum(span.object.num_bytes for span in pack.spans)
    return len(pack.spans) * FULL_SHARE >= settings.pack_objects or num_bytes * FULL_SHARE >= settings.pack_bytes


def folder_of(item: SourceObject) -> str:
    """Return the folder of an object, whose tiny objects may share a pack with it."""
    return item.uri.rpartition("/")[0].rstrip("/")


def _slices(item: SourceObject, settings: SplitSettings) -> list[Split]:
    name = base_name(item.uri)
    whole = [Split(spans=(Span(object=item),), name=name)]
    if item.num_bytes <= settings.split_bytes or item.is_stream:
        return whole
    bounds = format_of(item.format).slices(item, settings.split_bytes)
    if len(bounds) < 2:
        return whole
    return [
        Split(spans=(Span(object=item, start=start, stop=stop),), name=f"{name} [{number} of {len(bounds)}]")
        for number, (start, stop) in enumerate(bounds, start=1)
    ]


def make_packs(objects: Sequence[SourceObject], settings: SplitSettings) -> list[Split]:
    """Pack tiny objects by the rule: the folder and the hash of the name decide the pack."""
    folders: dict[str, list[SourceObject]] = defaultdict(list)
    for item in objects:
        folders[folder_of(item)].append(item)
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

    A JSON Lines object is read once, up to the last slice that is wanted, to count its lines. Parquet has the counts in
    its footer.
    """
    starts: dict[str, set[int]] = defaultdict(set)
    objects: dict[str, SourceObject] = {}
    for split in splits:
        for span in split.spans:
            if span.start:
                starts[span.object.uri].add(span.start)
                objects[span.object.uri] = span.object
    numbers = {
        uri: format_of(objects[uri].format).first_rows(objects[uri], sorted(wanted)) for uri, wanted in starts.items()
    }
    return [
        Split(
            name=split.name,
            spans=tuple(
                replace(span, first_row=numbers[span.object.uri][span.start]) if span.start else span
                for span in split.spans
            ),
        )
        for split in splits
    ]

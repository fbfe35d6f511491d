"""Slices of large objects and packs of tiny ones."""

from sbert.source.objects import SourceObject
from sbert.source.settings import SplitSettings
from sbert.source.splits import make_splits


def objects(*sizes: int, prefix: str = "s3://b/f/o") -> list[SourceObject]:
    return [
        SourceObject(uri=f"{prefix}{number:05d}.jsonl", version="1", num_bytes=size, format="jsonl")
        for number, size in enumerate(sizes)
    ]


def test_large_objects_are_sliced_at_fixed_multiples() -> None:
    split = make_splits(objects(250), SplitSettings(split_bytes=100, pack_below_bytes=0))
    assert [(item.spans[0].start, item.spans[0].stop) for item in split] == [(0, 100), (100, 200), (200, 250)]
    assert split[1].name == "o00000.jsonl [2 of 3]"


def test_tiny_objects_are_packed_and_one_more_changes_one_pack() -> None:
    settings = SplitSettings(pack_below_bytes=1000, pack_objects=16)
    many = objects(*[10] * 100)
    before = {str(split.identity()) for split in make_splits(many, settings)}
    assert len(before) == 8  # 100 / 16 rounded up to a power of two
    more = [*many, *objects(10, prefix="s3://b/f/new")]
    after = {str(split.identity()) for split in make_splits(more, settings)}
    assert len(before - after) == 1
    assert len(after - before) == 1
    spread = [len(split.spans) for split in make_splits(many, settings)]
    assert sum(spread) == 100
    assert max(spread) < 40


def test_the_order_of_a_listing_does_not_matter() -> None:
    many = objects(*range(0, 5000, 100))
    settings = SplitSettings(split_bytes=1000, pack_below_bytes=800, pack_bytes=2000)
    assert [split.identity() for split in make_splits(many, settings)] == [
        split.identity() for split in make_splits(many[::-1], settings)
    ]

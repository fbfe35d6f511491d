"""Listing, slicing and packing."""

import os
from pathlib import Path

import pytest

from sbert.errors import EmptySourceError, MissingError
from sbert.source.listing import list_objects
from sbert.source.objects import SourceObject
from sbert.source.settings import SplitSettings
from sbert.source.splits import make_splits
from tests.support.services import S3Server


def names(raw: object) -> list[str]:
    return [item.uri.rsplit("/", 1)[-1] for item in list_objects(str(raw))]


def test_folder_file_and_glob(tmp_path: Path) -> None:
    for name in (
        "b.jsonl",
        "a.csv.gz",
        "sub/c.parquet",
        "sub/d.txt",
        "notes.md",
        ".hidden.jsonl",
        "_tmp/x.jsonl",
        "sub/.y.csv",
    ):
        (tmp_path / name).parent.mkdir(exist_ok=True)
        (tmp_path / name).write_bytes(b"x")
    assert names(tmp_path) == ["a.csv.gz", "b.jsonl", "c.parquet", "d.txt"]
    assert names(f"{tmp_path}/") == names(tmp_path)
    assert names(f"file://{tmp_path}") == names(tmp_path)
    assert names(tmp_path / "b.jsonl") == ["b.jsonl"]
    assert names(tmp_path / "sub/*") == ["c.parquet", "d.txt"]
    assert names(f"{tmp_path}/**/*.txt") == ["d.txt"]


def test_the_version_follows_the_content(tmp_path: Path) -> None:
    path = tmp_path / "a.jsonl"
    path.write_text("one")
    before = list_objects(str(tmp_path))[0]
    assert list_objects(str(tmp_path))[0] == before
    path.write_text("two")
    os.utime(path, ns=(0, path.stat().st_mtime_ns + 1_000_000))
    assert list_objects(str(tmp_path))[0].version != before.version


def test_names_are_opaque(tmp_path: Path) -> None:
    odd = [
        "sp ace.jsonl",
        "per%20cent.jsonl",
        "ha#sh.jsonl",
        "un\u00efcode \u2603.jsonl",
        "new\nline.jsonl",
        "br[ack]et.jsonl",
    ]
    for name in odd:
        (tmp_path / name).write_text("{}")
    assert sorted(names(tmp_path)) == sorted(odd)


def test_nothing_there_and_nothing_readable(tmp_path: Path) -> None:
    with pytest.raises(MissingError, match="no-such-folder"):
        list_objects(str(tmp_path / "no-such-folder"))
    with pytest.raises(MissingError, match=r"no object matches this pattern"):
        list_objects(str(tmp_path / "*.jsonl"))
    (tmp_path / "a.md").write_text("x")
    with pytest.raises(EmptySourceError, match=r"read are \.jsonl.*found: 1 \.md"):
        list_objects(str(tmp_path))


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


@pytest.mark.s3
def test_a_long_listing_on_s3(s3: S3Server, s3_bucket: str) -> None:
    client = s3.filesystem()
    client.pipe({f"{s3_bucket[5:]}/raw/part-{number:04d}.jsonl": b'{"text": "x"}\n' for number in range(1203)})
    client.pipe_file(f"{s3_bucket}/raw/star*[1].jsonl", b'{"text": "x"}\n')
    found = list_objects(f"{s3_bucket}/raw")
    assert len(found) == 1204
    assert found[0].uri == f"{s3_bucket}/raw/part-0000.jsonl"
    assert len(found[0].version) == 32  # the ETag of a plain upload is an MD5
    assert len(list_objects(f"{s3_bucket}/raw/part-000*")) == 10

"""Members of zip archives are objects of their own; those that may not be read are named."""

import zipfile
from pathlib import Path

import pytest

from sbert.errors import BrokenObjectError
from sbert.source.listing import list_objects
from sbert.source.objects import Span
from sbert.source.reading import read_span
from sbert.source.settings import ReadSettings, SourceSettings
from tests.support.reading import compress, read_all


def pack(path: Path, members: dict[str, bytes]) -> None:
    with zipfile.ZipFile(path, "w", zipfile.ZIP_DEFLATED) as archive:
        for name, data in members.items():
            archive.writestr(name, data)


def test_members_are_objects_with_names_of_their_own(tmp_path: Path) -> None:
    pack(
        tmp_path / "a.zip",
        {
            "x/one.csv": b"id,text\n1,first\n",
            "x/two.csv": b"text\nsecond\n",
            "lines.jsonl.gz": compress(b'{"id": "1", "text": "third"}\n', ".gz"),
            "__MACOSX/x/one.csv": b"junk",
            "photo.png": b"junk",
            "x/": b"",
        },
    )
    for raw in (tmp_path, tmp_path / "a.zip"):
        block = read_all(raw)
        assert block.rows.select("source", "id", "text").rows() == [
            (f"{tmp_path}/a.zip/lines.jsonl.gz", "1", "third"),
            (f"{tmp_path}/a.zip/x/one.csv", "1", "first"),
            (f"{tmp_path}/a.zip/x/two.csv", "two.csv:1", "second"),
        ]


@pytest.mark.parametrize("name", ["../out.jsonl", "/etc/out.jsonl", "a/../../out.txt", "..\\out.csv", "C:\\out.csv"])
def test_a_name_that_leads_out_of_the_archive_is_refused_and_nothing_else_is_lost(tmp_path: Path, name: str) -> None:
    pack(tmp_path / "a.zip", {name: b'{"text": "evil"}', "good.jsonl": b'{"text": "good"}'})
    objects = list_objects(str(tmp_path))
    refused = [item for item in objects if "leads out of the archive" in item.unreadable]
    assert [item.uri for item in refused] == [f"{tmp_path}/a.zip/{name}"]
    texts = [
        text
        for item in objects
        if not item.unreadable
        for block in read_span(Span(object=item), SourceSettings(), ReadSettings(), {})
        for text in block.rows["text"]
    ]
    assert texts == ["good"]


def test_an_encrypted_member_is_named(tmp_path: Path) -> None:
    pack(tmp_path / "a.zip", {"a.jsonl": b'{"text": "x"}'})
    data = bytearray((tmp_path / "a.zip").read_bytes())
    data[6] |= 1  # the flag in the member's header, and in the directory
    data[data.index(b"PK\x01\x02") + 8] |= 1
    (tmp_path / "a.zip").write_bytes(data)
    (item,) = list_objects(str(tmp_path))
    assert item.unreadable == "is encrypted: pack the archive without a password"


def test_a_bomb_is_refused_by_its_directory(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("sbert.source.archives.ALWAYS_BYTES", 2**20)
    monkeypatch.setattr("sbert.source.archives.MAX_EXPANSION", 100)
    pack(tmp_path / "a.zip", {f"{n}.jsonl": b"\n" * 2**22 for n in range(4)})
    (item,) = list_objects(str(tmp_path))
    assert item.uri == f"{tmp_path}/a.zip"
    assert "as in an archive bomb" in item.unreadable


def test_a_damaged_archive_and_a_damaged_member_are_unreadable(tmp_path: Path) -> None:
    pack(tmp_path / "a.zip", {"a.jsonl": b'{"text": "x"}' * 100})
    data = bytearray((tmp_path / "a.zip").read_bytes())
    data[45] ^= 0xFF
    (tmp_path / "a.zip").write_bytes(data)
    with pytest.raises(BrokenObjectError, match=r"a.zip/a.jsonl: cannot be read to its end"):
        read_all(tmp_path, kept_schema={})
    (tmp_path / "a.zip").write_bytes(data[:60])
    (item,) = list_objects(str(tmp_path))
    assert "is not a zip archive that can be read" in item.unreadable


def test_an_archive_of_a_newer_format_and_an_unknown_compression_are_unreadable(tmp_path: Path) -> None:
    pack(tmp_path / "a.zip", {"a.jsonl": b'{"text": "x"}' * 100})
    packed = (tmp_path / "a.zip").read_bytes()
    entry = packed.index(b"PK\x01\x02")  # of the archive's directory
    strange = bytearray(packed)
    strange[8] = strange[entry + 10] = 77  # the method of compression
    (tmp_path / "a.zip").write_bytes(strange)
    with pytest.raises(BrokenObjectError, match=r"a.zip/a.jsonl: cannot be read to its end: That compression method"):
        read_all(tmp_path, kept_schema={})
    newer = bytearray(packed)
    newer[entry + 6] = 99  # the version needed to unpack
    (tmp_path / "a.zip").write_bytes(newer)
    (item,) = list_objects(str(tmp_path))
    assert "is not a zip archive that can be read: zip file version 9.9" in item.unreadable

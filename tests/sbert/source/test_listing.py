"""Listings of folders, files, globs, links and tables."""

import os
import shutil
import socket
from pathlib import Path

import polars as pl
import pytest
from deltalake import write_deltalake
from fsspec.implementations.local import LocalFileOpener

from sbert.errors import EmptySourceError, MissingError, SettingsError, SourceError, StorageError
from sbert.refresh.backfill_selection import Selection, choose_objects
from sbert.source.listing import list_objects
from tests.support.refreshing import refreshed
from tests.support.services import S3Server
from tests.support.tables import read, rows, write


def names(raw: object) -> list[str]:
    return [item.uri.rsplit("/", 1)[-1] for item in list_objects(str(raw))]


def test_a_folder_a_file_and_a_glob_list_their_readable_objects(tmp_path: Path) -> None:
    for name in (
        "b.jsonl",
        "a.csv.gz",
        "sub/c.parquet",
        "sub/d.txt",
        "notes.doc",
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


def test_objects_with_names_of_every_kind_are_listed(tmp_path: Path) -> None:
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


def test_a_place_with_nothing_there_or_nothing_readable_is_refused(tmp_path: Path) -> None:
    with pytest.raises(MissingError, match="no-such-folder"):
        list_objects(str(tmp_path / "no-such-folder"))
    with pytest.raises(MissingError, match=r"no object matches this pattern"):
        list_objects(str(tmp_path / "*.jsonl"))
    for key in ("lang=de", "lang=en"):
        (tmp_path / "big" / key).mkdir(parents=True)
        (tmp_path / "big" / key / "a.jsonl").write_text("{}")
    with pytest.raises(MissingError, match=r"which matches 2 folders: write .*/big/lang=\*/\* for the objects in them"):
        list_objects(str(tmp_path / "big/lang=*"))
    assert len(list_objects(str(tmp_path / "big/lang=*/*"))) == 2
    shutil.rmtree(tmp_path / "big")
    (tmp_path / "a.doc").write_text("x")
    with pytest.raises(EmptySourceError, match=r"found: 1 \.doc.*Readable endings are \.jsonl"):
        list_objects(str(tmp_path))


@pytest.mark.slow
@pytest.mark.s3
def test_a_listing_of_several_pages_on_s3_is_complete(s3: S3Server, s3_bucket: str) -> None:
    client = s3.filesystem()
    client.pipe({f"{s3_bucket[5:]}/raw/part-{number:04d}.jsonl": b'{"text": "x"}\n' for number in range(1203)})
    client.pipe_file(f"{s3_bucket}/raw/star*[1].jsonl", b'{"text": "x"}\n')
    objects = list_objects(f"{s3_bucket}/raw")
    assert len(objects) == 1204
    assert objects[0].uri == f"{s3_bucket}/raw/part-0000.jsonl"
    assert len(objects[0].version) == 32  # the ETag of a plain upload is an MD5
    assert len(list_objects(f"{s3_bucket}/raw/part-000*")) == 10


def test_a_link_whose_target_is_gone_is_unreadable_and_its_rows_stay(tmp_path: Path, model: str) -> None:
    write(tmp_path / "data/a.jsonl", rows(0, 5))
    write(tmp_path / "raw/b.jsonl", rows(5, 5))
    (tmp_path / "raw/a.jsonl").symlink_to(tmp_path / "data/a.jsonl")
    refreshed(tmp_path / "raw", tmp_path / "table", model)
    (tmp_path / "data").rename(tmp_path / "not mounted")
    outcome = refreshed(tmp_path / "raw", tmp_path / "table", model)
    broken = outcome.report.broken_objects
    assert list(broken) == [f"{tmp_path}/raw/a.jsonl"]
    assert broken[f"{tmp_path}/raw/a.jsonl"].startswith(f"cannot be opened: a link to {tmp_path}/data/a.jsonl")
    assert read(tmp_path / "table").height == 10
    (tmp_path / "not mounted").rename(tmp_path / "data")
    again = refreshed(tmp_path / "raw", tmp_path / "table", model)
    assert again.report.complete
    assert again.report.num_splits_built == 0


@pytest.mark.parametrize("asked", ["raw", "raw/**", "raw/**/*.jsonl", "raw/*/*.jsonl"])
def test_rows_below_a_link_to_a_folder_that_is_gone_stay(tmp_path: Path, model: str, asked: str) -> None:
    """A disk is not mounted: nobody can tell whether the link led to a folder or to a file."""
    raw, table = tmp_path / asked, tmp_path / "table"
    for number in range(6):
        write(tmp_path / f"raw/here/{number}.jsonl", rows(number, 1))
    write(tmp_path / "disk/b.jsonl", rows(20, 1))
    (tmp_path / "raw/day.1").symlink_to(tmp_path / "disk")
    refreshed(raw, table, model)
    (tmp_path / "disk").rename(tmp_path / "not mounted")
    broken = refreshed(raw, table, model).report.broken_objects
    assert list(broken) == [f"{tmp_path}/raw/day.1"]
    assert "a link to" in broken[f"{tmp_path}/raw/day.1"]
    assert read(table).height == 7
    (tmp_path / "not mounted").rename(tmp_path / "disk")
    again = refreshed(raw, table, model).report
    assert again.complete
    assert again.num_splits_built == 0


def test_only_links_that_may_lead_to_what_was_asked_for_count(tmp_path: Path) -> None:
    write(tmp_path / "raw/a/b.jsonl", rows(0, 1))
    for name in ("raw/gone", "raw/.hidden", "raw/a/deep"):
        (tmp_path / name).symlink_to(tmp_path / "nowhere")
    assert names(tmp_path / "raw") == ["b.jsonl", "deep", "gone"]
    assert names(tmp_path / "raw/a*/*.jsonl") == ["b.jsonl"]
    assert names(tmp_path / "raw/*/*.jsonl") == ["b.jsonl", "gone"]


def test_an_edited_target_of_the_same_length_is_a_new_version(tmp_path: Path) -> None:
    target, raw = tmp_path / "data.jsonl", tmp_path / "raw"
    target.write_text('{"text": "one"}')
    raw.mkdir()
    (raw / "a.jsonl").symlink_to(target)
    (before,) = list_objects(str(raw))
    (by_name,) = list_objects(str(raw / "a.jsonl"))
    (by_glob,) = list_objects(str(raw / "*.jsonl"))
    assert before == by_name == by_glob
    assert before.num_bytes == 15
    target.write_text('{"text": "two"}')
    os.utime(target, ns=(0, target.stat().st_mtime_ns + 1_000_000))
    for named in (raw, raw / "a.jsonl", raw / "*.jsonl"):
        assert list_objects(str(named))[0].version != before.version


def test_a_link_to_a_folder_is_followed_but_not_in_a_loop(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    (tmp_path / "elsewhere/sub").mkdir(parents=True)
    (tmp_path / "elsewhere/sub/a.jsonl").write_text("{}")
    (tmp_path / "raw").mkdir()
    (tmp_path / "raw/link").symlink_to(tmp_path / "elsewhere")
    (tmp_path / "elsewhere/loop").symlink_to(tmp_path / "elsewhere")
    objects = list_objects(str(tmp_path / "raw"))
    assert [item.uri for item in objects] == [f"{tmp_path}/raw/link/sub/a.jsonl"]
    assert f"{tmp_path}/raw/link/loop: is a link to a folder that it lies in" in caplog.text


def test_links_that_lead_to_each_other_are_unreadable(tmp_path: Path) -> None:
    (tmp_path / "a.jsonl").symlink_to(tmp_path / "b.jsonl")
    (tmp_path / "b.jsonl").symlink_to(tmp_path / "a.jsonl")
    assert all("Too many levels of symbolic links" in item.unreadable for item in list_objects(str(tmp_path)))


def test_pipes_and_sockets_are_unreadable_and_never_opened(tmp_path: Path) -> None:
    os.mkfifo(tmp_path / "pipe.jsonl")
    with socket.socket(socket.AF_UNIX) as server:
        server.bind(str(tmp_path / "socket.csv"))
    objects = list_objects(str(tmp_path))
    assert [Path(item.uri).name for item in objects] == ["pipe.jsonl", "socket.csv"]
    assert {item.unreadable for item in objects} == {"cannot be opened: a pipe, socket or device, not a file"}


def test_a_folder_that_cannot_be_listed_is_an_error_and_loses_no_rows(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    write(tmp_path / "open/a.jsonl", rows(0, 2))
    write(tmp_path / "closed/b.jsonl", rows(2, 2))
    scandir = os.scandir

    def refuse(path: str) -> object:
        if str(path).endswith("/closed"):
            raise PermissionError(13, "Permission denied", str(path))
        return scandir(path)

    monkeypatch.setattr(os, "scandir", refuse)
    with pytest.raises(StorageError, match=f"{tmp_path}/closed"):
        list_objects(str(tmp_path))


def test_an_object_that_storage_refuses_does_not_take_its_pack_with_it(
    tmp_path: Path, model: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    write(tmp_path / "raw/a.jsonl", rows(0, 5))
    write(tmp_path / "raw/b.jsonl", rows(5, 5))
    opened = LocalFileOpener._open

    def refuse(self: LocalFileOpener) -> None:
        if self.path.endswith("/a.jsonl"):
            raise PermissionError(13, "Permission denied", self.path)
        opened(self)

    monkeypatch.setattr(LocalFileOpener, "_open", refuse)
    outcome = refreshed(tmp_path / "raw", tmp_path / "table", model)
    assert list(outcome.report.broken_objects) == [f"{tmp_path}/raw/a.jsonl"]
    assert outcome.report.num_rows == 5


def test_a_hudi_table_is_refused_by_name(tmp_path: Path) -> None:
    for file in (".hoodie/hoodie.properties", "data/part-0.parquet"):
        (tmp_path / "below/table" / file).parent.mkdir(parents=True, exist_ok=True)
        (tmp_path / "below/table" / file).write_bytes(b"")
    with pytest.raises(SourceError, match=f"{tmp_path}/below/table: is a table of Hudi"):
        list_objects(str(tmp_path))


def test_a_table_in_a_hidden_folder_is_passed_over(tmp_path: Path) -> None:
    write_deltalake(str(tmp_path / "_table"), pl.DataFrame({"text": ["a"]}).to_arrow())
    (tmp_path / "a.jsonl").write_text("{}")
    assert names(tmp_path) == ["a.jsonl"]


@pytest.mark.parametrize("include", ["e[1].jsonl", "e*.jsonl"])
def test_an_object_is_chosen_by_its_literal_name(tmp_path: Path, include: str) -> None:
    for name in ("e[1].jsonl", "f.jsonl"):
        (tmp_path / name).write_text("{}")
    objects = choose_objects(list_objects(str(tmp_path)), Selection(include=(include,)), str(tmp_path))
    assert [Path(item.uri).name for item in objects] == ["e[1].jsonl"]


def test_objects_without_a_known_ending_are_of_the_named_format(tmp_path: Path) -> None:
    for name in ("export-1", "export-2.dat.gz", "a.csv"):
        (tmp_path / name).write_bytes(b"x")
    objects = list_objects(str(tmp_path), "jsonl")
    assert [(item.uri.rsplit("/", 1)[-1], item.format, item.compression.value) for item in objects] == [
        ("a.csv", "csv", "none"),
        ("export-1", "jsonl", "none"),
        ("export-2.dat.gz", "jsonl", "gzip"),
    ]
    assert [item.format for item in list_objects(str(tmp_path / "export-1"), "txt")] == ["txt"]
    with pytest.raises(SettingsError, match=r"source\.format is 'xls', the formats are: jsonl, json, csv"):
        list_objects(str(tmp_path), "xls")

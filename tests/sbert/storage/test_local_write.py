"""A local file appears whole, under its name, or not at all."""

from pathlib import Path

import pytest

from sbert.errors import StorageError
from sbert.storage.conditional_put import create_bytes
from sbert.storage.files import open_output, write_bytes
from sbert.storage.local_write import LocalWrite


def test_a_file_that_is_being_written_is_not_seen_under_its_name(tmp_path: Path) -> None:
    local = LocalWrite(str(tmp_path / "folder/file"))
    local.file.write(b"content")
    assert not (tmp_path / "folder/file").exists()
    local.replace()
    assert [(path.name, path.read_bytes()) for path in (tmp_path / "folder").iterdir()] == [("file", b"content")]


def test_discarding_leaves_nothing(tmp_path: Path) -> None:
    local = LocalWrite(str(tmp_path / "file"))
    local.file.write(b"content")
    local.discard()
    local.discard()
    assert list(tmp_path.iterdir()) == []


def test_of_two_writers_that_create_a_file_the_first_succeeds(tmp_path: Path) -> None:
    first, second = LocalWrite(str(tmp_path / "file")), LocalWrite(str(tmp_path / "file"))
    first.file.write(b"first")
    second.file.write(b"second")
    assert first.create()
    assert not second.create()
    assert [path.read_bytes() for path in tmp_path.iterdir()] == [b"first"]


def test_every_way_of_writing_leaves_the_file_alone_when_its_folder_cannot_be_written(tmp_path: Path) -> None:
    (tmp_path / "file").write_bytes(b"not a folder")
    target = str(tmp_path / "file/child")
    with pytest.raises(StorageError):
        write_bytes(target, b"x")
    with pytest.raises(StorageError):
        create_bytes(target, b"x")
    with pytest.raises(StorageError):
        open_output(target)
    assert (tmp_path / "file").read_bytes() == b"not a folder"


def test_an_output_that_is_discarded_keeps_the_earlier_file(tmp_path: Path) -> None:
    write_bytes(str(tmp_path / "file"), b"earlier")
    output = open_output(str(tmp_path / "file"))
    output.write(b"half")
    output.discard()
    assert [path.read_bytes() for path in tmp_path.iterdir()] == [b"earlier"]

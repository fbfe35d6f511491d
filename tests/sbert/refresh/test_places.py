"""Places of raw text and tables: names of every kind, links, each in the other, folders that may not be entered."""

import contextlib
import os
import shutil
import tempfile
from collections.abc import Iterator
from pathlib import Path

import pytest

from sbert.errors import (
    NotATableError,
    SettingsError,
    StorageError,
)
from sbert.table.delta import Table
from tests.support.library_runs import ids_of, incomplete, refresh
from tests.support.tables import objects_apart, read, rows, write
from tests.support.tiny_models import save_tiny

NOBODY = 65534

NAMES = [
    "a b",
    "ü é",
    "x#1",
    "p%20q",
    "wh?t",
    "new\nline",
    "st*r",
    "br[a]",
    "q'uo\"te",
    "sub dir/c",
    "日本/本",
    "b\\s",
    "+&=",
]


def test_objects_with_names_of_every_kind_are_read(tmp_path: Path, model: str) -> None:
    for number, name in enumerate(NAMES):
        write(tmp_path / f"raw/{name}.jsonl", rows(number, 1))
    first = refresh(tmp_path / "raw", tmp_path / "ta ble ü", model=model)
    assert first.num_rows == len(NAMES)
    table = read(tmp_path / "ta ble ü")
    assert set(table["source"]) == {str(tmp_path / f"raw/{name}.jsonl") for name in NAMES}
    assert refresh(tmp_path / "raw", tmp_path / "ta ble ü").num_splits_built == 0


def test_a_link_is_read_under_its_own_name_with_the_version_of_its_target(tmp_path: Path, model: str) -> None:
    write(tmp_path / "elsewhere/a.jsonl", rows(0, 5))
    (tmp_path / "raw").mkdir()
    (tmp_path / "raw/link.jsonl").symlink_to(tmp_path / "elsewhere/a.jsonl")
    report = refresh(tmp_path / "raw", tmp_path / "table", model=model)
    assert report.num_rows == 5
    assert set(read(tmp_path / "table")["source"]) == {str(tmp_path / "raw/link.jsonl")}
    write(tmp_path / "elsewhere/a.jsonl", rows(0, 8))  # the version is that of the file, not of the link
    assert refresh(tmp_path / "raw", tmp_path / "table").num_rows == 8


@pytest.mark.parametrize(
    ("raw", "table", "message"),
    [
        ("raw", "raw/table", r"raw/table: the table would lie within the raw text"),
        ("raw", "raw", r"within the raw text"),
        ("raw/**/*", "raw/deep/table", r"within the raw text"),
        ("table/raw", "table", r"table/raw: the raw text lies within the table"),
    ],
)
def test_raw_text_and_table_within_each_other_are_refused(
    tmp_path: Path, model: str, raw: str, table: str, message: str
) -> None:
    write(tmp_path / "raw/a.jsonl", rows(0, 5))
    with pytest.raises(SettingsError, match=message):
        refresh(tmp_path / raw, tmp_path / table, model=model)
    assert [path.name for path in tmp_path.rglob("*")] == ["raw", "a.jsonl"]


def test_a_table_beside_the_raw_text_is_allowed(tmp_path: Path, model: str) -> None:
    write(tmp_path / "raw/a.jsonl", rows(0, 5))
    for table in ("raw/_table", "raw2", "table"):
        assert refresh(tmp_path / "raw", tmp_path / table, model=model).num_rows == 5
    assert refresh(tmp_path / "raw/*.jsonl", tmp_path / "raw/other", model=model).num_rows == 5


@pytest.mark.parametrize(("name", "character"), [("p%20q", "%"), ("a#b", "#"), ("a?b", r"\?")])
def test_a_table_whose_name_the_log_cannot_hold_is_refused(
    tmp_path: Path, model: str, name: str, character: str
) -> None:
    write(tmp_path / "raw/a.jsonl", rows(0, 5))
    with pytest.raises(SettingsError, match=rf"the Delta log's client reads {character} as part of an address"):
        refresh(tmp_path / "raw", tmp_path / name, model=model)
    assert not (tmp_path / name).exists()


def test_a_file_in_the_place_of_the_table_is_refused(tmp_path: Path, model: str) -> None:
    write(tmp_path / "raw/a.jsonl", rows(0, 5))
    write(tmp_path / "file.jsonl", rows(0, 5))
    with pytest.raises(NotATableError, match=r"file\.jsonl: this is a file, but a table is a folder"):
        refresh(tmp_path / "raw", tmp_path / "file.jsonl", model=model)


@contextlib.contextmanager
def without_root() -> Iterator[None]:
    """Root may write anywhere: be nobody for a while."""
    if os.geteuid() != 0:
        yield
        return
    os.seteuid(NOBODY)
    try:
        yield
    finally:
        os.seteuid(0)


@pytest.fixture
def open_folder() -> Iterator[Path]:
    """A folder that everyone may enter, unlike pytest's own."""
    folder = Path(tempfile.mkdtemp(prefix="sbert-test-"))
    folder.chmod(0o755)
    yield folder
    shutil.rmtree(folder)


def readable_model(folder: Path) -> str:
    model = save_tiny(folder / "model")
    for path in Path(model).rglob("*"):
        path.chmod(0o755 if path.is_dir() else 0o644)
    return model


def test_a_folder_without_permission_to_write_is_named(open_folder: Path) -> None:
    raw, parent = open_folder / "raw", open_folder / "closed"
    model = readable_model(open_folder)
    write(raw / "a.jsonl", rows(0, 5))
    parent.mkdir()
    refresh(raw, parent / "table", model=model)
    write(raw / "a.jsonl", rows(0, 8))
    for path in (parent, parent / "table", *(parent / "table").rglob("*")):
        path.chmod(0o555 if path.is_dir() else 0o444)
    try:
        with without_root():
            for table in (parent / "table", parent / "new"):
                with pytest.raises(
                    StorageError, match=r"access denied.*check the owner and mode of the folder"
                ) as caught:
                    refresh(raw, table, model=None if table.name == "table" else model)
                assert not caught.value.transient
    finally:
        for path in (parent, parent / "table", *(parent / "table").rglob("*")):
            path.chmod(0o755)
    assert Table.open(str(parent / "table")).version == 0
    assert ids_of(parent / "table") == {str(n) for n in range(5)}
    assert not (parent / "new").exists()


def test_an_object_without_permission_to_read_does_not_stop_the_others(open_folder: Path) -> None:
    model = readable_model(open_folder)
    for name, first in (("a", 0), ("b", 10)):
        write(open_folder / f"raw/{name}.jsonl", rows(first, 10))
    (open_folder / "raw/b.jsonl").chmod(0)
    (open_folder / "out").mkdir()
    (open_folder / "out").chmod(0o777)
    with without_root():
        report = incomplete(open_folder / "raw", open_folder / "out/table", model=model, settings=objects_apart())
    assert "access denied" in report.broken_objects[str(open_folder / "raw/b.jsonl")]
    assert ids_of(open_folder / "out/table") == {str(n) for n in range(10)}

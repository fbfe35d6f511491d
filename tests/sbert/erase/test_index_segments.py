"""Erased rows are in no segment of the index, and search goes on without them."""

from pathlib import Path

import pytest

from sbert.erase.run import erase
from sbert.index import segment_cache
from sbert.index.index_run import index_table
from sbert.table.delta import Table
from sbert.table.erased_keys import ErasedKeys
from sbert.table.vector_segments import INDEX_FOLDER, read_segments
from tests.support.made_tables import State, make_version


@pytest.fixture
def table(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> str:
    """Return a table with a segment of the objects a and b, and one of c."""
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))
    state: State = {f"s3://raw/{name}": {f"{name}-{at}": at for at in range(30)} for name in "ab"}
    folder = str(tmp_path / "table")
    make_version(folder, state)
    index_table(folder)
    state["s3://raw/c"] = {f"c-{at}": 100 + at for at in range(30)}
    make_version(folder, state)
    index_table(folder)
    return folder


def test_only_segments_that_hold_the_rows_go_and_the_next_run_builds_them_again(table: str) -> None:
    before = {record.num_rows: record.name for record in read_segments(table)[0]}
    receipt = erase(table, ErasedKeys(ids=["c-3"]))
    (place,) = [place for place in receipt.places if place.place == "segments of the index"]
    assert place.num_found == 1
    assert place.is_clean
    assert receipt.is_complete
    assert [record.name for record in read_segments(table)[0]] == [before[60]]
    assert not [path for path in (Path(table) / INDEX_FOLDER).iterdir() if before[30] in path.name]
    assert index_table(table).num_rows_built == 29
    assert Table.open(table).num_rows == 89


def test_a_segment_with_rows_that_nobody_can_name_any_more_goes_too(table: str) -> None:
    make_version(table, {"s3://raw/b": {f"b-{at}": at for at in range(30)}})
    erase(table, ErasedKeys(ids=["a-3"]))
    assert read_segments(table)[0] == []


def test_segments_of_an_earlier_release_go_with_their_local_copies(table: str, tmp_path: Path) -> None:
    name = f"segment-{'0' * 32}"
    files = [f"{name}.json", f"{name}-00000000.graph", f"{name}-00000000.vectors"]
    for file in files:
        (Path(table) / INDEX_FOLDER / file).write_text("{}")
    copy = segment_cache._folder_of(f"{table}/{INDEX_FOLDER}", f"{name}-00000000.graph")
    copy.mkdir(parents=True)
    assert tmp_path in copy.parents
    receipt = erase(table, ErasedKeys(ids=["c-3"]))
    (place,) = [place for place in receipt.places if place.place == "segments of the index"]
    assert "1 segment of an earlier release removed" in place.action
    assert not [file for file in files if (Path(table) / INDEX_FOLDER / file).exists()]
    assert not copy.exists()


def test_a_dry_run_counts_and_removes_nothing(table: str) -> None:
    receipt = erase(table, ErasedKeys(ids=["a-3"]), is_dry_run=True)
    (place,) = [place for place in receipt.places if place.place == "segments of the index"]
    assert place.num_found == 1
    assert place.action.split(";")[0] == "1 segment would be removed"
    assert len(read_segments(table)[0]) == 2

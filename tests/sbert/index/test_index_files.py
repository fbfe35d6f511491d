"""Files of the index: damage, kills, caches, what an earlier release left, and their removal."""

import json
import logging
from pathlib import Path
from typing import Any

import pytest

from sbert.index import segment_build
from sbert.index.index_run import drop_index, index_table
from sbert.index.index_settings import IndexSettings
from sbert.index.search import search_table
from sbert.table.delta import Table
from sbert.table.segment_check import index_findings
from sbert.table.vacuum import vacuum_table
from sbert.table.vector_segments import INDEX_FOLDER, read_segments
from sbert.table.verify import verify_table
from tests.sbert.index.indexed_tables import NUM_ROWS, assert_finds_what_exact_search_finds, queries, state_of
from tests.support.made_tables import make_version

pytestmark = pytest.mark.usefixtures("own_cache")


@pytest.mark.parametrize("damage", ["gone", "torn", "flipped", "record"])
def test_a_broken_segment_is_named_left_out_and_built_again(
    tmp_path: Path, damage: str, caplog: pytest.LogCaptureFixture
) -> None:
    table = make_version(str(tmp_path / "table"), state_of(0, 1))
    index_table(table.uri)
    (record,), _ = read_segments(table.uri)
    path = Path(table.uri) / INDEX_FOLDER / record.lists.name
    content = path.read_bytes()
    if damage == "gone":
        path.unlink()
    elif damage == "torn":
        path.write_bytes(content[:-100])
    elif damage == "record":
        (Path(table.uri) / INDEX_FOLDER / f"{record.name}.json").write_text("{")
    else:
        flipped = bytearray(content)
        flipped[len(content) // 2] ^= 4
        path.write_bytes(flipped)
    assert any("_index" in finding for finding in verify_table(table.uri).findings)
    with caplog.at_level(logging.WARNING):
        result = search_table(table, queries())
    assert f"the segment {record.name} is broken" in caplog.text
    assert not result.way.by_index
    report = index_table(table.uri, check=damage == "flipped")
    assert report.num_segments_broken == 1
    assert report.num_rows_built == 2 * NUM_ROWS
    assert_finds_what_exact_search_finds(table)
    assert index_findings(table.uri) == []


def test_vacuum_removes_segments_that_no_longer_serve(tmp_path: Path) -> None:
    folder = str(tmp_path / "table")
    for night in range(4):
        make_version(folder, state_of(*range(night + 1), num_rows=60))
        index_table(folder)
    assert len(read_segments(folder)[0]) == 5  # four nights, and the segment that they were merged into
    removed = vacuum_table(folder, retention_hours=0, apply=True).files
    assert sum(name.endswith(".lists") for name in removed) == 4
    assert len(read_segments(folder)[0]) == 1
    assert index_findings(folder) == []
    assert_finds_what_exact_search_finds(Table.open(folder))


def test_two_runs_that_build_one_segment_leave_one(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    table = make_version(str(tmp_path / "table"), state_of(0, 1))
    real = segment_build.write_segment

    def beaten(table_uri: str, record: Any) -> Any:
        monkeypatch.setattr(segment_build, "write_segment", real)
        index_table(table_uri)
        return real(table_uri, record)

    monkeypatch.setattr(segment_build, "write_segment", beaten)
    assert index_table(table.uri).num_segments == 1
    files = sorted(path.suffix for path in (Path(table.uri) / INDEX_FOLDER).iterdir())
    assert files == [".json", ".json", ".lists", ".vectors"]  # one record of the segment, one of the version
    assert_finds_what_exact_search_finds(table)


@pytest.mark.parametrize("moment", ["_publish", "write_segment"])
def test_a_run_that_is_killed_leaves_nothing_that_is_searched_and_the_next_one_finishes(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, moment: str
) -> None:
    table = make_version(str(tmp_path / "table"), state_of(0, 1))

    def killed(*_: object) -> None:
        raise KeyboardInterrupt

    with monkeypatch.context() as patch:
        patch.setattr(segment_build, moment, killed)
        with pytest.raises(KeyboardInterrupt):
            index_table(table.uri)
    assert not search_table(table, queries()).way.by_index
    assert index_table(table.uri).num_segments_built == 1
    assert_finds_what_exact_search_finds(table)
    vacuum_table(table.uri, retention_hours=0, apply=True)
    files = sorted(path.suffix for path in (Path(table.uri) / INDEX_FOLDER).iterdir())
    assert files == [".json", ".json", ".lists", ".vectors"]


def test_an_index_of_an_earlier_release_is_neither_used_nor_called_broken(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    table = make_version(str(tmp_path / "table"), state_of(0))
    name = f"segment-{'0' * 32}"
    folder = Path(table.uri) / INDEX_FOLDER
    folder.mkdir()
    for file in (f"{name}.json", f"{name}-00000000.graph", f"{name}-00000000.vectors"):
        (folder / file).write_text("{}")
    assert not search_table(table, queries()).way.by_index
    assert index_table(table.uri).num_segments_built == 1
    assert not caplog.messages
    removed = vacuum_table(table.uri, retention_hours=0, apply=True).files
    assert sum(name in file for file in removed) == 3


def test_dropping_the_index_makes_search_exact(tmp_path: Path) -> None:
    table = make_version(str(tmp_path / "table"), state_of(0))
    index_table(table.uri)
    former = f"segment-{'0' * 32}"
    for file in (f"{former}.json", f"{former}-00000000.graph", f"{former}-00000000.vectors"):
        (Path(table.uri) / INDEX_FOLDER / file).write_text("{}")
    assert drop_index(table.uri) == 1
    assert not search_table(table, queries()).way.by_index
    assert not list((Path(table.uri) / INDEX_FOLDER).iterdir())


def test_a_table_in_object_storage_is_searched_from_a_cache_that_keeps_its_limit(
    s3_bucket: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    table = make_version(f"{s3_bucket}/table", state_of(0, 1))
    index_table(table.uri)
    assert_finds_what_exact_search_finds(table)
    cache = tmp_path / "cache" / "sbert" / "index"
    copies = [path for path in cache.rglob("*") if path.is_file()]
    assert sorted(path.suffix for path in copies) == [".lists", ".vectors"]
    other = make_version(f"{s3_bucket}/other", state_of(7))
    index_table(other.uri)
    monkeypatch.setenv("SBERT_INDEX_CACHE_BYTES", "1")
    search_table(other, queries())
    assert {path.parent for path in cache.rglob("*.lists")}.isdisjoint({path.parent for path in copies})
    assert len(list(cache.rglob("*.lists"))) == 1


def test_records_hold_what_a_reader_of_the_table_needs(tmp_path: Path) -> None:
    table = make_version(str(tmp_path / "table"), state_of(0))
    index_table(table.uri, settings=IndexSettings(list_factor=2))
    (path,) = (Path(table.uri) / INDEX_FOLDER).glob("ivf-*.json")
    record = json.loads(path.read_text())
    assert record["num_lists"] == record["probes"] == 1  # few rows: a single list
    assert record["codes"] == "scalar"
    assert record["recall"]["num_queries"] == 200
    assert [split["num_rows"] for split in record["splits"]] == [NUM_ROWS]

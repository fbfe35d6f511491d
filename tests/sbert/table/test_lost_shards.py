"""Shards that are gone or torn are built again by a refresh and by a forced backfill, and nothing else is."""

from pathlib import Path

import pytest

from sbert.refresh.backfill_selection import Selection
from sbert.table.compaction import compact_table
from sbert.table.delta import Table
from sbert.table.vacuum import vacuum_table
from sbert.table.verify import verify_table
from tests.support.tables import objects_apart, read, update, write_objects

APART = objects_apart()


@pytest.fixture
def table(tmp_path: Path, model: str) -> Path:
    write_objects(tmp_path / "raw", 4, 5)
    update(tmp_path / "raw", tmp_path / "table", model=model, settings=APART)
    return tmp_path / "table"


def compacted(table: Path) -> Path:
    """Compact and vacuum the table; return its one shard."""
    compact_table(str(table))
    vacuum_table(str(table), retention_hours=0, apply=True)
    (shard,) = Table.open(str(table)).shards()
    return table / shard.name


def test_a_refresh_rebuilds_the_rows_of_a_lost_compacted_shard(tmp_path: Path, table: Path) -> None:
    before = read(table)
    compacted(table).unlink()
    assert update(tmp_path / "raw", table, settings=APART).report.num_texts_encoded == 20
    assert read(table).drop("embedding").equals(before.drop("embedding"))
    assert verify_table(str(table)).findings == []
    assert update(tmp_path / "raw", table, settings=APART).plan.is_empty


def test_a_forced_backfill_rebuilds_the_rows_of_a_lost_compacted_shard(tmp_path: Path, table: Path) -> None:
    before = read(table)
    compacted(table).unlink()
    update(tmp_path / "raw", table, settings=APART, selection=Selection(), force=True)
    assert read(table).drop("embedding").equals(before.drop("embedding"))
    assert verify_table(str(table)).findings == []


def test_a_refresh_takes_up_splits_whose_own_shards_are_still_there(tmp_path: Path, table: Path) -> None:
    before = read(table)
    compact_table(str(table))
    (shard,) = Table.open(str(table)).shards()
    (table / shard.name).unlink()
    assert update(tmp_path / "raw", table, settings=APART).report.num_texts_encoded == 0
    assert read(table).equals(before)


@pytest.mark.parametrize("damage", ["gone", "torn"])
def test_a_refresh_rebuilds_only_the_rows_of_one_lost_shard(tmp_path: Path, table: Path, damage: str) -> None:
    before = read(table)
    path = table / Table.open(str(table)).shards()[0].name
    if damage == "gone":
        path.unlink()
    else:
        path.write_bytes(path.read_bytes()[:100])
    done = update(tmp_path / "raw", table, settings=APART)
    assert done.report.num_rows_read == 5
    assert len(done.diff.drop) == 1
    assert read(table).drop("embedding").equals(before.drop("embedding"))
    assert verify_table(str(table)).findings == []


def test_compaction_passes_over_a_lost_shard(tmp_path: Path, table: Path) -> None:
    (table / Table.open(str(table)).shards()[0].name).unlink()
    assert compact_table(str(table)).num_shards_merged == 3
    update(tmp_path / "raw", table, settings=APART)
    assert read(table).height == 20


def test_a_lost_shard_whose_source_is_gone_leaves_the_table(tmp_path: Path, table: Path) -> None:
    compacted(table).unlink()
    for number in (1, 2, 3):
        (tmp_path / f"raw/{number}.jsonl").unlink()
    update(tmp_path / "raw", table, settings=APART.allowing_drops(True))
    assert read(table).height == 5

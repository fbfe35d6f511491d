"""Compaction moves rows, and nothing else: planning, dropping and carrying over stay right."""

from pathlib import Path

import polars as pl
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from sbert.errors import CommitConflictError
from sbert.refresh.backfill_selection import Selection
from sbert.sync.change_feed import write_changes
from sbert.table import compaction as library
from sbert.table.compaction import compact_table, group_shards
from sbert.table.delta import Table
from sbert.table.rollback import roll_back
from sbert.table.shard_layout import is_compacted, locate_splits, read_split, write_compacted
from sbert.table.shards import ShardSettings, ShardWriter, table_schema
from sbert.table.table_shard import SplitRows, TableShard
from sbert.table.verify import verify_table
from tests.sbert.table.test_shards import rows_of
from tests.support.tables import objects_apart, read, rows, texts, update, write, write_objects

APART = objects_apart().allowing_drops(True)


@pytest.fixture
def table(tmp_path: Path, model: str) -> str:
    write_objects(tmp_path / "raw", 6, 10)
    (tmp_path / "raw/6.jsonl").write_bytes(b"")  # a split without rows
    update(tmp_path / "raw", tmp_path / "table", model=model, settings=APART)
    return str(tmp_path / "table")


def test_rows_stay_and_a_refresh_afterwards_has_nothing_to_do(tmp_path: Path, table: str) -> None:
    before = read(table)
    done = compact_table(table)
    assert done.version == 1
    assert done.num_shards_before == 7
    assert done.num_shards == 1
    assert done.num_rows_moved == 60
    assert read(table).equals(before)
    assert verify_table(table).findings == []
    plan, _, version, counts = update(tmp_path / "raw", table, settings=APART)
    assert plan.is_empty
    assert version == 1
    assert counts.num_rows_read == 0
    assert compact_table(table).version == 1
    assert write_changes(table, 0, 1, None).num_upserts == 0


@pytest.mark.parametrize("times", [1, 2])
def test_one_split_of_a_compacted_shard_changes_and_one_goes(tmp_path: Path, table: str, times: int) -> None:
    compact_table(table)
    changed = [*rows(20, 9), {"id": "new", "text": "a text about butter and cake", "kind": "odd"}]
    write(tmp_path / "raw/2.jsonl", changed)
    (tmp_path / "raw/4.jsonl").unlink()
    for _ in range(times):
        plan, diff, version, counts = update(tmp_path / "raw", table, settings=APART)
        if version == 2 and diff.leaving:
            assert len(plan.build) == 1
            assert len(diff.leaving) == 2
            assert counts.num_rows_carried == 9
            assert counts.num_texts_encoded == 1
    assert sorted(read(table)["id"]) == sorted([*map(str, [*range(29), *range(30, 40), *range(50, 60)]), "new"])
    assert verify_table(table).findings == []
    shards = locate_splits(table, Table.open(table).shards())
    assert len(shards) == 2
    done = compact_table(table)
    assert done.num_shards == 1
    assert update(tmp_path / "raw", table, settings=APART)[0].is_empty
    update(tmp_path / "raw", tmp_path / "scratch", model=Table.open(table).encoder.model, settings=APART)
    assert read(table).drop("embedding").equals(read(tmp_path / "scratch").drop("embedding"))


def test_other_rows_of_a_compacted_pack_stay_after_a_backfill_or_an_unreadable_object(
    tmp_path: Path, model: str
) -> None:
    for folder in ("a", "b"):  # two packs of two objects
        for number in range(2):
            write(tmp_path / f"raw/{folder}/{number}.jsonl", rows(10 * number + 100 * (folder == "b"), 10))
    table = str(tmp_path / "table")
    update(tmp_path / "raw", table, model=model)
    assert compact_table(table).num_shards == 1
    write(tmp_path / "raw/a/0.jsonl", rows(200, 5))
    write(tmp_path / "raw/a/1.jsonl", rows(300, 5))
    update(tmp_path / "raw", table, selection=Selection(include=("a/0.*",)))
    assert sorted(map(int, read(table)["id"])) == [*range(10, 20), *range(100, 120), *range(200, 205)]
    (tmp_path / "raw/b/0.jsonl").unlink()
    (tmp_path / "raw/b/0.jsonl.gz").write_bytes(b"\x1f\x8bbroken")
    update(tmp_path / "raw", table, settings=APART.model_copy(update={"splits": objects_apart().splits}))
    assert sorted(map(int, read(table)["id"])) == [*range(110, 120), *range(200, 205), *range(300, 305)]
    assert verify_table(table).findings == []


def test_a_rollback_over_a_compaction_restores_the_rows(tmp_path: Path, table: str) -> None:
    first = read(table)
    compact_table(table)
    write(tmp_path / "raw/0.jsonl", rows(500, 3))
    update(tmp_path / "raw", table, settings=APART)
    roll_back(table)
    assert read(table).equals(first)
    roll_back(table, 0)
    assert read(table).equals(first)
    assert update(tmp_path / "raw", table, settings=APART)[3].num_texts_encoded == 0


def test_another_commit_in_between_makes_it_begin_anew(
    tmp_path: Path, table: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    real, calls = library.commit, []

    def overtaken(*args: object, **options: object) -> int:
        if not calls:
            calls.append("refresh")
            write(tmp_path / "raw/0.jsonl", rows(500, 3))
            update(tmp_path / "raw", table, settings=APART)
        return real(*args, **options)  # type: ignore[arg-type]

    monkeypatch.setattr(library, "commit", overtaken)
    assert compact_table(table).version == 2
    assert read(table).height == 53
    assert verify_table(table).findings == []
    compacted_files = {path.name for path in Path(table).glob("part-compacted*")}
    assert compacted_files == {shard.name for shard in Table.open(table).shards()}  # the one in vain is removed
    assert not list((tmp_path / "table/_leases").iterdir())
    monkeypatch.setattr(library, "commit", lambda *_, **__: (_ for _ in ()).throw(CommitConflictError("always")))
    update(tmp_path / "raw", table, settings=objects_apart(reading={"block_rows": 3}, cleaning={"mask_emails": True}))
    with pytest.raises(CommitConflictError):
        compact_table(table)


def test_search_finds_rows_of_compacted_shards(table: str) -> None:
    from sbert.index.search import search_table

    compact_table(table, ShardSettings(row_group_rows=7))
    assert search_table(Table.open(table), texts(33, 1)[0]).hits()[0].id == "33"
    assert pl.scan_delta(table).filter(pl.col("source").str.ends_with("3.jsonl")).collect().height == 10


@settings(max_examples=100, deadline=None)
@given(sizes=st.lists(st.integers(0, 30), max_size=30), shard_rows=st.integers(2, 40))
def test_groups_are_within_the_size_and_a_second_grouping_merges_no_more(sizes: list[int], shard_rows: int) -> None:
    shards = [
        TableShard(name=f"part-{at:032x}-0-0", fingerprint=f"{at:032x}", num_rows=size, num_bytes=1)
        for at, size in enumerate(sizes)
    ]
    groups = group_shards(shards, shard_rows, {})
    grouped = [shard.name for group in groups for shard in group]
    assert len(set(grouped)) == len(grouped)
    for group in groups:
        assert len(group) > 1
        assert sum(shard.num_rows for shard in group) <= shard_rows
        assert all(2 * shard.num_rows < shard_rows for shard in group)


@settings(max_examples=30, deadline=None)
@given(sizes=st.lists(st.integers(0, 20), min_size=1, max_size=8), row_group_rows=st.integers(1, 9))
def test_each_split_is_read_back_from_its_place(
    tmp_path_factory: pytest.TempPathFactory, sizes: list[int], row_group_rows: int
) -> None:
    folder = str(tmp_path_factory.mktemp("compacted"))
    shards, sources = [], []
    for at, size in enumerate(sizes):
        fingerprint = f"{at:032x}"
        with ShardWriter(folder, fingerprint, table_schema({}), ShardSettings()) as writer:
            writer.write(rows_of(100 * at, size))
            (record,) = writer.close()
        place = SplitRows(fingerprint=fingerprint, first_row=0, num_rows=size)
        shards.append(
            TableShard(
                name=record.name, fingerprint=fingerprint, num_rows=size, num_bytes=record.num_bytes, splits=(place,)
            )
        )
        sources.append((fingerprint, size))
    sizes_of_groups = ShardSettings(row_group_rows=row_group_rows)
    record = write_compacted(folder, sources, shards, table_schema({}), {}, sizes_of_groups)
    name = record.name.split("-")[1]
    assert is_compacted(name)
    bare = TableShard(name=record.name, fingerprint=name, num_rows=record.num_rows, num_bytes=record.num_bytes)
    located = locate_splits(folder, [bare])
    for at, (fingerprint, size) in enumerate(sources):
        ids = [value for part in read_split(folder, located, fingerprint, ["id"]) for value in part["id"].to_pylist()]
        assert ids == [f"{100 * at + number:05d}" for number in range(size)]

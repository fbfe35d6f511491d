"""Refreshes and backfills of tables whose packs stay: rows, reasons and counts."""

from pathlib import Path

import pytest

from sbert.erase.run import erase
from sbert.refresh.backfill_selection import Selection
from sbert.refresh.build_reasons import BuildReason
from sbert.refresh.table_packs import MAX_SMALL_PACKS
from sbert.table.compaction import compact_table
from sbert.table.delta import Table
from sbert.table.erased_keys import ErasedKeys
from sbert.table.verify import verify_table
from tests.support.refreshing import Outcome, refreshed
from tests.support.tables import read, rows, write, write_objects


@pytest.fixture
def raw(tmp_path: Path) -> Path:
    write_objects(tmp_path / "raw", 5, 10)
    return tmp_path / "raw"


def add(raw: Path, table: Path, name: str, first: int) -> Outcome:
    write(raw / f"{name}.jsonl", rows(first, 10))
    return refreshed(raw, table)


def ids(table: Path) -> list[int]:
    return sorted(map(int, read(table)["id"]))


def test_a_new_object_carries_no_row_of_another(tmp_path: Path, raw: Path, model: str) -> None:
    refreshed(raw, tmp_path / "table", model)
    outcome = add(raw, tmp_path / "table", "new", 100)
    assert outcome.plan.splits_by_reason == {BuildReason.NEW_OBJECT: 1}
    assert outcome.report.num_rows_read == outcome.report.num_rows_encoded == 10
    assert outcome.report.num_rows_carried == 0
    assert outcome.diff.leaving == frozenset()
    assert ids(tmp_path / "table") == [*range(50), *range(100, 110)]
    assert refreshed(raw, tmp_path / "table").plan.is_empty
    assert verify_table(str(tmp_path / "table")).findings == []


def test_a_table_with_the_packs_of_the_rule_reads_no_record(
    tmp_path: Path, raw: Path, model: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    refreshed(raw, tmp_path / "table", model)
    monkeypatch.setattr("sbert.table.split_records.read_record", lambda *_: 1 / 0)
    assert refreshed(raw, tmp_path / "table").plan.is_empty


def test_a_compacted_table_moves_nothing_for_a_new_object(tmp_path: Path, raw: Path, model: str) -> None:
    refreshed(raw, tmp_path / "table", model)
    add(raw, tmp_path / "table", "new", 100)
    compact_table(str(tmp_path / "table"))
    outcome = add(raw, tmp_path / "table", "newer", 200)
    assert outcome.diff.drop == outcome.diff.moved == []
    assert outcome.report.num_splits_built == 1
    assert refreshed(raw, tmp_path / "table").plan.is_empty
    assert ids(tmp_path / "table") == [*range(50), *range(100, 110), *range(200, 210)]


def test_a_backfill_builds_nothing_that_a_pack_of_the_table_has(tmp_path: Path, raw: Path, model: str) -> None:
    table = tmp_path / "table"
    refreshed(raw, table, model)
    write(raw / "5.jsonl", rows(50, 10))
    add(raw, table, "6", 60)  # a pack of two
    for include in ("5*", "[0156]*", "*"):
        outcome = refreshed(raw, table, selection=Selection(include=(include,)))
        assert outcome.version == 1
        assert outcome.report.num_rows_read == 0
    write(raw / "1.jsonl", rows(110, 10))  # another version, in the pack of five
    outcome = refreshed(raw, table, selection=Selection(include=("[15]*",)))
    assert outcome.report.num_rows_read == 10
    assert ids(table) == [*range(10), *range(20, 70), *range(110, 120)]
    assert refreshed(raw, table).plan.is_empty


def test_a_backfill_joins_no_packs(tmp_path: Path, raw: Path, model: str) -> None:
    table = tmp_path / "table"
    refreshed(raw, table, model)
    for number in range(5, 5 + MAX_SMALL_PACKS):
        write(raw / f"{number}.jsonl", rows(number * 10, 10))
        outcome = refreshed(raw, table, selection=Selection(include=("*",)))
        assert outcome.report.num_rows_read == 10
    assert len(Table.open(str(table)).shards()) == 1 + MAX_SMALL_PACKS
    assert ids(table) == list(range(50 + MAX_SMALL_PACKS * 10))


def test_a_forced_backfill_takes_its_objects_out_of_their_pack_and_the_refresh_keeps_them(
    tmp_path: Path, raw: Path, model: str
) -> None:
    table = tmp_path / "table"
    refreshed(raw, table, model)
    write(raw / "5.jsonl", rows(50, 10))
    add(raw, table, "6", 60)
    outcome = refreshed(raw, table, selection=Selection(include=("[16].jsonl",)), force=True)
    assert outcome.report.num_texts_encoded == outcome.report.num_rows_read == 20
    assert refreshed(raw, table).plan.is_empty
    assert ids(table) == list(range(70))


def test_a_pack_whose_record_or_shard_is_gone_is_built_again(tmp_path: Path, raw: Path, model: str) -> None:
    table = tmp_path / "table"
    refreshed(raw, table, model)
    (record,) = add(raw, table, "new", 100).diff.built
    (table / f"_splits/{record.fingerprint}.json").unlink()
    assert refreshed(raw, table).plan.is_empty  # the rule gives this pack, so its name tells its objects
    outcome = add(raw, table, "newer", 200)
    assert outcome.plan.splits_by_reason == {BuildReason.LOST_RECORD: 1}
    assert outcome.report.num_texts_encoded == 10
    assert outcome.report.num_rows_carried == 10
    (record,) = outcome.diff.built
    (table / record.shards[0].name).unlink()
    outcome = refreshed(raw, table)
    assert outcome.plan.splits_by_reason == {BuildReason.LOST_SHARD: 1}
    assert outcome.report.num_texts_encoded == 20
    assert ids(table) == [*range(50), *range(100, 110), *range(200, 210)]


def test_erased_rows_stay_away_from_packs_of_the_table(tmp_path: Path, raw: Path, model: str) -> None:
    table = tmp_path / "table"
    refreshed(raw, table, model)
    add(raw, table, "new", 100)
    erase(str(table), ErasedKeys(ids=["3", "105"]))
    left = [*(number for number in range(50) if number != 3), *(n for n in range(100, 110) if n != 105)]
    assert refreshed(raw, table).report.num_splits_built == 0
    assert ids(table) == left
    add(raw, table, "newer", 200)
    assert ids(table) == [*left, *range(200, 210)]


def test_an_unreadable_object_is_tried_each_night_and_the_others_are_not_built(
    tmp_path: Path, raw: Path, model: str
) -> None:
    table = tmp_path / "table"
    refreshed(raw, table, model)
    (raw / "new.jsonl.gz").write_bytes(b"\x1f\x8b broken")
    for _ in range(3):
        outcome = refreshed(raw, table)
        assert len(outcome.report.broken_objects) == 1
        assert outcome.report.num_splits_built == outcome.report.num_rows_carried == 0
        assert outcome.version == 0
    write(raw / "1.jsonl", rows(110, 10))
    outcome = refreshed(raw, table)
    assert outcome.report.num_texts_encoded == 10
    assert outcome.report.num_splits_built == 2
    outcome = refreshed(raw, table)
    assert outcome.report.num_splits_built == outcome.report.num_rows_carried == 0
    assert Table.open(str(table)).version == 1


def test_after_many_nights_the_packs_of_a_folder_are_few_and_its_rows_right(
    tmp_path: Path, raw: Path, model: str
) -> None:
    table = tmp_path / "table"
    refreshed(raw, table, model)
    for night in range(MAX_SMALL_PACKS):
        outcome = add(raw, table, f"new{night}", 100 + night * 10)
    assert outcome.report.num_rows_encoded == 10
    assert outcome.report.num_rows_carried == 40 + MAX_SMALL_PACKS * 10
    assert len(Table.open(str(table)).shards()) == 1
    assert ids(table) == [*range(50), *range(100, 100 + MAX_SMALL_PACKS * 10)]
    assert refreshed(raw, table).plan.is_empty

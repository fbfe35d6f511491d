"""The plan says why each split is built."""

from pathlib import Path
from typing import Any

import pytest

from sbert.refresh.backfill_selection import Selection
from sbert.refresh.build_reasons import BuildReason
from sbert.refresh.job import RefreshJob, RefreshSettings
from sbert.refresh.plan import Plan, make_plan
from sbert.table.compaction import compact_table
from sbert.table.delta import Table
from tests.support.refreshing import refreshed
from tests.support.tables import objects_apart, rows, write, write_objects
from tests.support.tiny_models import save_tiny

APART = objects_apart()


@pytest.fixture
def raw(tmp_path: Path) -> Path:
    write_objects(tmp_path / "raw", 3, 10)
    return tmp_path / "raw"


def plan(raw: Path, table: Path, settings: RefreshSettings = APART, **job: Any) -> Plan:
    return make_plan(RefreshJob(raw_uri=str(raw), table_uri=str(table), settings=settings, **job))


def reasons(made: Plan) -> dict[str, BuildReason]:
    """Return the reason for each split, by its name."""
    return {planned.split.name: made.reasons[planned.fingerprint] for planned in made.build}


def test_every_split_of_a_new_table_is_new(tmp_path: Path, raw: Path, model: str) -> None:
    made = plan(raw, tmp_path / "table", model=model)
    assert made.splits_by_reason == {BuildReason.NEW_OBJECT: 3}


def test_new_and_changed_objects_are_told_apart_and_the_rest_is_kept(tmp_path: Path, raw: Path, model: str) -> None:
    refreshed(raw, tmp_path / "table", model, APART)
    write(raw / "1.jsonl", rows(50, 10))
    write(raw / "9.jsonl", rows(90, 10))
    made = plan(raw, tmp_path / "table")
    assert reasons(made) == {"1.jsonl": BuildReason.CHANGED_OBJECT, "9.jsonl": BuildReason.NEW_OBJECT}
    assert len(made.keep) == 2


def test_another_encoder_other_columns_and_other_settings_are_told_apart(tmp_path: Path, raw: Path, model: str) -> None:
    refreshed(raw, tmp_path / "table", model, APART)
    table = tmp_path / "table"
    for number in range(3):
        write(raw / f"{number}.jsonl", rows(number * 10, 10))  # the same text with another modification time
    columns = plan(raw, table, APART.with_source(keep_columns=["kind"]))
    assert columns.splits_by_reason == {BuildReason.COLUMNS: 3}
    cleaning = plan(raw, table, objects_apart(cleaning={"min_chars": 3}))
    assert cleaning.splits_by_reason == {BuildReason.SETTINGS: 3}
    other = plan(raw, table, model=save_tiny(tmp_path / "other", seed=1))
    assert other.splits_by_reason == {BuildReason.ENCODER: 3}


def test_force_is_the_reason_whatever_else_changed(tmp_path: Path, raw: Path, model: str) -> None:
    refreshed(raw, tmp_path / "table", model, APART)
    write(raw / "1.jsonl", rows(50, 10))
    made = plan(raw, tmp_path / "table", selection=Selection(include=("[12].jsonl",)), force=True)
    assert made.splits_by_reason == {BuildReason.FORCED: 2}


def test_a_pack_that_lost_an_object_is_regrouped(tmp_path: Path, raw: Path, model: str) -> None:
    refreshed(raw, tmp_path / "table", model)
    (raw / "1.jsonl").unlink()
    made = plan(raw, tmp_path / "table", RefreshSettings().allowing_drops(True))
    assert made.splits_by_reason == {BuildReason.REGROUPED: 1}


def test_without_the_record_of_earlier_rows_the_reason_is_not_guessed(tmp_path: Path, raw: Path, model: str) -> None:
    refreshed(raw, tmp_path / "table", model, APART)
    for record in (tmp_path / "table/_splits").iterdir():
        record.unlink()
    write(raw / "1.jsonl", rows(50, 10))
    assert reasons(plan(raw, tmp_path / "table")) == {"1.jsonl": BuildReason.LOST_RECORD}


@pytest.mark.parametrize("is_compacted", [False, True])
def test_a_split_whose_shard_is_gone_says_so(tmp_path: Path, raw: Path, model: str, is_compacted: bool) -> None:
    table = str(tmp_path / "table")
    refreshed(raw, table, model, APART)
    if is_compacted:
        earlier = [shard.name for shard in Table.open(table).shards()]
        compact_table(table)
        for name in earlier:
            Path(table, name).unlink()
    Path(table, Table.open(table).shards()[0].name).unlink()
    made = plan(raw, tmp_path / "table")
    assert made.splits_by_reason == {BuildReason.LOST_SHARD: 3 if is_compacted else 1}

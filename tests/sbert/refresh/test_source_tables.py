"""A table of Delta Lake as the source of a refresh: its changes cost what they change, and nothing is lost on the way."""

from collections.abc import Callable
from pathlib import Path

import polars as pl
import pytest
from deltalake import DeltaTable

from sbert.errors import MassDeletionError
from sbert.refresh.estimate import estimate_plan
from sbert.refresh.plan import Plan
from sbert.table.delta import Table
from sbert.table.verify import verify_table
from tests.support.refreshing import refreshed
from tests.support.source_tables import mark_deleted, write_table
from tests.support.tables import read, rows, texts, write


def ids(table: Path) -> list[str]:
    return sorted(read(table)["id"])


def source_table(path: Path, first: int, count: int, **options: object) -> Path:
    numbers = range(first, first + count)
    columns = {
        "id": [str(number) for number in numbers],
        "text": texts(first, count),
        "n": [number % 3 for number in numbers],
    }
    return write_table(path, columns, **options)


def test_an_unchanged_table_is_a_no_op_and_a_change_costs_what_it_changes(tmp_path: Path, model: str) -> None:
    raw, table = source_table(tmp_path / "raw", 0, 30, partition_by=["n"]), tmp_path / "table"
    assert refreshed(raw, table, model, {"source": {"keep_columns": ["n"]}}).report.num_rows_encoded == 30
    assert read(table).filter(pl.col("id") == "4")["n"].to_list() == [1]
    again = refreshed(raw, table)
    assert again.plan.is_empty
    assert again.version == 0
    DeltaTable(str(raw)).update({"text": "'another text'"}, predicate="id = '4'")
    changed = refreshed(raw, table).report
    assert changed.num_texts_encoded == 1
    assert changed.num_rows_read == 10
    assert changed.num_rows == 30
    assert verify_table(str(table)).findings == []


def test_compaction_of_the_source_encodes_nothing_and_loses_nothing(tmp_path: Path, model: str) -> None:
    raw, table = tmp_path / "raw", tmp_path / "table"
    for first in range(0, 30, 10):
        source_table(raw, first, 10, mode="append")
    refreshed(raw, table, model)
    DeltaTable(str(raw)).optimize.compact()
    compacted = refreshed(raw, table).report
    assert compacted.num_objects == 1
    assert compacted.num_rows_encoded == 0
    assert compacted.num_rows == 30
    assert compacted.num_rows_lost == 0


def test_deleting_rows_of_the_source_counts_against_the_deletion_limit(tmp_path: Path, model: str) -> None:
    raw, table = source_table(tmp_path / "raw", 0, 30), tmp_path / "table"
    refreshed(raw, table, model)
    DeltaTable(str(raw)).delete("n = 1")
    with pytest.raises(MassDeletionError, match=r"10 of 30 rows \(33.3%\)"):
        refreshed(raw, table)
    assert refreshed(raw, table, settings={"deletion_limit": {"max_drop_share": 0.4}}).report.num_rows == 20


def test_rows_that_a_deletion_vector_takes_leave_the_table(tmp_path: Path, model: str) -> None:
    raw, table = source_table(tmp_path / "raw", 0, 30), tmp_path / "table"
    refreshed(raw, table, model)
    mark_deleted(raw, [0, 29])
    report = refreshed(raw, table).report
    assert report.num_rows_encoded == 0
    assert report.num_rows_read == 28
    assert ids(table) == sorted(str(number) for number in range(1, 29))


def test_a_missing_file_is_named_and_all_else_is_read(tmp_path: Path, model: str) -> None:
    raw, table = tmp_path / "raw", tmp_path / "table"
    source_table(raw / "t", 0, 10)
    source_table(raw / "t", 10, 10, mode="append")
    write(raw / "loose.jsonl", rows(20, 10))
    missing = next(raw.glob("t/*.parquet"))
    content = missing.read_bytes()
    missing.unlink()
    report = refreshed(raw, table, model).report
    assert list(report.broken_objects) == [str(missing)]
    assert "is in version 1 of the table" in report.broken_objects[str(missing)]
    assert report.num_rows == 20
    missing.write_bytes(content)
    assert refreshed(raw, table).report.num_rows == 30


def during_build(monkeypatch: pytest.MonkeyPatch, happens: Callable[[], object]) -> None:
    """Let something happen once between planning and building."""
    import tests.support.refreshing as refreshing

    real = refreshing.RememberingSteps.plan
    left = [happens]

    def plan(self: refreshing.RememberingSteps, *args: object) -> Plan:
        planned = real(self, *args)  # type: ignore[arg-type]
        if left:
            left.pop()()
        return planned

    monkeypatch.setattr(refreshing.RememberingSteps, "plan", plan)


def test_a_table_vacuumed_during_the_run_keeps_its_earlier_rows(
    tmp_path: Path, model: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    raw, table = tmp_path / "raw", tmp_path / "table"
    for first in (0, 10, 20):
        source_table(raw, first, 10, mode="append")
    refreshed(raw, table, model)
    DeltaTable(str(raw)).update({"text": "'another text'"}, predicate="id = '4' or id = '14'")

    def compact_and_vacuum() -> None:
        DeltaTable(str(raw)).optimize.compact()
        DeltaTable(str(raw)).vacuum(0, dry_run=False, enforce_retention_duration=False)

    during_build(monkeypatch, compact_and_vacuum)
    report = refreshed(raw, table).report
    assert len(report.broken_objects) == 2
    assert ids(table) == sorted(map(str, range(30)))  # each once
    healed = refreshed(raw, table).report
    assert healed.num_texts_encoded == 1
    assert healed.num_rows == 30
    assert healed.broken_objects == {}
    assert ids(table) == sorted(map(str, range(30)))


def test_a_log_that_moves_during_the_run_is_read_as_planned(
    tmp_path: Path, model: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    raw, table = source_table(tmp_path / "raw", 0, 10), tmp_path / "table"
    during_build(monkeypatch, lambda: source_table(raw, 10, 10, mode="append"))
    assert refreshed(raw, table, model).report.num_rows == 10
    assert refreshed(raw, table).report.num_rows == 20


def test_a_table_of_this_pipeline_is_a_source(tmp_path: Path, model: str, other_model: str) -> None:
    raw, first, second = tmp_path / "raw", tmp_path / "first", tmp_path / "second"
    write(raw / "a.jsonl", [{**row, "body": row["text"]} for row in rows(0, 20)])
    settings = {"source": {"keep_columns": ["body", "kind"]}}
    refreshed(raw, first, model, settings)
    columns = {"source": {"text_column": "body", "keep_columns": ["kind"]}}
    assert refreshed(first, second, other_model, columns).report.num_rows_encoded == 20
    copied = read(second)
    assert copied.sort("id")["id"].to_list() == sorted(str(number) for number in range(20))
    assert set(copied["kind"]) == {"even", "odd"}
    write(raw / "b.jsonl", [{**row, "body": row["text"]} for row in rows(20, 2)])
    refreshed(raw, first)
    assert refreshed(first, second).report.num_texts_encoded == 2
    assert Table.open(str(second)).num_rows == 22


def test_a_backfill_chooses_files_of_a_table(tmp_path: Path, model: str) -> None:
    raw, table = source_table(tmp_path / "raw", 0, 30, partition_by=["n"]), tmp_path / "table"
    report = refreshed(raw, table, model, selection={"include": ["n=1/*"]}).report
    assert report.num_rows == 10
    assert set(read(table)["id"].cast(pl.Int32) % 3) == {1}
    assert refreshed(raw, table, selection={"include": ["n=*"], "limit": 5, "exclude": ["n=1/*"]}).report.num_rows == 15
    assert refreshed(raw, table).report.num_rows == 30


def test_the_log_tells_the_rows_of_an_estimate(tmp_path: Path, model: str) -> None:
    raw = source_table(tmp_path / "raw", 0, 30, partition_by=["n"])
    plan = refreshed(raw, tmp_path / "table", model).plan
    assert estimate_plan(plan, 0.1).num_rows == 30
    write(raw.parent / "other/a.jsonl", rows(0, 3))
    assert estimate_plan(refreshed(raw.parent / "other", tmp_path / "t2", model).plan, 0.1).num_rows is None

"""Checks before the commit, and the commit itself."""

from pathlib import Path
from typing import Any

import numpy as np
import pytest

from sbert.errors import CommitConflictError, MassDeletionError, QualityError, TruncationError
from sbert.refresh.publish import duplicate_ids_across_splits, publish
from sbert.refresh.table_diff import TableDiff
from sbert.rows.counts import RowCounts
from sbert.table.delta import Table
from sbert.vectors.checks import MIN_OWN_TEXTS
from tests.support.refreshing import Outcome, RememberingSteps, refreshed
from tests.support.tables import objects_apart, read, rows, write, write_objects
from tests.support.tiny_models import WORDS


@pytest.fixture
def raw(tmp_path: Path) -> Path:
    write_objects(tmp_path / "raw", 3, 10)
    return tmp_path / "raw"


def built(raw: Path, table: Path, monkeypatch: pytest.MonkeyPatch, **job: Any) -> Outcome:
    """Refresh up to the commit, and leave out the commit."""

    def remember(self: RememberingSteps, plan: Any, diff: TableDiff, *_: Any) -> int:
        raise Interrupted(Outcome(plan, diff, None))  # type: ignore[arg-type]

    with monkeypatch.context() as patch:
        patch.setattr(RememberingSteps, "publish", remember, raising=False)
        with pytest.raises(Interrupted) as stopped:
            refreshed(raw, table, **job)
    return stopped.value.outcome


class Interrupted(Exception):
    """Carries what was built to the test."""

    def __init__(self, outcome: Outcome) -> None:
        super().__init__()
        self.outcome = outcome


def test_one_commit_carries_the_counts_of_the_run(
    tmp_path: Path, raw: Path, model: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    ready = built(raw, tmp_path / "table", monkeypatch, model=model)
    assert not (tmp_path / "table/_delta_log").exists()
    counts = RowCounts(num_rows_read=30, num_rows_encoded=30)
    assert publish(ready.plan, ready.diff, counts, {"run_id": "night", "stages": {"build": 1.5}}) == 0
    recorded = Table.open(str(tmp_path / "table")).last_commit()
    assert recorded["run_id"] == "night"
    assert recorded["num_rows_encoded"] == 30
    assert recorded["stages"]["build"] == 1.5
    assert set(recorded["stages"]) == {"build", "publish"}


def test_a_commit_against_a_version_that_is_no_longer_the_newest_is_a_conflict(
    tmp_path: Path, raw: Path, model: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    table = tmp_path / "table"
    refreshed(raw, table, model, objects_apart())
    write(raw / "0.jsonl", rows(50, 10))
    ready = built(raw, table, monkeypatch, settings=objects_apart())
    refreshed(raw, table, settings=objects_apart())
    with pytest.raises(CommitConflictError):
        publish(ready.plan, ready.diff, RowCounts(), {})
    assert Table.open(str(table)).version == 1


def test_without_a_difference_nothing_is_committed(
    tmp_path: Path, raw: Path, model: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    table = tmp_path / "table"
    refreshed(raw, table, model)
    ready = built(raw, table, monkeypatch)
    assert publish(ready.plan, ready.diff, RowCounts(), {"run_id": "night"}) == 0
    assert Table.open(str(table)).version == 0


def test_policy_fail_refuses_too_many_truncated_rows(tmp_path: Path, model: str) -> None:
    write(tmp_path / "raw/a.jsonl", [{"id": "long", "text": " ".join(WORDS * 3)}, {"id": "short", "text": "red"}])
    strict = objects_apart(encoding={"truncation": "fail", "max_truncated_share": 0.4})
    with pytest.raises(TruncationError, match=r"1 of 2 rows \(50.00%\) have more than 64 tokens.*40.00%"):
        refreshed(tmp_path / "raw", tmp_path / "table", model, strict)
    lenient = objects_apart(encoding={"truncation": "fail", "max_truncated_share": 0.5})
    assert refreshed(tmp_path / "raw", tmp_path / "table", model, lenient).version == 0


def test_vectors_that_are_all_alike_are_refused(tmp_path: Path, model: str, monkeypatch: pytest.MonkeyPatch) -> None:
    write(tmp_path / "raw/a.jsonl", rows(0, 40))
    alike = np.zeros((MIN_OWN_TEXTS, 32), dtype=np.float32)
    alike[:, 0] = 1
    monkeypatch.setattr("sbert.refresh.publish._sample_vectors", lambda *_: alike)
    with pytest.raises(QualityError):
        refreshed(tmp_path / "raw", tmp_path / "table", model)
    assert not (tmp_path / "table/_delta_log").exists()


def test_rows_that_vanish_inside_objects_count_as_a_loss(tmp_path: Path, raw: Path, model: str) -> None:
    table = tmp_path / "table"
    refreshed(raw, table, model, objects_apart())
    for number in range(3):
        write(raw / f"{number}.jsonl", rows(number * 10, 5))
    with pytest.raises(MassDeletionError, match=r"0 of 3 source objects.*15 of 30 rows"):
        refreshed(raw, table, settings=objects_apart())
    assert len(read(table)) == 30


def test_of_an_id_in_several_slices_the_latest_slice_keeps_it(
    tmp_path: Path, model: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    lines = rows(0, 60)
    lines[1]["id"] = lines[30]["id"] = lines[58]["id"] = "same"
    write(tmp_path / "raw/a.jsonl", lines)
    sliced = objects_apart(splits={"pack_below_bytes": 0, "split_bytes": 1000})
    with monkeypatch.context() as patch:
        patch.setattr("sbert.refresh.run.duplicate_ids_across_splits", lambda *_: {})
        ready = built(tmp_path / "raw", tmp_path / "table", monkeypatch, model=model, settings=sliced)
    excluded = duplicate_ids_across_splits(ready.plan, ready.diff)
    by_start = sorted(ready.diff.built, key=lambda record: record.spans[0].start or 0)
    assert excluded[by_start[0].fingerprint] == frozenset({"same"})
    assert by_start[-1].fingerprint not in excluded
    assert len(excluded) == 2

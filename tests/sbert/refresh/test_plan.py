"""What a plan takes up of interrupted runs."""

from pathlib import Path

import pytest

from sbert.refresh.job import RefreshJob
from sbert.refresh.plan import make_plan
from tests.support.refreshing import refresh_table
from tests.support.tables import killed_after, objects_apart, read, texts, write


def test_a_finished_split_of_a_first_run_follows_the_types_of_the_next(
    tmp_path: Path, model: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    raw, table = tmp_path / "raw", str(tmp_path / "table")
    kept = objects_apart(source={"keep_columns": ["size"]})
    write(raw / "1.jsonl", [{"id": "1", "text": texts(1, 1)[0], "size": 1}])
    write(raw / "2.jsonl", [{"id": "2", "text": texts(2, 1)[0], "size": 2}])
    with killed_after(monkeypatch, 1), pytest.raises(KeyboardInterrupt):
        refresh_table(raw, table, model=model, settings=kept)
    job = RefreshJob(raw_uri=str(raw), table_uri=table, model=model, settings=kept)
    plan = make_plan(job)
    assert (len(plan.resume), len(plan.retype), len(plan.build)) == (1, 0, 1)
    write(raw / "0.jsonl", [{"id": "0", "text": texts(0, 1)[0], "size": 0.5}])
    plan = make_plan(job)
    assert (len(plan.resume), len(plan.retype), len(plan.build)) == (0, 1, 3)
    report = refresh_table(raw, table, model=model, settings=kept).report
    assert report.num_texts_encoded == 2  # the finished split's vector is known
    assert read(table).select("id", "size").rows() == [("0", 0.5), ("1", 1.0), ("2", 2.0)]

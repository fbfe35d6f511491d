"""Runs that were planned before an erasure lose the race, plan again, and publish none of the rows."""

import json
from pathlib import Path
from typing import Any

import pytest

from sbert.erase.run import erase
from sbert.refresh import run as refreshing
from sbert.table import compaction
from sbert.table.compaction import compact_table
from sbert.table.delta import Table
from sbert.table.erased_keys import ErasedKeys
from tests.support.file_search import files_that_hold
from tests.support.made_tables import make_version
from tests.support.services import S3Server
from tests.support.tables import killed_after, objects_apart, read, update, write


def people(first: int, count: int) -> list[dict[str, object]]:
    return [{"id": f"person-{at}", "text": f"private words of number {at}"} for at in range(first, first + count)]


def test_a_refresh_that_built_the_row_before_does_not_publish_it(
    tmp_path: Path, model: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    raw, table = tmp_path / "raw", str(tmp_path / "table")
    write(raw / "0.jsonl", people(0, 3))
    update(raw, table, model=model, settings=objects_apart())
    write(raw / "1.jsonl", people(10, 3))
    real, receipts = refreshing._Run._publish, []

    def publish(self: Any, *args: Any) -> Any:
        if not receipts:  # the new object is built and not published: the shards do not hold the row yet for readers
            receipts.append(erase(table, ErasedKeys(ids=["person-11"])))
        return real(self, *args)

    monkeypatch.setattr(refreshing._Run, "_publish", publish)
    done = update(raw, table, settings=objects_apart())
    assert [place.place for place in receipts[0].left] == ["run at work"]
    assert set(read(table)["id"]) == {"person-0", "person-1", "person-2", "person-10", "person-12"}
    assert done.report.rejects_by_reason == {"erased": 1}
    assert erase(table, ErasedKeys(ids=["person-11"])).is_complete
    assert files_that_hold(table, b"person-11") == []


def test_a_split_that_a_killed_run_finished_is_built_again_without_the_row(
    tmp_path: Path, model: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    raw, table = tmp_path / "raw", str(tmp_path / "table")
    write(raw / "0.jsonl", people(0, 3))
    update(raw, table, model=model, settings=objects_apart())
    for number in (1, 2, 3):
        write(raw / f"{number}.jsonl", people(10 * number, 3))
    with killed_after(monkeypatch, 2), pytest.raises(KeyboardInterrupt):
        update(raw, table, settings=objects_apart())
    receipt = erase(table, ErasedKeys(ids=["person-11"]))
    (shards,) = [place for place in receipt.places if place.place == "shards"]
    assert "1 unpublished split removed" in shards.action
    assert files_that_hold(table, b"person-11") == []
    done = update(raw, table, settings=objects_apart())
    assert len(done.plan.resume) == 1  # the other split of the killed run
    assert done.report.rejects_by_reason == {"erased": 1}
    assert "person-11" not in set(read(table)["id"])


def test_a_compaction_whose_shards_go_under_it_plans_again(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    table = str(tmp_path / "table")
    make_version(table, {f"s3://raw/{name}.jsonl": {f"{name}-{at}": at for at in range(9)} for name in "abc"})
    real, receipts = compaction._merge, []

    def merge(*args: Any) -> Any:
        if not receipts:
            receipts.append(erase(table, ErasedKeys(ids=["b-3"])))
        return real(*args)

    monkeypatch.setattr(compaction, "_merge", merge)
    assert compact_table(table).num_shards == 1
    assert Table.open(table).num_rows == 26
    assert erase(table, ErasedKeys(ids=["b-3"])).is_complete


@pytest.mark.s3
def test_an_erasure_on_s3_is_complete_unless_the_bucket_keeps_versions(
    s3: S3Server, s3_bucket: str, model: str
) -> None:
    raw, table = f"{s3_bucket}/raw", f"{s3_bucket}/table"
    s3.filesystem().pipe_file(f"{raw}/0.jsonl", "".join(json.dumps(row) + "\n" for row in people(0, 4)).encode())
    update(raw, table, model=model)
    receipt = erase(table, ErasedKeys(ids=["person-2"]))
    assert receipt.is_complete, receipt.left
    assert files_that_hold(table, b"person-2") == []
    assert update(raw, table).plan.is_empty
    bucket = s3_bucket.removeprefix("s3://")
    s3.filesystem().call_s3("put_bucket_versioning", Bucket=bucket, VersioningConfiguration={"Status": "Enabled"})
    receipt = erase(table, ErasedKeys(ids=["person-3"]))
    assert [place.place for place in receipt.left] == ["object versions"]

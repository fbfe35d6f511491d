"""Only what nothing needs is removed."""

import json
import os
import time
from pathlib import Path

import pytest
from typer.testing import CliRunner

from flows.cli.commands import app
from sbert.table import vacuum as library
from sbert.table.compaction import compact_table
from sbert.table.delta import Table
from sbert.table.lease import hold_lease
from sbert.table.rollback import roll_back
from sbert.table.vacuum import vacuum_table
from sbert.table.verify import verify_table
from tests.support.services import S3Server
from tests.support.tables import objects_apart, read, rows, update, write

APART = objects_apart().allowing_drops(True)
DAY = 24 * 3600


@pytest.fixture
def table(tmp_path: Path, model: str) -> str:
    """Three versions of one object beside one that never changes; each object has a rejected row."""
    for number in range(3):
        write(tmp_path / "raw/0.jsonl", [*rows(10 * number, 5), {"id": "bad", "text": None}])
        write(tmp_path / "raw/1.jsonl", [*rows(100, 5), {"id": "bad", "text": None}]) if number == 0 else None
        update(tmp_path / "raw", tmp_path / "table", model=model, settings=APART)
    return str(tmp_path / "table")


def age(table: str, days: float, pattern: str = "*") -> None:
    """Let files look older by some days."""
    for path in Path(table).rglob(pattern):
        if path.is_file():
            seen = path.stat().st_mtime - days * DAY
            os.utime(path, (seen, seen))


def files(table: str) -> set[str]:
    return {str(path.relative_to(table)) for path in Path(table).rglob("*") if path.is_file()}


def test_vacuum_removes_files_that_no_version_within_the_retention_needs(tmp_path: Path, table: str) -> None:
    age(table, 8)
    newest = read(table)
    before = files(table)
    dry = vacuum_table(table, retention_hours=168)
    assert dry.num_shards == 2
    assert len(dry.files) == 6
    assert not dry.applied  # two shards, records and rejected each
    assert files(table) == before
    done = vacuum_table(table, retention_hours=168, apply=True)
    assert before - files(table) == set(done.files) == set(dry.files)
    assert read(table).equals(newest)
    assert verify_table(table).findings == []
    assert update(tmp_path / "raw", table, settings=APART)[0].is_empty
    assert vacuum_table(table, retention_hours=168).files == []


def test_versions_within_the_retention_stay_readable(table: str) -> None:
    age(table, 8, "*0.json")  # the first version and the shards are old,
    age(table, 8, "*.parquet")
    age(table, 8, "_splits/*.json")
    age(table, 3, "*1.json")  # the second was replaced by the third just now
    done = vacuum_table(table, retention_hours=24, apply=True)
    assert done.num_shards == 1
    assert read(table, 1).height == 10
    roll_back(table)
    assert verify_table(table).findings == []


def test_young_files_stay_whatever_they_are(table: str) -> None:
    (Path(table) / f"part-{'0' * 32}-{'a' * 8}-0000.parquet").write_bytes(b"orphan")
    assert vacuum_table(table, retention_hours=1).files == []
    assert len(vacuum_table(table, retention_hours=0).files) == 7


def test_vacuum_removes_files_of_killed_runs_and_leaves_foreign_files(table: str) -> None:
    orphans = {
        f"part-{'0' * 32}-{'a' * 8}-0000.parquet", f".part-{'0' * 32}-{'a' * 8}-0001.parquet.{'b' * 32}.tmp",
        f"_splits/{'0' * 32}.json", f"_rejected/{'0' * 32}.parquet", "_leases/dead.json",
    }  # fmt: skip
    strangers = {"part-of-my-thesis.parquet", "notes.txt", "_other/file", ".hidden"}
    for name in orphans | strangers:
        (Path(table) / name).parent.mkdir(exist_ok=True)
        (Path(table) / name).write_bytes(b"x")
    for name in orphans | strangers:
        os.utime(Path(table) / name, (time.time() - 9 * DAY,) * 2)
    assert set(vacuum_table(table, retention_hours=168, apply=True).files) == orphans
    assert strangers <= files(table)


def test_a_running_build_keeps_what_it_might_take_up(
    tmp_path: Path, model: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    write(tmp_path / "raw/0.jsonl", rows(0, 5))
    table = str(tmp_path / "table")
    update(tmp_path / "raw", table, model=model, settings=APART)
    write(tmp_path / "raw/1.jsonl", rows(5, 5))
    with monkeypatch.context() as patch:  # killed before its commit: a finished split that no version has
        patch.setattr("sbert.refresh.steps.publish", lambda *_: 1 / 0)
        with pytest.raises(ZeroDivisionError):
            update(tmp_path / "raw", table, settings=APART)
    (Path(table) / f"part-{'0' * 32}-{'a' * 8}-0000.parquet").write_bytes(b"no record, no use")
    age(table, 9)
    with hold_lease(table, "run", "refresh"):
        done = vacuum_table(table, retention_hours=168, apply=True)
        assert done.num_shards == 1
        assert done.num_kept_for_runs == 2
        assert len(done.leases) == 1
        plan, _, _, counts = update(tmp_path / "raw", table, settings=APART)
        assert len(plan.resume) == 1
        assert counts.num_texts_encoded == 0
    assert verify_table(table).findings == []


def test_a_run_that_begins_while_records_are_removed_keeps_the_shards(
    table: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    age(table, 9)
    real = library.delete
    leases = []

    def delete_and_begin(uris: object) -> None:
        real(uris)  # type: ignore[arg-type]
        if not leases:
            leases.append(hold_lease(table, "run", "refresh"))
            leases[0].__enter__()

    monkeypatch.setattr(library, "delete", delete_and_begin)
    done = vacuum_table(table, retention_hours=168, apply=True)
    leases[0].__exit__(None, None, None)
    assert done.num_shards == 0
    assert len(done.files) == 4
    assert len(list(Path(table).glob("part-*"))) == 4


def test_a_rollback_while_records_are_removed_keeps_its_shards(table: str, monkeypatch: pytest.MonkeyPatch) -> None:
    age(table, 9)
    real = library.delete

    def delete_and_roll_back(uris: object) -> None:
        real(uris)  # type: ignore[arg-type]
        if Table.open(table).version == 2:
            roll_back(table, 0)

    monkeypatch.setattr(library, "delete", delete_and_roll_back)
    assert vacuum_table(table, retention_hours=168, apply=True).num_shards == 0
    assert verify_table(table).findings == []


def test_records_of_compacted_splits_stay(tmp_path: Path, table: str) -> None:
    compact_table(table)
    age(table, 9)
    done = vacuum_table(table, retention_hours=168, apply=True)
    assert done.num_shards == 4
    assert len(list((Path(table) / "_splits").iterdir())) == len(list((Path(table) / "_rejected").iterdir())) == 2
    assert update(tmp_path / "raw", table, settings=APART)[0].is_empty


@pytest.mark.s3
def test_the_commands_vacuum_and_compact_a_table_on_s3(
    tmp_path: Path, model: str, s3: S3Server, s3_bucket: str
) -> None:
    table = f"{s3_bucket}/table"
    for number in range(2):
        s3.filesystem().put_file(str(write(tmp_path / "0.jsonl", rows(10 * number, 5))), f"{s3_bucket}/raw/0.jsonl")
        update(f"{s3_bucket}/raw", table, model=model)
    assert json.loads(CliRunner().invoke(app, ["vacuum", table, "--json"]).stdout)["files"] == []
    retired = {shard.name for shard in Table.open(table, 0).shards()}
    time.sleep(1.1)  # the store's clock has whole seconds
    done = CliRunner().invoke(app, ["vacuum", table, "--retention-hours", "0", "--apply", "--json"])
    assert retired < set(json.loads(done.stdout)["files"])
    assert read(table).height == 5
    assert verify_table(table).findings == []
    again = json.loads(CliRunner().invoke(app, ["compact", table, "--json"]).stdout)
    assert again["version"] == 1
    assert again["num_shards"] == 1

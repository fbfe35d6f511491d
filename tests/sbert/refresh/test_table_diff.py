"""The diff of a table: rows of unreadable and of unchosen objects stay, copied where they must be."""

import gzip
import json
import os
from pathlib import Path

import pytest

from sbert.errors import TableError
from sbert.refresh.backfill_selection import Selection
from sbert.refresh.job import RefreshSettings
from sbert.table.compaction import compact_table
from sbert.table.delta import Table
from tests.support.refreshing import refreshed
from tests.support.tables import Rows, objects_apart, read, rows
from tests.support.tiny_models import save_tiny


def write_gz(path: Path, lines: Rows) -> None:
    """Write rows as compressed JSON Lines."""
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_bytes(gzip.compress("".join(json.dumps(line) + "\n" for line in lines).encode()))


def break_object(path: Path) -> None:
    """Cut an object off, so that it has another version and cannot be read to its end."""
    path.write_bytes(path.read_bytes()[:40])


@pytest.fixture
def raw(tmp_path: Path) -> Path:
    for number in range(3):
        write_gz(tmp_path / f"raw/{number}.jsonl.gz", rows(number * 10, 10))
    return tmp_path / "raw"


def ids(table: Path) -> set[int]:
    return set(map(int, read(table)["id"]))


def test_a_new_table_takes_what_was_built_and_drops_nothing(tmp_path: Path, raw: Path, model: str) -> None:
    diff = refreshed(raw, tmp_path / "table", model, objects_apart()).diff
    assert sorted(record.name for record in diff.built) == ["0.jsonl.gz", "1.jsonl.gz", "2.jsonl.gz"]
    assert diff.num_rows_added == 30
    assert diff.drop == []
    assert diff.leaving == frozenset()
    assert diff.copied == []
    assert diff.resumed == []


def test_an_up_to_date_table_has_no_difference(tmp_path: Path, raw: Path, model: str) -> None:
    refreshed(raw, tmp_path / "table", model)
    assert refreshed(raw, tmp_path / "table").diff.is_empty


def test_a_changed_object_replaces_its_split_and_no_other(tmp_path: Path, raw: Path, model: str) -> None:
    refreshed(raw, tmp_path / "table", model, objects_apart())
    write_gz(raw / "1.jsonl.gz", rows(50, 5))
    diff = refreshed(raw, tmp_path / "table", settings=objects_apart()).diff
    assert [record.name for record in diff.built] == ["1.jsonl.gz"]
    assert len(diff.leaving) == len(diff.drop) == 1
    assert ids(tmp_path / "table") == {*range(10), *range(20, 30), *range(50, 55)}


def test_the_split_of_an_unreadable_object_stays_as_it_is(tmp_path: Path, raw: Path, model: str) -> None:
    refreshed(raw, tmp_path / "table", model, objects_apart())
    break_object(raw / "1.jsonl.gz")
    diff = refreshed(raw, tmp_path / "table", settings=objects_apart()).diff
    assert list(diff.broken) == [str(raw / "1.jsonl.gz")]
    assert diff.num_splits_stayed == 1
    assert diff.is_empty
    assert ids(tmp_path / "table") == set(range(30))


def test_rows_of_an_unreadable_object_are_copied_out_of_their_pack(tmp_path: Path, raw: Path, model: str) -> None:
    refreshed(raw, tmp_path / "table", model)
    break_object(raw / "1.jsonl.gz")
    write_gz(raw / "2.jsonl.gz", rows(60, 5))
    outcome = refreshed(raw, tmp_path / "table")
    assert [record.name for record in outcome.diff.copied] == ["earlier rows (1 object)"]
    assert sorted(record.name for record in outcome.diff.built) == ["0.jsonl.gz", "raw/ pack 1 (1 of 2 objects)"]
    assert outcome.report.num_splits_built == 2
    assert outcome.report.num_splits_copied == 1
    assert outcome.report.num_texts_encoded == 5
    assert ids(tmp_path / "table") == {*range(20), *range(60, 65)}


def test_copied_rows_that_other_settings_made_are_built_again_once_their_object_is_readable(
    tmp_path: Path, raw: Path, model: str
) -> None:
    path = raw / "1.jsonl.gz"
    write_gz(path, [{"id": "1", "text": "mail me at a@example.org"}])
    whole, times = path.read_bytes(), path.stat()
    refreshed(raw, tmp_path / "table", model)

    def put(content: bytes) -> None:
        path.write_bytes(content)
        os.utime(path, ns=(times.st_atime_ns, times.st_mtime_ns))  # the same version

    put(whole[:-20] + b"x" * 20)
    broken = refreshed(raw, tmp_path / "table", settings={"cleaning": {"mask_emails": True}})
    assert [record.name for record in broken.diff.copied] == ["earlier rows (1 object)"]
    put(whole)
    mended = refreshed(raw, tmp_path / "table")
    assert mended.report.num_texts_encoded == 1  # the address is masked now
    assert refreshed(raw, tmp_path / "table").plan.is_empty


def test_rows_of_objects_that_a_backfill_did_not_choose_are_copied_out_of_their_pack(
    tmp_path: Path, raw: Path, model: str
) -> None:
    refreshed(raw, tmp_path / "table", model)
    for number in range(3):
        write_gz(raw / f"{number}.jsonl.gz", rows(100 + number * 10, 5))
    outcome = refreshed(raw, tmp_path / "table", selection=Selection(include=("1.*",)))
    assert [record.name for record in outcome.diff.copied] == ["earlier rows (2 objects)"]
    assert ids(tmp_path / "table") == {*range(10), *range(20, 30), *range(110, 115)}


def test_splits_that_stay_are_moved_out_of_a_compacted_shard(tmp_path: Path, raw: Path, model: str) -> None:
    table = tmp_path / "table"
    refreshed(raw, table, model, objects_apart())
    compact_table(str(table))
    write_gz(raw / "1.jsonl.gz", rows(50, 5))
    diff = refreshed(raw, table, settings=objects_apart()).diff
    assert [shard.num_rows for shard in diff.moved] == [20]
    assert len(diff.drop) == 1
    assert ids(table) == {*range(10), *range(20, 30), *range(50, 55)}


def test_rows_of_another_encoder_cannot_stay_so_nothing_is_published(tmp_path: Path, raw: Path, model: str) -> None:
    table = tmp_path / "table"
    refreshed(raw, table, model, objects_apart())
    break_object(raw / "1.jsonl.gz")
    with pytest.raises(TableError, match=r"1\.jsonl\.gz: cannot be read .*cannot stay beside rows of another encoder"):
        refreshed(raw, table, save_tiny(tmp_path / "other", seed=1), objects_apart())
    assert Table.open(str(table)).version == 0
    assert Table.open(str(table)).encoder.model == model


@pytest.mark.parametrize("settings", [RefreshSettings(), objects_apart()], ids=["packed", "apart"])
def test_a_repaired_object_ends_the_exception(tmp_path: Path, raw: Path, model: str, settings: RefreshSettings) -> None:
    refreshed(raw, tmp_path / "table", model, settings)
    whole = (raw / "1.jsonl.gz").read_bytes()
    break_object(raw / "1.jsonl.gz")
    refreshed(raw, tmp_path / "table", settings=settings)
    (raw / "1.jsonl.gz").write_bytes(whole)
    outcome = refreshed(raw, tmp_path / "table", settings=settings)
    assert outcome.report.complete
    assert outcome.report.num_texts_encoded == 0
    assert refreshed(raw, tmp_path / "table", settings=settings).plan.is_empty
    assert ids(tmp_path / "table") == set(range(30))

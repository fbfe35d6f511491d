"""Keys that were found nowhere are told apart from those that are found beside the shards, or were erased before."""

from pathlib import Path

import pytest

from sbert.erase.run import erase
from sbert.sync.follow import sync
from sbert.table.delta import Table
from sbert.table.erased_keys import ErasedKeys
from tests.support.made_tables import make_version
from tests.support.tables import objects_apart, update, write


@pytest.fixture
def table(tmp_path: Path) -> str:
    folder = str(tmp_path / "table")
    make_version(folder, {"s3://raw/a.jsonl": {f"a-{at}": at for at in range(5)}})
    return folder


def test_a_key_of_an_earlier_erasure_is_not_missing(table: str) -> None:
    erase(table, ErasedKeys(ids=["a-1"]))
    receipt = erase(table, ErasedKeys(ids=["a-1", "a-2", "nosuch"]))
    assert receipt.ids_not_found == ["nosuch"]
    assert receipt.num_rows_erased == 1


def test_nothing_is_committed_and_no_receipt_is_kept_when_nothing_is_found_and_nothing_is_new(table: str) -> None:
    first = erase(table, ErasedKeys(ids=["a-1", "nosuch"]))
    before = sorted(Path(table).rglob("*"))
    again = erase(table, ErasedKeys(ids=["nosuch"]))
    assert again.is_nothing
    assert again.is_complete
    assert again.receipt == ""
    assert again.out_of_reach == []
    assert again.version == first.version
    assert sorted(Path(table).rglob("*")) == before


def test_a_row_that_came_back_is_erased_although_its_key_is_not_new(table: str) -> None:
    erase(table, ErasedKeys(ids=["b-1"]))
    make_version(table, {"s3://raw/b.jsonl": {"b-1": 1, "b-2": 2}})  # by a writer that knows no tombstones
    receipt = erase(table, ErasedKeys(ids=["b-1"]))
    assert receipt.num_rows_erased == 1
    assert receipt.receipt
    assert Table.open(table).num_rows == 1


def test_keys_of_rejected_rows_broken_lines_and_documents_are_found(tmp_path: Path, model: str) -> None:
    raw, folder = tmp_path / "raw", str(tmp_path / "table")
    write(raw / "0.jsonl", [{"id": "ada", "text": "One sentence here. " * 20}, {"id": "empty", "text": " "}])
    with (raw / "0.jsonl").open("a") as file:
        file.write('{"id": "broken", "text": "cut off\n')
    update(raw, folder, model=model, settings=objects_apart(source={"passages": {"max_tokens": 16}}))
    keys = ErasedKeys(ids=["ada", "empty", "broken", "nosuch"])
    assert erase(folder, keys, is_dry_run=True).ids_not_found == ["nosuch"]
    assert erase(folder, keys).ids_not_found == ["nosuch"]


def test_a_key_that_only_a_store_holds_is_found(table: str, tmp_path: Path) -> None:
    location = f"lancedb:{tmp_path / 'lance'}#docs"
    sync(table, location)
    make_version(table, {"s3://raw/c.jsonl": {"c-1": 1}})
    for path in Path(table).glob("*.parquet"):
        if path.name not in {shard.name for shard in Table.open(table).shards()}:
            path.unlink()  # as `sbert vacuum` does
    receipt = erase(table, ErasedKeys(ids=["a-1", "a-2", "no-1", "no-2", "no-3"]), destinations=[location])
    assert receipt.ids_not_found == ["no-1", "no-2", "no-3"]

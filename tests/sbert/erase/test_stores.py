"""Rows go from vector stores: every collection, every version that the store keeps, and the next sync finds nothing to do."""

import re
from pathlib import Path

import pytest

from sbert.erase.run import erase
from sbert.erase.stores import erase_in_store
from sbert.sync.destinations.locate import open_destination
from sbert.sync.follow import sync
from sbert.sync.reconcile import reconcile
from sbert.table.erased_keys import ErasedKeys
from tests.support.file_search import files_that_hold
from tests.support.made_tables import State, make_version

KEYS = ErasedKeys(ids=["a-7"], pairs=[("s3://raw/b's.jsonl", "b\"9' \\"), ("s3://raw/a.jsonl", "gone")])


@pytest.fixture
def table(tmp_path: Path) -> str:
    folder = str(tmp_path / "table")
    state: State = {
        "s3://raw/a.jsonl": {f"a-{at}": at for at in range(30)} | {"gone": 99},
        "s3://raw/b's.jsonl": {"b\"9' \\": 1, "a-7": 2, "b-1": 3},
    }
    make_version(folder, state)
    return folder


def test_rows_go_from_the_store_and_the_next_sync_has_nothing_to_do(table: str, location: str) -> None:
    sync(table, location)
    receipt = erase(table, KEYS, destinations=[location])
    (place,) = [place for place in receipt.places if place.place == "vector store"]
    assert place.num_found == 4
    assert place.is_clean, place
    assert receipt.left == []
    assert reconcile(table, location).is_equal
    assert sync(table, location).method == "nothing"
    with open_destination(location) as destination:
        assert destination.count(str(destination.visible())) == 30


def test_a_store_that_is_behind_is_erased_and_compares_every_row_at_its_next_sync(tmp_path: Path, table: str) -> None:
    location = f"lancedb:{tmp_path / 'lance'}#docs"
    sync(table, location)
    make_version(table, {"s3://raw/a.jsonl": {"a-7": 1, "a-8": 2}})
    erase(table, KEYS, destinations=[location])
    done = sync(table, location)
    assert done.method == "comparison"
    assert "erased" in done.why
    assert reconcile(table, location).is_equal


def test_lancedb_keeps_the_rows_in_no_file(tmp_path: Path, table: str) -> None:
    """A delete only marks rows there: they are still in the data files, also of versions before, and in transactions."""
    location = f"lancedb:{tmp_path / 'lance'}#docs"
    sync(table, location)
    make_version(table, {"s3://raw/a.jsonl": {"a-7": 1, "a-8": 2, "gone": 3}})
    sync(table, location)
    needle = b"gone"
    assert files_that_hold(str(tmp_path / "lance"), needle)
    erase(table, ErasedKeys(ids=["gone"]), destinations=[location])
    assert files_that_hold(str(tmp_path / "lance"), needle) == []
    assert reconcile(table, location).is_equal


def test_a_store_that_does_not_answer_is_named_without_the_ids(table: str) -> None:
    location = "postgresql://127.0.0.1:1/nowhere#public.docs"
    receipt = erase(table, KEYS, destinations=[location])
    (left,) = receipt.left
    assert left.location == location
    assert left.problem
    assert not re.search(r"\ba-7\b", receipt.model_dump_json())  # random names may hold 0a-7f


def test_a_store_of_another_make_that_cannot_erase_is_a_problem_and_no_error(
    table: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    from sbert.sync.destinations.base import Destination
    from sbert.sync.destinations.lance import LanceDestination

    location = f"lancedb:{tmp_path / 'lance'}#docs"
    sync(table, location)
    monkeypatch.setattr(LanceDestination, "find", Destination.find)
    report = erase_in_store(location, table, KEYS)
    assert "erase there by hand" in report.problem

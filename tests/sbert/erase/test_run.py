"""Erased rows are nowhere: not in a version, not in a file beside the table, and the next refresh does not bring them back."""

import json
import re
from pathlib import Path

import polars as pl
import pytest

from sbert.erase.places import ErasedRows
from sbert.erase.places_beside_shards import LogBounds
from sbert.erase.receipt import PlaceReport
from sbert.erase.run import erase
from sbert.erase.undo import lift_tombstones
from sbert.errors import SettingsError, TableError
from sbert.index.words.settings import WordSettings
from sbert.index.words.word_index import index_words
from sbert.storage.files import join, list_names, read_bytes
from sbert.sync.follow import sync
from sbert.sync.reconcile import reconcile
from sbert.table import unit_vectors
from sbert.table.compaction import compact_table
from sbert.table.delta import Table
from sbert.table.erased_keys import ErasedKeys
from sbert.table.rollback import roll_back
from sbert.table.split_records import SplitRecord
from sbert.table.verify import verify_table
from tests.support.file_search import files_that_hold
from tests.support.made_tables import State, make_version
from tests.support.tables import objects_apart, read, update, write

SECRET = "a very private sentence"


def private_rows(first: int, count: int) -> list[dict[str, object]]:
    """Return rows whose ids and texts can be searched for."""
    return [{"id": f"person-{first + at}", "text": f"{SECRET} of number {first + at}"} for at in range(count)]


def names_of(table: str) -> dict[str, int]:
    return {name: size for name, size in list_names(table).items() if name.endswith(".parquet")}


@pytest.fixture
def versions(tmp_path: Path) -> str:
    """Five versions of a table without an encoder: an object is edited, one leaves, one comes, another encoder."""
    folder = str(tmp_path / "table")
    state: State = {f"s3://raw/{name}.jsonl": {f"{name}-{at}": at for at in range(20)} for name in "abcd"}
    make_version(folder, state)
    state["s3://raw/a.jsonl"]["a-3"] = 700
    make_version(folder, state)
    del state["s3://raw/d.jsonl"]
    make_version(folder, state)
    state["s3://raw/e.jsonl"] = {"e-1": 1, "a-3": 2}
    make_version(folder, state)
    state["s3://raw/b.jsonl"]["b-19"] = 800
    make_version(folder, state)
    return folder


def test_only_shards_that_hold_the_rows_are_rewritten_and_old_ones_go_at_once(versions: str) -> None:
    before = names_of(versions)
    receipt = erase(versions, ErasedKeys(pairs=[("s3://raw/a.jsonl", "a-3"), ("s3://raw/d.jsonl", "d-0")]))
    after = names_of(versions)
    # a.jsonl has a shard of version 0 and one of the versions since; d.jsonl has one, of versions 0 and 1
    assert len(before.keys() - after.keys()) == 3
    assert len(after.keys() - before.keys()) == 1
    assert receipt.num_rows_erased == 1
    assert receipt.is_complete
    assert Table.open(versions).num_rows == 20 * 3 + 2 - 1
    assert not [finding for finding in verify_table(versions).findings if "encoder" not in finding]


def test_the_vectors_that_this_machine_keeps_go_too(
    versions: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))
    monkeypatch.setattr(unit_vectors, "LEAST_BYTES", 0)
    unit_vectors.UnitVectors.open(Table.open(versions))
    erase(versions, ErasedKeys(ids=["a-3"]), is_dry_run=True)
    assert len(list(unit_vectors.vector_cache_folder().iterdir())) == 1
    receipt = erase(versions, ErasedKeys(ids=["a-3"]))
    assert list(unit_vectors.vector_cache_folder().iterdir()) == []
    assert "vectors in the caches of other machines" in {place.place for place in receipt.out_of_reach}


def test_an_id_alone_means_it_in_every_source(versions: str) -> None:
    receipt = erase(versions, ErasedKeys(ids=["a-3"]))
    assert receipt.num_rows_erased == 2
    assert files_that_hold(versions, b"'a-3'", b'"a-3"') == []


def test_versions_that_held_a_row_are_refused_and_the_others_stay_readable(versions: str) -> None:
    receipt = erase(versions, ErasedKeys(ids=["e-1"]))
    assert receipt.refused_versions == [3, 4]
    with pytest.raises(TableError, match=f"version 3 held rows that were erased .* {receipt.erasure}"):
        Table.open(versions, 3)
    assert [Table.open(versions, version).scan().collect().height for version in (0, 1, 2)] == [80, 80, 60]
    with pytest.raises(TableError, match="held rows that were erased"):
        roll_back(versions, 4)
    assert roll_back(versions, 2).num_rows == 60


def test_a_compacted_shard_is_rewritten_and_still_names_its_splits(versions: str) -> None:
    compact_table(versions)
    before = Table.open(versions)
    receipt = erase(versions, ErasedKeys(ids=["b-1", "a-3"]))
    assert receipt.num_rows_erased == 3
    assert not [finding for finding in verify_table(versions).findings if "encoder" not in finding]
    assert Table.open(versions).num_rows == before.num_rows - 3


def test_a_row_that_is_nowhere_still_gets_its_tombstone_and_a_commit(versions: str) -> None:
    receipt = erase(versions, ErasedKeys(ids=["nobody"]))
    assert receipt.num_rows_erased == 0
    assert receipt.version == 5  # a refresh that was planned before must not commit on version 4
    assert receipt.is_complete


def test_a_dry_run_tells_and_changes_nothing(versions: str) -> None:
    before = files(versions)
    receipt = erase(versions, ErasedKeys(ids=["a-3"]), is_dry_run=True)
    assert receipt.num_rows_erased == 2
    assert files(versions) == before


def files(folder: str) -> dict[str, bytes]:
    return {str(path): path.read_bytes() for path in Path(folder).rglob("*") if path.is_file()}


def test_nothing_to_erase_is_an_error(versions: str) -> None:
    with pytest.raises(SettingsError, match="no id is named"):
        erase(versions, ErasedKeys())


def test_a_file_that_nobody_knows_is_named_as_not_erased(versions: str) -> None:
    Path(versions, "_index").mkdir()
    Path(versions, "_index", "segment.bin").write_bytes(b"a-3")
    receipt = erase(versions, ErasedKeys(ids=["a-3"]))
    assert not receipt.is_complete
    assert [place.location for place in receipt.left] == [join(versions, "_index")]


def test_the_word_index_goes_as_a_whole(versions: str) -> None:
    index_words(versions, settings=WordSettings(text_column="kind"))
    receipt = erase(versions, ErasedKeys(ids=["a-3"]))
    assert receipt.is_complete
    assert list_names(join(versions, "_words")) == {}


def test_the_receipt_holds_hashes_and_nothing_that_was_erased(versions: str) -> None:
    receipt = erase(versions, ErasedKeys(pairs=[("s3://raw/a.jsonl", "a-3")]))
    kept = read_bytes(receipt.receipt), read_bytes(receipt.receipt.replace(".json", ".md"))
    for content in kept:
        assert not re.search(rb"\ba-3\b", content)  # random names may hold 0a-3f
        assert b"s3://raw" not in content
        assert receipt.hashed_keys[0].encode() in content


def test_the_same_key_has_another_hash_in_another_table(versions: str, tmp_path: Path) -> None:
    make_version(str(tmp_path / "other"), {"s3://raw/a.jsonl": {"a-3": 1}})
    one, other = (erase(uri, ErasedKeys(ids=["a-3"])) for uri in (versions, str(tmp_path / "other")))
    assert one.hashed_keys != other.hashed_keys


def test_an_erased_row_is_nowhere_and_does_not_come_back(tmp_path: Path, model: str) -> None:
    """Through refreshes with the library: rejected rows, samples, an edited object, a forced backfill, a lifted tombstone."""
    raw, table = tmp_path / "raw", str(tmp_path / "table")
    write(raw / "0.jsonl", [*private_rows(0, 4), {"id": "person-9", "text": " "}])
    write(raw / "1.jsonl", private_rows(10, 4))
    update(raw, table, model=model, settings=objects_apart(source={"keep_columns": ["text"]}))
    assert files_that_hold(table, b"number 2", b"person-9")
    receipt = erase(table, ErasedKeys(ids=["person-2", "person-9"]))
    assert receipt.is_complete
    assert files_that_hold(table, b"number 2", b"person-2", b"person-9") == []
    record = record_of(table, "0.jsonl")
    assert record.counts.rejects_by_reason == {"empty_text": 1, "erased": 1}
    record.counts.check("the record")

    done = update(raw, table, settings=objects_apart())
    assert done.plan.is_empty  # nothing is built again

    write(raw / "0.jsonl", [*private_rows(0, 5), {"id": "person-9", "text": " "}])
    done = update(raw, table, settings=objects_apart())
    assert done.report.rejects_by_reason == {"erased": 2}
    assert done.report.num_texts_encoded == 1
    assert set(read(table)["id"]) == {
        "person-0",
        "person-1",
        "person-3",
        "person-4",
        *(f"person-{n}" for n in range(10, 14)),
    }
    assert files_that_hold(table, b"number 2", b"person-2", b"person-9") == []

    assert lift_tombstones(table, ErasedKeys(ids=["person-2"])).num_lifted == 1
    write(raw / "0.jsonl", private_rows(0, 6))
    update(raw, table, settings=objects_apart())
    assert "person-2" in set(read(table)["id"])


def record_of(table: str, name: str) -> SplitRecord:
    records = [SplitRecord.model_validate_json(path.read_bytes()) for path in Path(table, "_splits").glob("*.json")]
    return next(record for record in records if record.spans[0].uri.endswith(name))


def test_rows_without_an_id_column_are_known_by_their_text_when_numbers_move(tmp_path: Path, model: str) -> None:
    raw, table = tmp_path / "raw", str(tmp_path / "table")
    lines = [{"text": f"line number {at}"} for at in range(4)]
    write(raw / "0.jsonl", lines)
    update(raw, table, model=model, settings=objects_apart(source={"keep_columns": ["text"]}))
    erase(table, ErasedKeys(ids=["0.jsonl:2"]))
    write(raw / "0.jsonl", [{"text": "a new first line"}, *lines])
    update(raw, table, settings=objects_apart())
    assert set(read(table)["text"]) == {"a new first line", "line number 0", "line number 2", "line number 3"}


def test_a_lease_of_another_run_is_named_and_running_again_ends_the_erasure(versions: str) -> None:
    from sbert.table.lease import hold_lease

    with hold_lease(versions, "some-run", "refresh"):
        first = erase(versions, ErasedKeys(ids=["a-3"]))
    assert [place.place for place in first.left] == ["run at work"]
    again = erase(versions, ErasedKeys(ids=["a-3"]))
    assert again.erasure == first.erasure
    assert again.num_rows_erased == 2
    assert again.is_complete
    assert json.loads(read_bytes(again.receipt))["num_rows_erased"] == 2


def test_ids_in_rejected_lines_that_cannot_be_parsed_are_redacted(tmp_path: Path, model: str) -> None:
    raw, table = tmp_path / "raw", str(tmp_path / "table")
    write(raw / "0.jsonl", private_rows(0, 2))
    with (raw / "0.jsonl").open("a") as file:
        file.write('{"id": "person-7", "text": "broken\n{"id": "person-77", "text": "broken too\n')
    update(raw, table, model=model, settings=objects_apart())
    erase(table, ErasedKeys(ids=["person-7"]))
    rejected = pl.concat([pl.read_parquet(path) for path in Path(table, "_rejected").glob("*.parquet")])
    assert sorted(rejected["original"].bin.size().to_list())[0] == 0
    assert b"person-77" in b"".join(rejected["original"].to_list())
    assert files_that_hold(table, b'"person-7"') == []


def test_a_document_goes_with_all_its_passages_and_does_not_come_back(tmp_path: Path, model: str) -> None:
    raw, table = tmp_path / "raw", str(tmp_path / "table")
    documents = [
        {"id": name, "text": " ".join(f"Sentence {number} about {name} says this." for number in range(9))}
        for name in ("ada", "bob")
    ]
    write(raw / "0.jsonl", list(documents))
    settings = objects_apart(source={"passages": {"max_tokens": 16}})
    update(raw, table, model=model, settings=settings)
    num_passages = {name: read(table).filter(document_id=name).height for name in ("ada", "bob")}
    assert num_passages["ada"] > 2
    location = f"lancedb:{tmp_path / 'lance'}#docs"
    sync(table, location)
    receipt = erase(table, ErasedKeys(ids=["ada"]), destinations=[location])
    assert receipt.left == []
    assert receipt.num_rows_erased == num_passages["ada"]
    assert reconcile(table, location).is_equal
    write(raw / "0.jsonl", [*documents, {"id": "cleo", "text": "A new document."}])
    done = update(raw, table)
    assert done.report.rejects_by_reason == {"erased": 1}
    assert set(read(table)["document_id"]) == {"bob", "cleo"}
    assert files_that_hold(table, b"about ada", b"ada#1") == []


@pytest.mark.parametrize(
    ("statistics", "num_left"),
    [('{"minValues": {"id": "b-1"', 1), ('{"minValues": {"id": "b-2"', 0), ('{"minValues": "b-1"}', 1), ("[]", 0)],
    ids=["half, with the id", "half, with another", "no object, with the id", "a list"],
)
def test_damaged_statistics_in_the_log_do_not_end_an_erasure(versions: str, statistics: str, num_left: int) -> None:
    added = {"add": {"path": "x.parquet", "stats": statistics}}
    (Path(versions) / "_delta_log" / "damaged.json").write_text(json.dumps(added))
    place, rows = LogBounds(), ErasedRows(ErasedKeys(ids=["b-1"]))
    report = PlaceReport(place=place.name, location=versions)
    assert place.look(versions, ["_delta_log/damaged.json"], rows, report).num_left == num_left

"""A reconcile names exactly the rows that differ, and a repair mends exactly these."""

import uuid
from pathlib import Path
from typing import Any

import pytest

from sbert.errors import DestinationError
from sbert.sync.destinations.locate import open_destination
from sbert.sync.destinations.qdrant import point_id
from sbert.sync.follow import sync
from sbert.sync.reconcile import ReconcileReport, RowKey, reconcile
from tests.support.made_tables import make_version
from tests.support.postgres import PostgresServer
from tests.support.stores import visible_collection

SOURCE = "s3://raw/a.jsonl"


@pytest.fixture
def table(tmp_path: Path) -> str:
    folder = str(tmp_path / "table")
    make_version(folder, {SOURCE: {str(number): number for number in range(200)}})
    return folder


def ids(keys: list[RowKey]) -> list[str]:
    return sorted(key.id for key in keys)


def assert_named(report: ReconcileReport, *, missing: list[str], stale: list[str], extra: list[str]) -> None:
    assert ids(report.missing) == missing
    assert ids(report.stale) == stale
    assert ids(report.extra) == extra
    assert report.num_missing == len(missing)
    assert report.num_stale == len(stale)
    assert report.num_extra == len(extra)
    assert not report.was_equal


def assert_mended(table: str, location: str) -> None:
    report = reconcile(table, location, repair_differences=True)
    assert report.is_repaired
    assert report.is_equal
    again = reconcile(table, location)
    assert again.was_equal
    with open_destination(location) as destination:
        (mark,) = destination.watermarks().values()
        assert mark.proven_version == 0
        assert destination.count(str(destination.visible())) == 200


def test_equal_sides_are_proven_and_the_proof_is_kept_in_the_destination(table: str, location: str) -> None:
    sync(table, location)
    report = reconcile(table, location)
    assert report.is_equal
    assert report.num_rows == 200
    assert report.num_missing == 0
    assert report.num_extra == 0
    assert report.num_stale == 0


def test_nothing_synced_yet_is_an_error_that_says_what_to_do(table: str, location: str) -> None:
    with pytest.raises(DestinationError, match="run `sbert sync` first"):
        reconcile(table, location)


@pytest.mark.parametrize(
    "change",
    [
        "price = price + 1",
        "kind = NULL",
        "tags = '[]'::json",
        "embedding = (SELECT embedding FROM {table} WHERE id = '9')",
        "text_hash = '\\x00'",
        "num_tokens = num_tokens + 1",
    ],
)
def test_every_column_that_a_person_changed_in_postgresql_is_seen(
    table: str, postgres: PostgresServer, change: str
) -> None:
    location = f"{postgres.location}#public.docs_{uuid.uuid4().hex[:8]}"
    sync(table, location)
    name = visible_collection(location)
    postgres.execute(f"UPDATE {name} SET {change.format(table=name)} WHERE id = '7'")
    report = reconcile(table, location)
    assert_named(report, missing=[], stale=["7"], extra=[])
    assert_mended(table, location)


def test_rows_deleted_and_added_by_hand_in_postgresql_are_named_and_mended(
    table: str, postgres: PostgresServer
) -> None:
    location = f"{postgres.location}#public.docs_{uuid.uuid4().hex[:8]}"
    sync(table, location)
    name = visible_collection(location)
    postgres.execute(f"DELETE FROM {name} WHERE id IN ('3', '4')")
    postgres.execute(f"UPDATE {name} SET id = 'moved' WHERE id = '5'")
    assert_named(reconcile(table, location), missing=["3", "4", "5"], stale=[], extra=["moved"])
    assert_mended(table, location)


def test_rows_changed_by_hand_in_lancedb_are_named_and_mended(table: str, tmp_path: Path) -> None:
    import lancedb

    location = f"lancedb:{tmp_path / 'lance'}#docs"
    sync(table, location)
    name = visible_collection(location)
    rows: Any = lancedb.connect(str(tmp_path / "lance")).open_table(name)
    rows.delete("id = '3'")
    rows.update(where="id = '5'", values={"kind": "changed"})
    repeated = rows.search().where("id = '8'").limit(1).to_arrow().select(rows.schema.names)
    rows.add(repeated)
    # A reader sees the version that the pointer names, which nobody can change: only a moved pointer shows the changes.
    assert reconcile(table, location).was_equal
    with open_destination(location) as destination:
        destination._move_pointer(name, rows.version)  # type: ignore[attr-defined]
    assert_named(reconcile(table, location), missing=["3"], stale=["5", "8"], extra=[])
    assert_mended(table, location)


def test_points_changed_by_hand_in_qdrant_are_named_and_mended(table: str, tmp_path: Path) -> None:
    from qdrant_client import QdrantClient, models

    location = f"qdrant:{tmp_path / 'qdrant'}#docs"
    sync(table, location)
    name = visible_collection(location)
    client = QdrantClient(path=str(tmp_path / "qdrant"))
    client.delete(name, models.PointIdsList(points=[point_id(SOURCE, "3")]))
    client.set_payload(name, {"kind": "changed"}, points=[point_id(SOURCE, "5")])
    client.upsert(name, [models.PointStruct(id=77, vector=[1.0, 0.0, 0.0, 0.0], payload={"by": "hand"})])
    client.close()
    assert_named(reconcile(table, location), missing=["3"], stale=["5"], extra=[""])
    assert_mended(table, location)


def test_entities_changed_by_hand_in_milvus_are_named_and_mended(table: str, milvus_file: Path) -> None:
    from pymilvus import MilvusClient

    from sbert.sync.destinations.milvus import entity_key

    location = f"milvus:{milvus_file}#docs"
    sync(table, location)
    name = visible_collection(location)
    client = MilvusClient(str(milvus_file))
    client.delete(name, ids=[entity_key(SOURCE, "3")])
    (row,) = client.get(name, ids=[entity_key(SOURCE, "5")], output_fields=["*"])
    client.upsert(name, [{**row, "num_tokens": 99}])
    client.upsert(name, [{**row, "key": "by hand", "id": "by hand"}])
    client.close()
    assert_named(reconcile(table, location), missing=["3"], stale=["5"], extra=["by hand"])
    assert_mended(table, location)

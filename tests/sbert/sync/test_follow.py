"""A destination holds what the table holds, after every kind of change and every interruption."""

import threading
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pyarrow as pa
import pytest

from sbert.errors import DestinationError, NotEqualError, SettingsError
from sbert.sync.destinations.base import Collection, Destination
from sbert.sync.destinations.locate import open_destination
from sbert.sync.destinations.postgres import PostgresDestination
from sbert.sync.follow import SyncMethod, sync
from sbert.sync.reconcile import reconcile, watermark_of
from sbert.sync.version_changes import VersionChanges
from tests.support.made_tables import State, make_version, remove_shards_of_version
from tests.support.postgres import PostgresServer


@pytest.fixture
def table(tmp_path: Path) -> str:
    return str(tmp_path / "table")


def state(first: int, count: int) -> State:
    """Rows of two sources."""
    return {
        "s3://raw/a.jsonl": {str(number): number for number in range(first, first + count)},
        "s3://raw/b 'quoted' 𠮷.jsonl": {f"b{number}": number for number in range(first, first + count)},
    }


def assert_equal(table_uri: str, location: str) -> None:
    report = reconcile(table_uri, location)
    assert report.is_equal, report


def visible(location: str) -> tuple[str | None, int]:
    """Return the collection that readers see and its number of rows."""
    with open_destination(location) as destination:
        name = destination.visible()
        return name, 0 if name is None else destination.count(name)


def test_a_first_sync_loads_every_row_and_shows_them_to_readers(table: str, location: str) -> None:
    make_version(table, state(0, 300))
    report = sync(table, location)
    assert report.method == SyncMethod.FIRST_LOAD
    assert report.num_upserts == 600
    assert report.num_deletes == 0
    assert report.is_switched
    assert report.is_proven
    assert visible(location)[1] == 600
    assert_equal(table, location)


def test_a_second_sync_writes_nothing(table: str, location: str) -> None:
    make_version(table, state(0, 20))
    sync(table, location)
    report = sync(table, location)
    assert report.method == SyncMethod.NOTHING
    assert report.num_upserts == 0
    assert report.num_deletes == 0
    assert not report.is_switched


def test_a_sync_writes_only_what_changed(table: str, location: str) -> None:
    rows = state(0, 100)
    make_version(table, rows)
    sync(table, location)
    a = rows["s3://raw/a.jsonl"]
    a["5"], a["new"] = 500, 501
    del a["7"], rows["s3://raw/b 'quoted' 𠮷.jsonl"]
    make_version(table, rows)
    report = sync(table, location)
    assert report.method == SyncMethod.CHANGE_FEED
    assert report.num_upserts == 2
    assert report.num_deletes == 101
    assert visible(location)[1] == 100
    assert_equal(table, location)


def test_another_encoder_fills_a_collection_beside_the_old_one_and_switches_at_the_end(
    table: str, location: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    make_version(table, state(0, 30))
    sync(table, location)
    before, _ = visible(location)
    make_version(table, state(0, 25), encoder_number=1)
    seen_while_loading = []
    real = Destination.portable

    with open_destination(location) as destination:
        kind = type(destination)
    real_switch = kind.switch

    def switch(self: Destination, collection: Collection) -> None:
        seen_while_loading.append(self.visible())
        real_switch(self, collection)

    monkeypatch.setattr(kind, "switch", switch)
    report = sync(table, location)
    assert real is Destination.portable
    assert report.is_switched
    assert seen_while_loading == [before]
    after, count = visible(location)
    assert after == report.collection != before
    assert count == 50
    assert_equal(table, location)
    sync(table, location)  # drops the collection that readers have left
    with open_destination(location) as destination:
        assert set(destination.watermarks()) == {after}


def test_a_load_that_dies_is_finished_by_the_next_sync(
    table: str, location: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    rows = state(0, 50)
    make_version(table, rows)
    with dying_after_rows(monkeypatch, 30), pytest.raises(ConnectionError):
        sync(table, location)
    assert visible(location)[0] is None
    del rows["s3://raw/a.jsonl"]["3"]  # what was loaded already may be gone from the next version
    make_version(table, rows)
    sync(table, location)
    assert_equal(table, location)


def test_an_increment_that_dies_leaves_no_row_behind_that_the_next_version_lacks(
    table: str, location: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    rows = state(0, 20)
    make_version(table, rows)
    sync(table, location)
    rows["s3://raw/c.jsonl"] = {str(number): number for number in range(40)}
    make_version(table, rows)
    with dying_after_rows(monkeypatch, 20), pytest.raises(ConnectionError):
        sync(table, location)
    del rows["s3://raw/c.jsonl"]
    make_version(table, rows)
    sync(table, location)
    assert visible(location)[1] == 40
    assert_equal(table, location)


def test_versions_that_were_vacuumed_are_replaced_by_a_comparison_of_every_row(
    table: str, location: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    rows = state(0, 20)
    make_version(table, rows)
    sync(table, location)
    rows["s3://raw/a.jsonl"]["1"] = 77
    make_version(table, rows)
    remove_shards_of_version(table, 0)
    report = sync(table, location)
    assert report.method == SyncMethod.COMPARISON
    assert report.num_upserts == 1
    assert report.num_deletes == 0
    assert "gone" in report.why
    assert_equal(table, location)


def test_a_destination_follows_one_table_until_it_is_told_to_follow_another(
    table: str, location: str, tmp_path: Path
) -> None:
    make_version(table, state(0, 20))
    sync(table, location)
    other = str(tmp_path / "other")
    make_version(other, state(5, 20))
    with pytest.raises(DestinationError, match=r"follows the table .* choose another name .* or sync with --replace"):
        sync(other, location)
    report = sync(other, location, replace=True)
    assert report.method == SyncMethod.COMPARISON
    assert report.num_upserts == 10
    assert report.num_deletes == 10
    assert_equal(other, location)


def test_a_refused_batch_fails_the_run_and_leaves_the_watermark(
    table: str, location: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    rows = state(0, 20)
    make_version(table, rows)
    sync(table, location)
    rows["s3://raw/c.jsonl"] = {str(number): number for number in range(40)}
    make_version(table, rows)
    with dying_after_rows(monkeypatch, 0), pytest.raises(ConnectionError):
        sync(table, location)
    with open_destination(location) as destination:
        (mark,) = destination.watermarks().values()
    assert not mark.is_complete or mark.version == 0
    assert sync(table, location).to_version == 1
    assert_equal(table, location)


def test_a_store_that_loses_rows_is_found_out_before_readers_see_the_collection(
    table: str, location: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    make_version(table, state(0, 20))
    with open_destination(location) as destination:
        kind = type(destination)
    real = kind.begin

    @contextmanager
    def begin(self: Any, *args: Any) -> Iterator[Any]:
        with real(self, *args) as load:
            upsert = load.upsert
            monkeypatch.setattr(load, "upsert", lambda blocks: upsert(rows.slice(1) for rows in blocks), raising=False)
            yield load

    with monkeypatch.context() as patch:
        patch.setattr(kind, "begin", begin)
        with pytest.raises(NotEqualError, match="lacks 2 of 40 rows"):
            sync(table, location)
    assert visible(location)[0] is None


@pytest.mark.parametrize(
    ("location", "message"),
    [
        ("mongodb://host#docs", "unknown store 'mongodb'"),
        ("lancedb:/data", "needs a name"),
        ("qdrant:http://localhost:1#docs", "qdrant:http://localhost:1#docs"),
        ("postgresql://user:secret@host/db#docs", "a password does not belong in a location"),
        ("postgresql://127.0.0.1:1/db#docs", "refused|failed"),
    ],
)
def test_a_location_that_cannot_work_is_refused_by_name(table: str, location: str, message: str) -> None:
    make_version(table, state(0, 2))
    with pytest.raises((SettingsError, DestinationError), match=message) as caught:
        sync(table, location)
    assert "secret" not in str(caught.value)


def test_a_foreign_table_of_the_same_name_is_left_alone(table: str, postgres: PostgresServer) -> None:
    make_version(table, state(0, 2))
    postgres.execute("DROP TABLE IF EXISTS foreign_docs; CREATE TABLE foreign_docs (id text)")
    with pytest.raises(DestinationError, match="exists that sbert did not make"):
        sync(table, f"{postgres.location}#foreign_docs")
    assert postgres.execute("SELECT count(*) FROM foreign_docs") == [(0,)]


def test_two_syncs_at_once_are_kept_apart(
    table: str, postgres: PostgresServer, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(PostgresDestination, "lock_seconds", 0.1)
    make_version(table, state(0, 2))
    location = f"{postgres.location}#twice"
    with open_destination(location), pytest.raises(DestinationError, match="another sync or reconcile is at work"):
        sync(table, location)


def test_a_sync_waits_for_the_lock_of_one_that_is_about_to_end(table: str, postgres: PostgresServer) -> None:
    make_version(table, state(0, 2))
    location = f"{postgres.location}#soon"
    other = open_destination(location)
    other.connect()
    closing = threading.Timer(0.5, other.close)
    closing.start()
    try:
        sync(table, location)
    finally:
        closing.join()
    assert reconcile(table, location).is_equal


def test_postgresql_readers_see_typed_columns_and_find_neighbours(table: str, postgres: PostgresServer) -> None:
    make_version(table, state(0, 50))
    sync(table, f"{postgres.location}#search.docs")
    rows = postgres.execute(
        "SELECT id, kind, price, cost, day, at, flag, tags->>1 FROM search.docs WHERE source = %s AND price > 1 "
        "ORDER BY embedding <#> (SELECT embedding FROM search.docs WHERE id = '10') LIMIT 1",
        "s3://raw/a.jsonl",
    )
    (row,) = rows
    assert row[0] == "10"
    assert row[1] == "kind 1 𠮷 ' \" \\"
    assert row[2] == pytest.approx(10 / 7)
    assert str(row[3]) == "1.75"
    assert row[7] == "b10"
    kinds = postgres.execute("SELECT indexdef FROM pg_indexes WHERE schemaname = 'search'")
    assert any("hnsw" in definition for (definition,) in kinds)


def test_lancedb_readers_open_the_complete_version(table: str, tmp_path: Path) -> None:
    from sbert.sync.destinations.lance import open_collection

    rows = state(0, 10)
    make_version(table, rows)
    sync(table, f"lancedb:{tmp_path / 'lance'}#docs")
    assert open_collection(str(tmp_path / "lance"), "docs").count_rows() == 20


@contextmanager
def dying_after_rows(monkeypatch: pytest.MonkeyPatch, num_rows: int) -> Iterator[None]:
    """Let the stream of rows break after `num_rows`."""
    from sbert.sync import follow

    def broken(blocks: Iterator[pa.Table]) -> Iterator[pa.Table]:
        left = num_rows
        for rows in blocks:
            if left:
                yield rows.slice(0, left)
            left -= min(left, len(rows))
            if not left:
                raise ConnectionError("the line is dead")

    real_read, real_upserts = follow.read_rows, VersionChanges.upserts
    with monkeypatch.context() as patch:
        patch.setattr(follow, "read_rows", lambda *args: broken(real_read(*args)))
        patch.setattr(VersionChanges, "upserts", lambda self: broken(real_upserts(self)))
        yield


@pytest.mark.parametrize("is_indexed", [False, True])
def test_a_collection_of_milvus_that_a_killed_sync_left_unfinished_is_finished(
    tmp_path: Path, milvus_file: Path, is_indexed: bool
) -> None:
    table = make_version(str(tmp_path / "table"), {"a": {str(row): row for row in range(5)}})
    location = f"milvus:{milvus_file}#docs"
    with open_destination(location) as destination:
        collection = Collection.of_table(destination.name, table)
        client = destination._client
        with destination.begin(collection, watermark_of(table, is_complete=False)):
            pass  # killed here
        client.release_collection(collection.name)
        if not is_indexed:
            client.drop_index(collection.name, client.list_indexes(collection.name)[0])
    report = sync(table.uri, location)
    assert report.num_rows == 5
    assert report.is_proven

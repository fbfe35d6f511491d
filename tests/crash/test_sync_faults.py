"""Faults of vector stores: refused batches, lost connections, full disks, changed columns, and a table that moved meanwhile.

A failed sync leaves the watermark where it was, or marks it as not complete; the next sync ends with a store that is equal to
the table. PostgreSQL and Qdrant are the sample of `make test`.
"""

import os
import re
import uuid
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import psycopg
import pytest

from sbert.errors import DestinationError
from sbert.sync import table_rows, version_changes
from sbert.sync.destinations.locate import open_destination
from sbert.sync.follow import SyncMethod, sync
from sbert.sync.reconcile import reconcile
from sbert.sync.watermark import Watermark
from sbert.table.compaction import compact_table
from sbert.table.rollback import roll_back
from sbert.table.shards import ShardSettings
from sbert.table.vacuum import vacuum_table
from tests.crash.small_disks import small_disk
from tests.support.made_tables import State, make_version
from tests.support.postgres import PostgresServer
from tests.support.stores import visible_collection

SAMPLE = ("postgresql", "qdrant")
REST = ("lancedb", "milvus")
STORES = [*SAMPLE, *(pytest.param(store, marks=pytest.mark.slow) for store in REST)]
ROWS_PER_BATCH = 10
BATCHES = 20


@pytest.fixture(params=STORES)
def location(request: pytest.FixtureRequest, tmp_path: Path) -> str:
    if request.param == "postgresql":
        return postgres_location(request.getfixturevalue("postgres"))
    return f"{request.param}:{tmp_path / ('milvus.db' if request.param == 'milvus' else 'store')}#docs"


def postgres_location(server: PostgresServer, name: str = "") -> str:
    return f"{server.location}#public.{name or f'docs_{uuid.uuid4().hex[:8]}'}"


@pytest.fixture
def table(tmp_path: Path) -> str:
    folder = str(tmp_path / "table")
    make_version(folder, rows(40))
    return folder


def rows(count: int, **more: int) -> State:
    """Rows of the source a, and of further sources."""
    return {name: {f"{name}{number}": number for number in range(size)} for name, size in {"a": count, **more}.items()}


def mark_of(location: str) -> Watermark:
    with open_destination(location) as destination:
        return destination.watermarks()[str(destination.visible())]


def assert_equal(table: str, location: str) -> None:
    report = reconcile(table, location)
    assert report.is_equal, report
    assert report.version == report.newest_version


@contextmanager
def refusing(location: str, monkeypatch: pytest.MonkeyPatch, every: int) -> Iterator[None]:
    """Let the store's client refuse every so many batches of `ROWS_PER_BATCH` rows."""
    kind: Any
    error: Exception
    limits: list[tuple[Any, str]] = [(table_rows, "ROWS_PER_READ"), (version_changes, "ROWS_PER_READ")]
    match location.partition(":")[0]:  # clients take seconds to import: one at a time
        case "postgresql":
            kind, method, error = psycopg.Copy, "write", psycopg.OperationalError("429 too many requests")
        case "qdrant":
            from qdrant_client import QdrantClient

            from sbert.sync.destinations import qdrant

            kind, method, error = QdrantClient, "upsert", RuntimeError("429 too many requests")
            limits.append((qdrant, "ROWS_PER_REQUEST"))
        case "milvus":
            from pymilvus import MilvusClient, MilvusException

            from sbert.sync.destinations import milvus

            kind, method, error = MilvusClient, "upsert", MilvusException(message="429 too many requests")
            limits.append((milvus, "ROWS_PER_REQUEST"))
        case _:
            from lancedb.merge import LanceMergeInsertBuilder

            from sbert.sync.destinations import lance

            kind, method, error = LanceMergeInsertBuilder, "execute", RuntimeError("429 too many requests")
            limits.append((lance, "ROWS_PER_MERGE"))
    real: Callable[..., Any] = getattr(kind, method)
    calls: list[int] = []

    def counted(*args: Any, **kwargs: Any) -> Any:
        calls.append(1)
        if len(calls) % every == 0:
            raise error
        return real(*args, **kwargs)

    with monkeypatch.context() as patch:
        for module, name in limits:
            patch.setattr(module, name, ROWS_PER_BATCH)
        patch.setattr(kind, method, counted)
        yield
    assert len(calls) >= every, "no batch was refused"


def test_a_store_that_refuses_every_twentieth_batch_fails_the_run_and_the_next_run_completes(
    table: str, location: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    sync(table, location)
    make_version(table, rows(40, b=ROWS_PER_BATCH * (BATCHES + 5)))
    with refusing(location, monkeypatch, BATCHES), pytest.raises(DestinationError, match="429 too many requests"):
        sync(table, location)
    mark = mark_of(location)
    assert mark.version == 0 or not mark.is_complete
    assert sync(table, location).num_rows == 290
    assert_equal(table, location)


def test_a_first_load_that_is_refused_shows_nothing_to_readers(
    table: str, postgres: PostgresServer, monkeypatch: pytest.MonkeyPatch
) -> None:
    location = postgres_location(postgres)
    make_version(table, rows(ROWS_PER_BATCH * (BATCHES + 5)))
    with refusing(location, monkeypatch, BATCHES), pytest.raises(DestinationError, match="429 too many requests"):
        sync(table, location)
    with open_destination(location) as destination:
        assert destination.visible() is None
        assert destination.watermarks() == {}
    sync(table, location)
    assert_equal(table, location)


def test_a_table_that_was_rolled_back_and_compacted_is_followed_by_the_feed(table: str, location: str) -> None:
    sync(table, location)
    make_version(table, rows(40, b=30))
    sync(table, location)
    roll_back(table)
    report = sync(table, location)
    assert report.method == SyncMethod.CHANGE_FEED
    assert report.num_upserts == 0
    assert report.num_deletes == 30
    make_version(table, rows(40, b=30, c=5))
    sync(table, location)
    compact_table(table, ShardSettings(shard_rows=1_000))
    report = sync(table, location)
    assert report.method == SyncMethod.CHANGE_FEED
    assert report.num_upserts == 0
    assert report.num_deletes == 0
    assert_equal(table, location)


def test_a_table_that_was_vacuumed_past_the_version_of_the_store_is_compared_and_the_report_says_so(
    table: str, location: str
) -> None:
    sync(table, location)
    make_version(table, rows(39, b=30))
    compact_table(table, ShardSettings(shard_rows=1_000))
    assert vacuum_table(table, retention_hours=0, apply=True).num_shards > 0
    report = sync(table, location)
    assert report.method == SyncMethod.COMPARISON
    assert report.num_upserts == 30
    assert report.num_deletes == 1
    assert "version 0 is gone" in report.why
    assert "vacuumed" in report.why
    assert_equal(table, location)


def test_a_connection_that_is_lost_in_the_middle_of_a_load_costs_only_time(
    table: str, postgres: PostgresServer, monkeypatch: pytest.MonkeyPatch
) -> None:
    location = postgres_location(postgres)
    sync(table, location)
    make_version(table, rows(40, b=300))
    real = psycopg.Copy.write
    lost: list[int] = []

    def write(copy: psycopg.Copy, content: bytes) -> None:
        real(copy, content)
        if not lost:
            lost.append(1)
            postgres.execute("SELECT pg_terminate_backend(pid) FROM pg_stat_activity WHERE application_name = 'sbert'")

    with monkeypatch.context() as patch:
        patch.setattr(psycopg.Copy, "write", write)
        with pytest.raises(DestinationError, match="connection"):
            sync(table, location)
    assert mark_of(location).version == 0
    sync(table, location)
    assert_equal(table, location)


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ("ALTER COLUMN price TYPE text", "price is text, needed is double precision"),
        ("DROP COLUMN flag", "flag is not there, needed is boolean"),
        ("ALTER COLUMN embedding TYPE vector", r"embedding is vector, needed is vector\(4\)"),
    ],
)
def test_columns_that_somebody_changed_are_named_before_anything_is_written(
    table: str, postgres: PostgresServer, change: str, message: str
) -> None:
    location = postgres_location(postgres)
    sync(table, location)
    name = visible_collection(location)
    view = location.rpartition("#")[2]
    postgres.execute(f"DROP VIEW {view}; ALTER TABLE {name} {change}; CREATE VIEW {view} AS SELECT * FROM {name}")
    make_version(table, rows(41))
    with pytest.raises(DestinationError, match=message):
        sync(table, location)
    assert mark_of(location).version == 0


def test_a_table_of_another_dim_in_the_place_of_the_collection_is_refused(table: str, postgres: PostgresServer) -> None:
    location = postgres_location(postgres)
    sync(table, location)
    name = visible_collection(location)
    view = location.rpartition("#")[2]
    postgres.execute(f"DROP VIEW {view}; DROP TABLE {name}; CREATE TABLE {name} (id text, embedding vector(3))")
    make_version(table, rows(41))
    with pytest.raises(DestinationError, match=r"embedding is vector\(3\), needed is vector\(4\)"):
        sync(table, location)


@pytest.mark.parametrize("name", ['it\'s "𠮷"', pytest.param("a/b;'\"--", marks=pytest.mark.slow)])
def test_a_name_with_quotes_is_a_name_like_any_other_or_is_refused_by_name(
    table: str, location: str, name: str
) -> None:
    quoted = f"{location.rpartition('#')[0]}#{name}"
    if not location.startswith("postgresql"):  # their names are letters, digits and a few signs
        with pytest.raises(DestinationError, match=re.escape(name)):
            sync(table, quoted)
        return
    sync(table, quoted)
    make_version(table, rows(30, b=12))
    sync(table, quoted)
    assert_equal(table, quoted)


@pytest.mark.slow
def test_a_disk_that_is_full_under_postgresql_keeps_the_version_before(table: str, postgres: PostgresServer) -> None:
    data = Path(str(postgres.handle.pgdata))
    refused = test_a_store_that_refuses_every_twentieth_batch_fails_the_run_and_the_next_run_completes
    with small_disk(data.parent / f"{data.name}-disk", "1m", without_root=refused.__name__) as disk:
        owner = data.stat()
        os.chown(disk.folder, owner.st_uid, owner.st_gid)
        postgres.execute(f"CREATE TABLESPACE small LOCATION '{disk.folder}'")
        postgres.execute("ALTER DATABASE postgres SET default_tablespace = small")
        location = postgres_location(postgres)
        sync(table, location)
        make_version(table, rows(40, b=6_000))
        with pytest.raises(DestinationError, match="No space left on device"):
            sync(table, location)
        assert mark_of(location).version == 0
        disk.resize("200m")
        assert sync(table, location).num_rows == 6_040
        assert_equal(table, location)
        postgres.execute(f"DROP VIEW {location.rpartition('#')[2]}")
        with open_destination(location) as destination:
            for name in destination.watermarks():
                destination.drop(name)
        postgres.execute("ALTER DATABASE postgres RESET default_tablespace")
        postgres.execute("DROP TABLE IF EXISTS public.sbert_watermarks")
        postgres.execute("DROP TABLESPACE small")

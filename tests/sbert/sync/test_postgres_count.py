"""A sync counts the rows in PostgreSQL while it computes what to write, and knows the number after the load from the server."""

import threading
import time
import uuid
from collections.abc import Callable
from pathlib import Path
from typing import Any

import psycopg
import pytest
from psycopg import sql

from sbert.errors import NotEqualError
from sbert.sync.destinations import postgres, postgres_count
from sbert.sync.destinations.locate import open_destination
from sbert.sync.destinations.postgres import PostgresDestination
from sbert.sync.destinations.postgres_count import count_rows
from sbert.sync.destinations.postgres_load import PostgresLoad
from sbert.sync.follow import sync
from sbert.sync.watermark import Watermark
from tests.support.made_tables import State, make_version
from tests.support.postgres import PostgresServer
from tests.support.stores import visible_collection

A, B = "s3://raw/a.jsonl", "s3://raw/b.jsonl"


@pytest.fixture
def table(tmp_path: Path) -> str:
    folder = str(tmp_path / "table")
    make_version(folder, rows_of(range(60)))
    return folder


@pytest.fixture
def location(postgres: PostgresServer) -> str:
    return f"{postgres.location}#public.docs_{uuid.uuid4().hex[:8]}"


def rows_of(first: range, **second: int) -> State:
    return {A: {str(number): number for number in first}, B: second}


@pytest.fixture
def counted(monkeypatch: pytest.MonkeyPatch) -> list[int]:
    """Return the numbers that the server counts from now on."""
    numbers: list[int] = []

    def noted(*given: Any) -> int:
        numbers.append(count_rows(*given))
        return numbers[-1]

    for module in (postgres, postgres_count):
        monkeypatch.setattr(module, "count_rows", noted)
    return numbers


def test_an_increment_counts_once_and_knows_the_number_after_it(table: str, location: str, counted: list[int]) -> None:
    sync(table, location)
    counted.clear()
    make_version(table, rows_of(range(5, 63), x=1, y=2))  # 5 rows leave, 3 and 2 join
    report = sync(table, location)
    assert (report.num_deletes, report.num_rows) == (5, 60)
    assert counted == [60]
    make_version(table, rows_of(range(5, 63)))
    assert sync(table, location).num_rows == 58
    assert counted == [60, 60]
    assert sync(table, location).num_rows == 58
    assert counted == [60, 60, 58]
    with open_destination(location) as destination:
        assert destination.count(str(destination.visible())) == 58


@pytest.mark.parametrize(
    ("change", "number"),
    [
        ("DELETE FROM {} WHERE id IN ('7', '8')", 59),
        ("INSERT INTO {0} SELECT id || ' copy', source, text_hash, embedding, num_tokens, truncated FROM {0} WHERE id = '7'", 62),
    ],
)  # fmt: skip
def test_rows_that_somebody_removed_or_added_are_noticed_by_the_next_increment(
    table: str, location: str, postgres: PostgresServer, change: str, number: int
) -> None:
    sync(table, location)
    name = visible_collection(location)
    columns = "(id, source, text_hash, embedding, num_tokens, truncated)"
    postgres.execute(change.replace("INTO {0}", f"INTO {{0}} {columns}").format(name))
    make_version(table, rows_of(range(60), x=1))
    with pytest.raises(NotEqualError, match=rf"the store has {number} rows, but version 1 of .* has 61"):
        sync(table, location)


def test_a_count_after_another_load_is_a_new_one(table: str, location: str, postgres: PostgresServer) -> None:
    sync(table, location)
    make_version(table, rows_of(range(60), x=1))
    sync(table, location)
    with open_destination(location) as destination:
        name = str(destination.visible())
        destination.begin_count(name)
        postgres.execute(f"DELETE FROM {name} WHERE id = 'x'")
        assert destination.count(name) == 60


def test_a_server_that_allows_no_second_connection_counts_after_the_load(
    table: str, location: str, counted: list[int], monkeypatch: pytest.MonkeyPatch
) -> None:
    sync(table, location)
    counted.clear()
    real = PostgresDestination._new_connection

    def first_only(self: PostgresDestination) -> psycopg.Connection[Any]:
        if self._connection is not None:
            raise psycopg.OperationalError('too many connections for role "embedder"')
        return real(self)

    monkeypatch.setattr(PostgresDestination, "_new_connection", first_only)
    make_version(table, rows_of(range(60), x=1))
    assert sync(table, location).num_rows == 61
    assert counted == [61]


@pytest.fixture
def slow_count(monkeypatch: pytest.MonkeyPatch) -> Callable[[float], None]:
    """Return a function that makes each count of a background connection last some seconds."""

    def slow(seconds: float) -> None:
        def counted_slowly(connection: psycopg.Connection[Any], table: sql.Identifier) -> int:
            connection.execute("SELECT pg_sleep(%s)", [seconds])
            return count_rows(connection, table)

        monkeypatch.setattr(postgres_count, "count_rows", counted_slowly)

    return slow


def test_a_load_that_fails_ends_its_count(
    table: str,
    location: str,
    postgres: PostgresServer,
    monkeypatch: pytest.MonkeyPatch,
    slow_count: Callable[[float], None],
) -> None:
    sync(table, location)
    sleeping = "SELECT count(*) FROM pg_stat_activity WHERE application_name = 'sbert' AND query LIKE '%pg_sleep%'"

    def refused(*_: object) -> int:
        while postgres.execute(sleeping) != [(1,)]:
            time.sleep(0.01)
        raise OSError(28, "No space left on device")

    slow_count(60)
    monkeypatch.setattr(PostgresLoad, "upsert", refused)
    make_version(table, rows_of(range(60), x=1))
    began = time.monotonic()
    with pytest.raises(OSError, match="No space left"):
        sync(table, location)
    assert time.monotonic() - began < 30
    assert postgres.execute(sleeping) == [(0,)]


def test_a_count_that_cannot_be_cancelled_is_left_to_itself(
    table: str, location: str, monkeypatch: pytest.MonkeyPatch, slow_count: Callable[[float], None]
) -> None:
    """As when the line to the server is dead. Its connection must not be closed while it waits: that ends the process."""
    sync(table, location)
    slow_count(3)
    monkeypatch.setattr(postgres_count, "END_SECONDS", 0.3)
    monkeypatch.setattr(psycopg.Connection, "cancel_safe", lambda *_, **__: None)
    monkeypatch.setattr(PostgresLoad, "upsert", lambda *_: 1 / 0)
    make_version(table, rows_of(range(60), x=1))
    began = time.monotonic()
    with pytest.raises(ZeroDivisionError):
        sync(table, location)
    assert time.monotonic() - began < 3
    (counting,) = [thread for thread in threading.enumerate() if thread.name == "count"]
    counting.join(30)
    assert not counting.is_alive()


def test_no_transaction_waits_for_a_count(
    table: str, location: str, postgres: PostgresServer, slow_count: Callable[[float], None]
) -> None:
    """Else a server that ends idle transactions would undo a load that is done."""
    sync(table, location)
    slow_count(1.5)
    make_version(table, rows_of(range(60), x=1))
    postgres.execute("ALTER SYSTEM SET idle_in_transaction_session_timeout = '700ms'")
    postgres.execute("SELECT pg_reload_conf()")
    try:
        assert sync(table, location).num_rows == 61
    finally:
        postgres.execute("ALTER SYSTEM RESET idle_in_transaction_session_timeout")
        postgres.execute("SELECT pg_reload_conf()")


def test_a_count_whose_connection_dies_is_made_after_the_load(
    table: str, location: str, postgres: PostgresServer, monkeypatch: pytest.MonkeyPatch
) -> None:
    sync(table, location)

    def dies(connection: psycopg.Connection[Any], _table: sql.Identifier) -> int:
        postgres.execute(f"SELECT pg_terminate_backend({connection.info.backend_pid})")
        return count_rows(connection, _table)

    monkeypatch.setattr(postgres_count, "count_rows", dies)
    make_version(table, rows_of(range(60), x=1))
    assert sync(table, location).num_rows == 61


def test_a_count_and_somebody_who_waits_for_the_table_do_not_stop_a_sync(
    table: str,
    location: str,
    postgres: PostgresServer,
    slow_count: Callable[[float], None],
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """Somebody queues for the whole table behind the load: a count that locked only then would queue behind him."""
    sync(table, location)
    name = visible_collection(location)
    slow_count(1)
    real = PostgresLoad.finish
    others: list[threading.Thread] = []
    waiting = f"SELECT count(*) FROM pg_locks WHERE NOT granted AND relation = '{name}'::regclass"

    def finished_while_somebody_waits(load: PostgresLoad, watermark: Watermark) -> None:
        others.append(threading.Thread(target=lambda: postgres.execute(f"DO $$BEGIN LOCK TABLE {name}; END$$")))
        others[0].start()
        while postgres.execute(waiting) != [(1,)]:
            time.sleep(0.01)
        real(load, watermark)

    monkeypatch.setattr(PostgresLoad, "finish", finished_while_somebody_waits)
    make_version(table, rows_of(range(60), x=1))
    assert sync(table, location).num_rows == 61
    others[0].join()


def test_a_collection_that_somebody_dropped_is_noticed_before_readers_see_it(
    table: str, location: str, postgres: PostgresServer
) -> None:
    sync(table, location)
    postgres.execute(f"DROP TABLE {visible_collection(location)} CASCADE")
    make_version(table, rows_of(range(60), x=1))
    with pytest.raises(NotEqualError, match=r"lacks 60 of 61 rows.*run `sbert reconcile --repair`"):
        sync(table, location)

"""Connections to PostgreSQL: what every sync needs is created once, and nothing stays open after an error."""

import threading
import time
import uuid

import psycopg
import pytest

from sbert.errors import DestinationError
from sbert.sync.destinations.postgres import CREATION_LOCK, PostgresDestination
from tests.support.postgres import PostgresServer

WAITING = "SELECT count(*) FROM pg_stat_activity WHERE application_name = 'sbert' AND wait_event_type = 'Lock'"
OPEN = "SELECT count(*) FROM pg_stat_activity WHERE application_name = 'sbert'"


def test_a_first_connection_waits_while_another_creates_the_table_of_watermarks(postgres: PostgresServer) -> None:
    schema = f"s_{uuid.uuid4().hex[:8]}"
    errors: list[Exception] = []

    def connect() -> None:
        try:
            with PostgresDestination(postgres.location, f"{schema}.docs") as destination:
                assert destination.watermarks() == {}
        except DestinationError as error:
            errors.append(error)

    other = threading.Thread(target=connect)
    with psycopg.connect(postgres.location) as first:  # a sync that was killed here leaves this much on the server
        first.execute("SELECT pg_advisory_xact_lock(%s)", (CREATION_LOCK,))
        first.execute(f"CREATE SCHEMA {schema}")  # type: ignore[call-overload]
        first.execute(  # type: ignore[call-overload]
            f"CREATE TABLE {schema}.sbert_watermarks (name text, collection text, watermark jsonb NOT NULL, "
            "PRIMARY KEY (name, collection))"
        )
        other.start()
        end = time.monotonic() + 60
        while postgres.execute(WAITING) == [(0,)]:
            assert time.monotonic() < end, "the other connection does not wait"
            time.sleep(0.05)
    other.join()
    assert errors == []


def test_many_first_connections_at_the_same_time_all_succeed(postgres: PostgresServer) -> None:
    schema = f"s_{uuid.uuid4().hex[:8]}"
    ready = threading.Barrier(6)
    errors: list[Exception] = []

    def connect(number: int) -> None:
        ready.wait()
        try:
            with PostgresDestination(postgres.location, f"{schema}.docs_{number}"):
                pass
        except DestinationError as error:
            errors.append(error)

    threads = [threading.Thread(target=connect, args=(number,)) for number in range(6)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert errors == []


def test_a_connection_that_is_refused_is_closed(postgres: PostgresServer) -> None:
    name = f"foreign_{uuid.uuid4().hex[:8]}"
    postgres.execute(f"CREATE TABLE {name} (id text)")
    with (
        pytest.raises(DestinationError, match="exists that sbert did not make"),
        PostgresDestination(postgres.location, name),
    ):
        pass
    end = time.monotonic() + 30
    while postgres.execute(OPEN) != [(0,)]:
        assert time.monotonic() < end, "the connection is still open"
        time.sleep(0.05)


def test_a_server_that_is_too_old_is_refused_by_name(postgres: PostgresServer, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("sbert.sync.destinations.postgres.MIN_SERVER_VERSION", 99)
    with (
        pytest.raises(DestinationError, match=r"is PostgreSQL \d+, but 99 or newer is needed: upgrade it"),
        PostgresDestination(postgres.location, "docs"),
    ):
        pass

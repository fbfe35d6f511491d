"""Kill a sync, and the database under it, at random moments: the next sync ends with an equal destination.

A reader watches meanwhile. It must never see rows of two encoders, or fewer rows than the version before or after has.
"""

import os
import random
import signal
import subprocess
import sys
import threading
import time
import uuid
from pathlib import Path
from typing import Self

import psycopg
import pytest

from sbert.sync.destinations.locate import open_destination
from sbert.sync.follow import sync
from sbert.sync.reconcile import reconcile
from tests.support.made_tables import State, make_version
from tests.support.postgres import PostgresServer

SYNC = "import sys; from sbert.sync.follow import sync; print('ready', flush=True); sync(sys.argv[1], sys.argv[2])"
NUM_ROWS = 3_000
FULL_ROUNDS = 50
SAMPLE_ROUNDS = 2


class Versions:
    """A table that changes at random: rows edited, added, removed, now and then another encoder."""

    def __init__(self, folder: Path, source: random.Random) -> None:
        self.uri = str(folder)
        self._random = source
        self._encoder = 0
        self._state: State = {
            f"s3://raw/{name}.jsonl": {str(number): number for number in range(NUM_ROWS // 3)} for name in "abc"
        }
        self.table = make_version(self.uri, self._state)

    def next(self) -> None:
        """Commit another version."""
        name = self._random.choice(sorted(self._state))
        rows = self._state[name]
        for _ in range(self._random.randint(1, 200)):
            rows[str(self._random.randrange(NUM_ROWS))] = self._random.randrange(10_000)
        for key in self._random.sample(sorted(rows), k=min(len(rows) - 1, self._random.randint(0, 100))):
            del rows[key]
        if self._random.random() < 0.25:
            self._encoder += 1
        self.table = make_version(self.uri, self._state, encoder_number=self._encoder)


class Reader:
    """Reads the view again and again, as a search service does."""

    def __init__(self, server: PostgresServer, view: str) -> None:
        self._server = server
        self._view = view
        self._stop = threading.Event()
        self._thread = threading.Thread(target=self._read, daemon=True)
        self.counts: set[int] = set()

    def __enter__(self) -> Self:
        self._thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._stop.set()
        self._thread.join()

    def _read(self) -> None:
        while not self._stop.is_set():
            try:
                ((count,),) = self._server.execute(f"SELECT count(*) FROM {self._view}")
                self.counts.add(count)
            except psycopg.errors.UndefinedTable:
                pass  # before the first switch there is no view
            except psycopg.Error:
                time.sleep(0.05)  # the server was killed


def start_sync(table: str, location: str) -> "subprocess.Popen[str]":
    process = subprocess.Popen(
        [sys.executable, "-c", SYNC, table, location], stdout=subprocess.PIPE, stderr=subprocess.DEVNULL, text=True
    )
    assert process.stdout is not None
    assert process.stdout.readline() == "ready\n"
    return process


def kill_rounds(
    rounds: int, folder: Path, location: str, strike: "threading.Event", seed: int, server: PostgresServer | None
) -> int:
    """Kill in each round; return how many strikes came before the sync had ended."""
    source = random.Random(seed)
    versions = Versions(folder / "table", source)
    seconds = 1.0
    num_struck = 0
    before = 0
    for number in range(rounds):
        if number:
            versions.next()
        allowed = {before, versions.table.num_rows}
        with Reader(server, location.rpartition("#")[2]) if server else NoReader() as reader:
            process = start_sync(versions.uri, location)
            began = time.monotonic()
            try:
                process.wait(source.uniform(0, seconds))
                seconds = max(0.2, 0.5 * seconds + 0.5 * (time.monotonic() - began))
            except subprocess.TimeoutExpired:
                num_struck += 1
                if strike.is_set():
                    assert server is not None
                    kill_server(server)
                else:
                    process.send_signal(signal.SIGKILL)
            process.wait(60)
            assert process.stdout is not None
            process.stdout.close()
            report = sync(versions.uri, location)
            assert report.to_version == versions.table.version
        assert reader.counts <= allowed, f"round {number}: a reader saw {reader.counts}, versions have {allowed}"
        assert reconcile(versions.uri, location).is_equal, f"round {number}"
        before = versions.table.num_rows
    with open_destination(location) as destination:
        assert destination.count(str(destination.visible())) == versions.table.num_rows
    return num_struck


class NoReader:
    """Stands for a reader where the store takes one process at a time."""

    counts: frozenset[int] = frozenset()

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None: ...


def kill_server(server: PostgresServer) -> None:
    """Kill PostgreSQL with SIGKILL and start it again on its data."""
    os.kill(server.handle.get_pid(), signal.SIGKILL)
    server.restart()


SLOW = [pytest.mark.slow, pytest.mark.timeout(1800)]


@pytest.mark.parametrize(
    ("store", "rounds"),
    [
        pytest.param("postgresql", SAMPLE_ROUNDS),
        *(pytest.param(store, FULL_ROUNDS, marks=SLOW) for store in ("postgresql", "lancedb", "qdrant", "milvus")),
    ],
)
def test_a_sync_that_is_killed_is_finished_by_the_next(
    store: str, rounds: int, tmp_path: Path, request: pytest.FixtureRequest
) -> None:
    server: PostgresServer | None = None
    match store:
        case "postgresql":
            server = request.getfixturevalue("postgres")
            location = f"{server.location}#public.docs_{uuid.uuid4().hex[:8]}"
        case "milvus":
            location = f"milvus:{tmp_path / 'milvus.db'}#docs"
        case _:
            location = f"{store}:{tmp_path / store}#docs"
    num_struck = kill_rounds(rounds, tmp_path, location, threading.Event(), seed=rounds, server=server)
    if rounds == FULL_ROUNDS:
        assert num_struck > rounds // 4


@pytest.mark.parametrize("rounds", [SAMPLE_ROUNDS, pytest.param(FULL_ROUNDS, marks=SLOW)])
def test_a_database_that_is_killed_under_a_sync_holds_the_version_before_or_after(
    rounds: int, tmp_path: Path, postgres: PostgresServer
) -> None:
    strike = threading.Event()
    strike.set()
    location = f"{postgres.location}#public.docs_{uuid.uuid4().hex[:8]}"
    kill_rounds(rounds, tmp_path, location, strike, seed=rounds + 1, server=postgres)

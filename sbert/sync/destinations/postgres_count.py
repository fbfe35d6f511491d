"""Count the rows of a table of PostgreSQL while a sync computes what to write, and writes.

The count has a connection of its own. So it sees the table as it is before the sync's transaction ends, and the sync hardly
waits for it where the server has a free core.
"""

import threading
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from contextlib import closing, suppress
from typing import Any

import psycopg
from psycopg import sql

__all__ = ["CountInBackground", "count_rows"]


class CountInBackground:
    """The number of rows of a table, which a thread counts."""

    def __init__(self, connect: Callable[[], psycopg.Connection[Any]], collection: str, table: sql.Identifier) -> None:
        """Begin to count.

        Args:
            connect: makes a connection, which is used for nothing else.
            collection: the collection whose rows are counted.
            table: its table.
        """
        self.collection = collection
        self._connect = connect
        self._table = table
        self._connection: psycopg.Connection[Any] | None = None
        self._is_ended = False
        self._lock = threading.Lock()
        self._pool = ThreadPoolExecutor(1, thread_name_prefix="count")
        self._counting = self._pool.submit(self._count)

    def _count(self) -> int | None:
        try:
            connection = self._connect()
        except psycopg.OperationalError:
            return None
        with closing(connection):
            with self._lock:
                self._connection = connection
                if self._is_ended:
                    return None
            return count_rows(connection, self._table)

    def result(self) -> int | None:
        """Return the number, once it is known; None where the server allowed no second connection.

        Raises:
            psycopg.Error: the server could not count.
        """
        return self._counting.result()

    def end(self) -> None:
        """End the count, wherever it is."""
        with self._lock:
            self._is_ended = True
            if self._connection is not None and not self._counting.done():
                with suppress(psycopg.Error):
                    self._connection.cancel_safe()
        self._pool.shutdown()


def count_rows(connection: psycopg.Connection[Any], table: sql.Identifier) -> int:
    """Count the rows of a table."""
    with connection.transaction():
        # One worker is as fast as several, and the caller needs the cores.
        connection.execute("SET LOCAL max_parallel_workers_per_gather = 0")
        found = connection.execute(sql.SQL("SELECT count(*) FROM {}").format(table)).fetchone()
    assert found is not None
    return int(found[0])

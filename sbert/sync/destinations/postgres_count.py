"""Count the rows of a table of PostgreSQL while a sync computes what to write, and writes.

The count has a connection of its own, and counts the rows as they are when it begins. It begins before the transaction of
the sync and may end after it, so that no transaction waits for a count. It locks the table when it begins, so that it never
waits for somebody who waits for the sync.
"""

import threading
import time
from concurrent.futures import Future, wait
from contextlib import suppress
from typing import Any

import psycopg
from psycopg import sql

__all__ = ["CountInBackground", "count_rows"]

LOCK_TIMEOUT = "1s"
"""Time that a count waits for the table before the rows are counted after the load."""
POLL_SECONDS = 0.2
"""Python notices Ctrl-C between waits of this length."""
END_SECONDS = 10.0
"""Time after which a count that does not end is left to itself."""


class CountInBackground:
    """The number of rows of a table at the moment when this object is made, which a thread counts."""

    def __init__(self, connection: psycopg.Connection[Any], collection: str, table: sql.Identifier) -> None:
        """Begin to count.

        Args:
            connection: used for nothing else.
            collection: the collection whose rows are counted.
            table: its table.

        Raises:
            psycopg.Error: the server refuses.
        """
        self.collection = collection
        self._connection = connection
        connection.execute("BEGIN ISOLATION LEVEL REPEATABLE READ")
        connection.execute(sql.SQL("SET LOCAL lock_timeout = {}").format(LOCK_TIMEOUT))
        connection.execute(sql.SQL("LOCK TABLE {} IN ACCESS SHARE MODE").format(table))
        connection.execute("SELECT 1")  # the rows of this moment are counted
        self._number: Future[int] = Future()
        threading.Thread(target=self._count, args=(table,), name="count", daemon=True).start()

    def _count(self, table: sql.Identifier) -> None:
        try:
            # Nobody else may close the connection: one that is closed while it waits ends the process.
            with self._connection:
                number = count_rows(self._connection, table)
        except Exception as error:  # noqa: BLE001  (raised by `result`)
            self._number.set_exception(error)
        else:
            self._number.set_result(number)

    def result(self) -> int | None:
        """Return the number, once it is known; None when the server could not count."""
        while True:
            with suppress(TimeoutError):
                try:
                    return self._number.result(POLL_SECONDS)
                except psycopg.Error:
                    return None

    def end(self) -> None:
        """End the count, wherever it is; its thread closes the connection."""
        until = time.monotonic() + END_SECONDS
        while not self._number.done() and time.monotonic() < until:
            with suppress(psycopg.Error):  # between two statements there is nothing to cancel yet
                self._connection.cancel_safe(timeout=POLL_SECONDS)
            wait([self._number], POLL_SECONDS)


def count_rows(connection: psycopg.Connection[Any], table: sql.Identifier) -> int:
    """Count the rows of a table."""
    with connection.transaction():
        # Several processes are hardly faster, and the caller needs the cores.
        connection.execute("SET LOCAL max_parallel_workers_per_gather = 0")
        found = connection.execute(sql.SQL("SELECT count(*) FROM {}").format(table)).fetchone()
    assert found is not None
    return int(found[0])

"""Count the rows of a table of PostgreSQL while a load writes into it.

The count has a connection of its own. So it sees the table as it is before the load's transaction ends, and the load waits
less for it where the server has a free core.
"""

from concurrent.futures import ThreadPoolExecutor
from contextlib import suppress
from types import TracebackType
from typing import Any, Self

import psycopg
from psycopg import sql

__all__ = ["CountInBackground", "count_rows"]


class CountInBackground:
    """The number of rows of a table, which a thread counts. Use as a context manager: it ends count and connection."""

    def __init__(self, connection: psycopg.Connection[Any], table: sql.Identifier) -> None:
        """Begin to count the rows of `table`; `connection` is used for nothing else."""
        self._connection = connection
        self._pool = ThreadPoolExecutor(1, thread_name_prefix="count")
        self._counting = self._pool.submit(count_rows, connection, table)

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        with suppress(psycopg.Error):
            if not self._counting.done():
                self._connection.cancel_safe()
        self._pool.shutdown()
        self._connection.close()

    def result(self) -> int:
        """Return the number, once it is known.

        Raises:
            psycopg.Error: the server could not count.
        """
        return self._counting.result()


def count_rows(connection: psycopg.Connection[Any], table: sql.Identifier) -> int:
    """Count the rows of a table."""
    with connection.transaction():
        # One worker is as fast as several, and the caller needs the cores.
        connection.execute("SET LOCAL max_parallel_workers_per_gather = 0")
        found = connection.execute(sql.SQL("SELECT count(*) FROM {}").format(table)).fetchone()
    assert found is not None
    return int(found[0])

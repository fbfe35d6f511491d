"""Write one version into a table of PostgreSQL, inside a transaction that the caller holds.

Rows that are replaced are removed before COPY adds the new ones, so no reader misses them: both become visible together.
"""

from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import closing, contextmanager
from typing import Any

import psycopg
import pyarrow as pa
from psycopg import sql

from sbert.runtime.prefetch import prefetch
from sbert.sync.destinations.base import Collection
from sbert.sync.destinations.postgres_binary import HEADER, TRAILER, TextArray, copy_content
from sbert.sync.destinations.postgres_columns import copy_types
from sbert.sync.watermark import Watermark

__all__ = ["PostgresLoad"]

NO_OPTIONS, FROZEN = sql.SQL(""), sql.SQL(", FREEZE")
"""Rows of a table that this transaction made need no further writing when they are first read."""
INDEX_MEMORY = "256MB"
"""Memory of the server for sorting the keys of a new table."""


class PostgresLoad:
    """The rows of one version on their way into a collection."""

    def __init__(
        self,
        connection: psycopg.Connection[Any],
        table: sql.Identifier,
        collection: Collection,
        set_watermark: Callable[[str, Watermark], None],
        *,
        is_new: bool,
    ) -> None:
        """Load into a collection.

        Args:
            connection: with an open transaction.
            table: of the collection.
            collection: its name and columns.
            set_watermark: writes the watermark of a collection by the same connection.
            is_new: whether this transaction made the table.
        """
        self._connection = connection
        self._table = table
        self._collection = collection
        self._set_watermark = set_watermark
        self._is_new = is_new
        self._types = copy_types(collection)
        self.num_rows_gained = 0
        """Rows that the server says it added, less those that it removed."""

    def upsert(self, blocks: Iterator[pa.Table]) -> int:
        """Insert or replace rows."""
        return self._insert(blocks) if self._is_new else self._replace(blocks)

    def _insert(self, blocks: Iterator[pa.Table]) -> int:
        num_rows = 0
        with self._copy(FROZEN) as copy:
            for rows, content in prefetch(((rows, self._encoded(rows)) for rows in prefetch(blocks, 2)), 2):
                copy.write(content)
                num_rows += len(rows)
        return num_rows

    def _replace(self, blocks: Iterator[pa.Table]) -> int:
        """Insert or replace rows. A block is encoded while the server removes its keys."""
        num_rows = 0
        with ThreadPoolExecutor(1, thread_name_prefix="encode") as pool:
            encoding = ((rows, pool.submit(self._encoded, rows)) for rows in blocks)
            with closing(prefetch(encoding, 1)) as pairs:
                for rows, content in pairs:
                    self.delete(iter([rows]))
                    with self._copy(NO_OPTIONS) as copy:
                        copy.write(content.result())
                    num_rows += len(rows)
        return num_rows

    def _encoded(self, rows: pa.Table) -> memoryview:
        return copy_content(rows, self._types)

    @contextmanager
    def _copy(self, options: sql.SQL) -> Iterator[psycopg.Copy]:
        """Begin and end a binary COPY into the collection."""
        columns = sql.SQL(", ").join(sql.Identifier(name) for name, _ in self._types)
        query = sql.SQL("COPY {} ({}) FROM STDIN (FORMAT binary{})").format(self._table, columns, options)
        with self._connection.cursor() as cursor:
            with cursor.copy(query) as copy:
                copy.write(HEADER)
                yield copy
                copy.write(TRAILER)
            self.num_rows_gained += cursor.rowcount

    def delete(self, blocks: Iterator[pa.Table]) -> int:
        """Remove rows by key."""
        query = sql.SQL(
            "DELETE FROM {} t USING unnest(%s::text[], %s::text[]) AS k(source, id) "
            "WHERE t.source = k.source AND t.id = k.id"
        ).format(self._table)
        num_rows = 0
        for keys in blocks:
            removed = self._connection.execute(query, [TextArray(keys["source"]), TextArray(keys["id"])])
            self.num_rows_gained -= removed.rowcount
            num_rows += len(keys)
        return num_rows

    def finish(self, watermark: Watermark) -> None:
        """Add the key of a new table and set the watermark: both become visible with the transaction's commit."""
        if self._is_new:
            self._connection.execute(sql.SQL("SET LOCAL maintenance_work_mem = {}").format(INDEX_MEMORY))
            self._connection.execute(sql.SQL("ALTER TABLE {} ADD PRIMARY KEY (id, source)").format(self._table))
        self._set_watermark(self._collection.name, watermark)

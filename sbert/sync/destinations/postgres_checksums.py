"""Checksums of buckets of rows that PostgreSQL keeps from one proof to the next, with the row versions that they are of.

PostgreSQL never changes a row in place. Each insert and each update writes a new row version, and the system column ``xmin``
of the version is the number of the transaction that wrote it (https://www.postgresql.org/docs/current/ddl-system-columns.html).
While keys and ``xmin`` of a bucket's rows stay as they were, the values of its rows and its checksum stay too. So the next
proof reads keys and ``xmin`` of all rows, and hashes the values of the other buckets only. It still makes the server read
every page that holds a value, so that the server's own page checksums are compared.

Checksums are used only where this reasoning holds, see `KeptChecksums.definition`. A number of ``xmin`` comes again after
2**32 transactions: a row would have to be changed in exactly that one to look unchanged. The checksums lie in the server
itself, so a server that is restored from a backup has the checksums that belong to its rows.
"""

from typing import Any

import numpy as np
import numpy.typing as npt
import psycopg
from psycopg import sql

__all__ = ["CHECKSUMS", "CHECKSUMS_COLUMNS", "KeptBuckets", "KeptChecksums"]

CHECKSUMS = "sbert_checksums"
"""Table of the checksums, one row for each collection."""
CHECKSUMS_COLUMNS = sql.SQL(
    "(name text, collection text, definition text NOT NULL, buckets bytea NOT NULL, PRIMARY KEY (name, collection))"
)
KeptBuckets = npt.NDArray[np.uint64]
"""Shape (buckets, 3): number of rows, exclusive or of the hashes of row versions, exclusive or of row hashes."""
BYTES_PER_BUCKET = 24
DEFINITION = sql.SQL(
    "SELECT concat_ws(' ', c.oid, pg_relation_filenode(c.oid), "
    "array_agg(concat_ws(' ', a.attname, a.attnum, a.atttypid, a.atttypmod, a.attmissingval::text) ORDER BY a.attnum)) "
    "FROM pg_class c JOIN pg_am m ON m.oid = c.relam JOIN pg_attribute a ON a.attrelid = c.oid "
    "WHERE c.oid = {rows}::regclass AND c.relkind = 'r' AND NOT c.relhassubclass AND m.amname = 'heap' AND a.attnum > 0 "
    "AND NOT a.attisdropped AND current_setting('data_checksums') = 'on' AND {may_use} "
    "GROUP BY c.oid HAVING bool_and(a.attgenerated = '')"
)
PRIVILEGES = ("SELECT", "INSERT", "UPDATE", "DELETE")


class KeptChecksums:
    """The checksums of one collection. Use them in the transaction that also reads the rows."""

    def __init__(self, connection: psycopg.Connection[Any], table: sql.Identifier, name: str, collection: str) -> None:
        """Refer to the checksums of a collection.

        Args:
            connection: of the destination.
            table: the table `CHECKSUMS` in the destination's schema.
            name: of the destination's view.
            collection: name of the collection's table.
        """
        self._connection = connection
        self._table = table
        self._key = name, collection

    def definition(self, rows: sql.Identifier, kind: str) -> str | None:
        """Return everything besides the row versions that the checksums depend on; None where no checksums may be kept.

        Checksums are kept for plain tables in PostgreSQL's own storage without computed columns and inheriting tables, and
        only where the server keeps checksums of its pages. Without those a proof that does not hash a vector could not
        notice a damaged disk. A user without rights on the table of checksums proves without them.

        Args:
            rows: table of the collection.
            kind: name of the functions that make the hashes.
        """
        query = DEFINITION.format(rows=sql.Literal(rows.as_string(self._connection)), may_use=self._may_use())
        found = self._connection.execute(query).fetchone()
        return None if found is None else f"{kind} {found[0]}"

    def _may_use(self) -> sql.Composed:
        """Return the SQL that tells whether the user may read and write the table of checksums."""
        name = sql.Literal(self._table.as_string(self._connection))
        return sql.SQL(" AND ").join(
            sql.SQL("has_table_privilege({}::regclass, {})").format(name, privilege) for privilege in PRIVILEGES
        )

    def read(self, definition: str, num_buckets: int) -> KeptBuckets | None:
        """Return the checksums that were kept under `definition`; None without any, or with another number of buckets."""
        query = sql.SQL("SELECT buckets FROM {} WHERE name = %s AND collection = %s AND definition = %s")
        found = self._connection.execute(
            query.format(self._table), [*self._key, definition], prepare=False, binary=True
        ).fetchone()
        if found is None or len(found[0]) != BYTES_PER_BUCKET * num_buckets:
            return None
        return np.frombuffer(found[0], "<u8").astype(np.uint64).reshape(num_buckets, 3)

    def write(self, definition: str, buckets: KeptBuckets) -> None:
        """Keep checksums in place of earlier ones."""
        query = sql.SQL(
            "INSERT INTO {} VALUES (%s, %s, %s, %s) ON CONFLICT (name, collection) "
            "DO UPDATE SET definition = EXCLUDED.definition, buckets = EXCLUDED.buckets"
        )
        self._connection.execute(query.format(self._table), [*self._key, definition, buckets.astype("<u8").tobytes()])

    def forget(self) -> None:
        """Remove the checksums, so that the next proof hashes every value; without rights on them nothing uses them."""
        may_use = self._connection.execute(sql.SQL("SELECT {}").format(self._may_use())).fetchone()
        if may_use is not None and may_use[0]:
            query = sql.SQL("DELETE FROM {} WHERE name = %s AND collection = %s")
            self._connection.execute(query.format(self._table), self._key)

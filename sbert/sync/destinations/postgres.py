"""PostgreSQL with pgvector: one transaction a version, a view that switches between encoders.

A location is ``postgresql://host:port/database#schema.name``. User and password come from the standard environment
(``PGUSER``, ``PGPASSWORD``, ``PGPASSFILE``, ``PGSERVICE``). Readers query the view ``schema.name``.
"""

import hashlib
import logging
import time
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from typing import Any, ClassVar, LiteralString

import psycopg
import psycopg.conninfo
import pyarrow as pa
import pyarrow.compute as pc
from psycopg import sql

from sbert.errors import DestinationError
from sbert.sync.destinations.base import Collection, Destination, Load, StoredRows
from sbert.sync.destinations.postgres_binary import TextArray, TextArrayDumper
from sbert.sync.destinations.postgres_checksums import CHECKSUMS, CHECKSUMS_COLUMNS, KeptChecksums
from sbert.sync.destinations.postgres_columns import FULL_TYPE_NAMES, collection_types, column_options
from sbert.sync.destinations.postgres_count import CountInBackground, count_rows
from sbert.sync.destinations.postgres_digests import PostgresDigester, content_of
from sbert.sync.destinations.postgres_load import PostgresLoad
from sbert.sync.watermark import Watermark
from sbert.table.erased_keys import ErasedKeys
from sbert.table.record_file import Keys

__all__ = ["PostgresDestination"]

log = logging.getLogger(__name__)

Query = LiteralString | sql.SQL | sql.Composed

MAX_NAME_BYTES = 48
"""PostgreSQL cuts identifiers at 63 bytes; a collection's name adds 14."""
MAX_INDEXED_DIM = 2_000
"""pgvector indexes ``vector`` columns up to this dim, and ``halfvec`` up to twice as many."""
MAX_INDEXED_HALF_DIM = 4_000
WATERMARKS = "sbert_watermarks"
CREATION_LOCK = int.from_bytes(hashlib.sha256(WATERMARKS.encode()).digest()[:8], "big", signed=True)
"""Advisory lock of a database, held while a connection creates what every sync needs."""
CONNECT_SECONDS = 15
"""Time that a connection waits for a server (seconds)."""
LOCK_RETRY_SECONDS = 0.2
MIN_SERVER_VERSION = 14
DAMAGED = (
    ": the server's disk is damaged: restore the server from a backup, or drop the view and its table and sync again"
)
MEANT = sql.SQL(
    "(t.id = ANY(%s::text[]) OR EXISTS "
    "(SELECT FROM unnest(%s::text[], %s::text[]) AS k(source, id) WHERE t.source = k.source AND t.id = k.id))"
)
"""Condition of the rows that an erasure removes."""


class PostgresDestination(Destination):
    """A view in PostgreSQL over the table of the current encoder."""

    scheme: ClassVar[str] = "postgresql"
    kept_by_store: ClassVar[str] = (
        "the write-ahead log, replicas, backups, and free space of its files until it is overwritten (VACUUM FULL does)"
    )

    lock_seconds: ClassVar[float] = 15.0
    """Time that `connect` waits for another sync or reconcile to end (seconds)."""

    def __init__(self, location: str, name: str, secret: str | None = None) -> None:
        """Refer to the view `name` (``schema.view``, or ``view`` in schema ``public``); `secret` is the password."""
        schema, _, view = name.rpartition(".")
        super().__init__(location, view, secret)
        self._schema = schema or "public"
        self._connection: psycopg.Connection[Any] | None = None
        self._counting: CountInBackground | None = None
        self._count_after_load: tuple[str, int] | None = None
        if not view or len(view.encode()) > MAX_NAME_BYTES:
            raise DestinationError(
                f"{location}#{name}: the name has {len(view.encode())} bytes, but 1 to {MAX_NAME_BYTES} are possible: "
                "choose another name after the #"
            )

    def connect(self) -> None:
        """Connect, create extension, schema and watermark table, and take the lock that keeps a second sync out."""
        with self._translated():
            self._connection = self._new_connection()
            self._check_version()
            self._connection.adapters.register_dumper(TextArray, TextArrayDumper)
            self._create_own_things()
            is_ours = self._lock()
        if not is_ours:
            raise DestinationError(f"{self}: another sync or reconcile is at work on it: wait until it has ended")
        kind = self._kind(self.name)
        if kind is not None and kind != "v":
            raise self.taken_by_another("table")

    def _new_connection(self) -> psycopg.Connection[Any]:
        connection = psycopg.connect(
            psycopg.conninfo.make_conninfo(self.location, **{"password": self.secret} if self.secret else {}),
            autocommit=True,
            connect_timeout=CONNECT_SECONDS,
            application_name="sbert",
        )
        with suppress(psycopg.Error):  # not on every system that PostgreSQL runs on
            connection.execute("SET client_connection_check_interval = '1s'")
        return connection

    def _check_version(self) -> None:
        version = self._open.info.server_version // 10_000
        if version < MIN_SERVER_VERSION:
            raise DestinationError(
                f"{self}: the server is PostgreSQL {version}, but {MIN_SERVER_VERSION} or newer is needed: upgrade it"
            )

    def _create_own_things(self) -> None:
        """Create extension, schema and watermark table where they are missing, one connection after the other.

        ``CREATE … IF NOT EXISTS`` of two connections at the same time fails in one of them. The other one may be another
        sync, or what a sync that was killed has left on the server.
        """
        with self._open.transaction():
            self._execute("SELECT pg_advisory_xact_lock(%s)", CREATION_LOCK)
            if not self._fetch_all("SELECT 1 FROM pg_extension WHERE extname = 'vector'"):
                self._execute(sql.SQL("CREATE EXTENSION IF NOT EXISTS vector"))
            self._execute(sql.SQL("CREATE SCHEMA IF NOT EXISTS {}").format(sql.Identifier(self._schema)))
            self._execute(
                sql.SQL(
                    "CREATE TABLE IF NOT EXISTS {} (name text, collection text, watermark jsonb NOT NULL, "
                    "PRIMARY KEY (name, collection))"
                ).format(self._table(WATERMARKS))
            )
            self._execute(sql.SQL("CREATE TABLE IF NOT EXISTS {} {}").format(self._table(CHECKSUMS), CHECKSUMS_COLUMNS))

    def _lock(self) -> bool:
        """Take the lock of the view. The server keeps the lock of a process that was killed until it notices the death."""
        key = int.from_bytes(hashlib.sha256(f"{self._schema}.{self.name}".encode()).digest()[:8], "big", signed=True)
        tried_until = time.monotonic() + self.lock_seconds
        while True:
            (is_ours,) = self._fetch_one("SELECT pg_try_advisory_lock(%s)", key)
            if is_ours or time.monotonic() >= tried_until:
                return bool(is_ours)
            time.sleep(LOCK_RETRY_SECONDS)

    def close(self) -> None:
        """Close the connections; an open transaction is rolled back."""
        self._end_count()
        if self._connection is not None:
            with suppress(psycopg.Error):
                self._connection.close()
            self._connection = None

    def watermarks(self) -> dict[str, Watermark]:
        """Return the watermarks by collection."""
        query = sql.SQL("SELECT collection, watermark::text FROM {} WHERE name = %s").format(self._table(WATERMARKS))
        return {name: Watermark.model_validate_json(text) for name, text in self._fetch_all(query, self.name)}

    def set_watermark(self, collection: str, watermark: Watermark) -> None:
        """Insert or replace a watermark."""
        self._execute(
            sql.SQL(
                "INSERT INTO {} VALUES (%s, %s, %s::jsonb) "
                "ON CONFLICT (name, collection) DO UPDATE SET watermark = EXCLUDED.watermark"
            ).format(self._table(WATERMARKS)),
            self.name,
            collection,
            watermark.model_dump_json(),
        )

    @contextmanager
    def begin(self, collection: Collection, watermark: Watermark) -> Iterator[Load]:  # noqa: ARG002  (one transaction)
        """Open the transaction of a version."""
        with self._translated(), self._open.transaction():
            is_new = self._kind(collection.name) is None
            if is_new:
                self._create(collection)
            else:
                self._check_columns(collection)
                # The index finds keys fastest, whatever the planner's statistics say.
                self._execute("SET LOCAL enable_seqscan = off")
            load = PostgresLoad(self._open, self._table(collection.name), collection, self.set_watermark, is_new=is_new)
            yield load
        counting = self._counting
        if counting is not None and counting.collection == collection.name:
            num_before = counting.result()
            if num_before is not None:
                self._count_after_load = collection.name, num_before + load.num_rows_gained
        self._end_count()

    def begin_count(self, collection: str) -> None:
        """Count the rows of now by another connection, while the caller computes what to write, and writes."""
        self._end_count()
        if self._kind(collection) is None:
            return  # somebody dropped the table
        connection = None
        try:
            connection = self._new_connection()
            self._counting = CountInBackground(connection, collection, self._table(collection))
        except psycopg.Error:  # no second connection, or no lock: `count` counts after the load
            if connection is not None:
                connection.close()

    def _end_count(self) -> None:
        if self._counting is not None:
            self._counting.end()
            self._counting = None

    def count(self, collection: str) -> int:
        """Count the rows. Right after a load this is their number before it, and by how many the server says it changed."""
        after_load, self._count_after_load = self._count_after_load, None
        if after_load is not None and after_load[0] == collection:
            return after_load[1]
        with self._translated():
            return count_rows(self._open, self._table(collection))

    def digester(self, collection: Collection) -> PostgresDigester:
        """Return the digester: the server hashes rows, so vectors do not travel."""
        with self._translated():
            rows = self._table(collection.name)
            kept = self._kept_checksums(collection.name)
            return PostgresDigester(self._open, rows, collection_types(collection), kept, self._translated)

    def forget_digests(self, collection: str) -> None:
        """Remove the checksums that proofs keep."""
        with self._translated():
            self._kept_checksums(collection).forget()

    def _kept_checksums(self, collection: str) -> KeptChecksums:
        return KeptChecksums(self._open, self._table(CHECKSUMS), self.name, collection)

    def keys(self, collection: Collection) -> Iterator[StoredRows]:
        """Read keys and hashes of all rows."""
        with self._translated():
            yield from self.digester(collection).rows(1, None)

    def content(self, rows: pa.Table, collection: Collection) -> Keys:
        """Hash rows as the server hashes them."""
        return content_of(self.digester(collection).digests(rows))

    def portable(self, rows: pa.Table) -> pa.Table:
        """Replace U+0000, which PostgreSQL cannot store in text, by U+FFFD."""
        for place, item in enumerate(rows.schema):
            if pa.types.is_string(item.type) and pc.any(pc.match_substring(rows[item.name], "\0")).as_py():
                log.warning("%s: PostgreSQL cannot store the character U+0000: column %r has U+FFFD in its place",
                            self, item.name)  # fmt: skip
                rows = rows.set_column(place, item, pc.replace_substring(rows[item.name], "\0", "\ufffd"))
        return rows

    def build_index(self, collection: Collection) -> None:
        """Build an HNSW index for the inner product of unit vectors, else for the cosine."""
        if collection.dim > MAX_INDEXED_HALF_DIM:
            log.warning("%s: pgvector indexes up to %d values, vectors have %d: search is exact, without an index",
                        self, MAX_INDEXED_HALF_DIM, collection.dim)  # fmt: skip
            return
        is_half = collection.dim > MAX_INDEXED_DIM
        kind = "halfvec" if is_half else "vector"
        column = f"(embedding::halfvec({collection.dim}))" if is_half else "embedding"
        distance = "ip" if collection.is_normalized else "cosine"
        self._execute(
            sql.SQL("CREATE INDEX IF NOT EXISTS {} ON {} USING hnsw ({} {})").format(
                sql.Identifier(f"{collection.name}_i"),
                self._table(collection.name),
                sql.SQL(column),
                sql.SQL(f"{kind}_{distance}_ops"),
            )
        )

    def visible(self) -> str | None:
        """Return the table that the view reads."""
        rows = self._fetch_all(
            "SELECT DISTINCT source.relname FROM pg_depend d JOIN pg_rewrite r ON r.oid = d.objid "
            "JOIN pg_class view ON view.oid = r.ev_class JOIN pg_namespace n ON n.oid = view.relnamespace "
            "JOIN pg_class source ON source.oid = d.refobjid "
            "WHERE d.classid = 'pg_rewrite'::regclass AND d.refclassid = 'pg_class'::regclass "
            "AND n.nspname = %s AND view.relname = %s AND source.oid <> view.oid",
            self._schema,
            self.name,
        )
        return str(rows[0][0]) if rows else None

    def switch(self, collection: Collection) -> None:
        """Replace the view in one transaction; readers wait for its end and see the new table."""
        view = self._table(self.name)
        with self._translated(), self._open.transaction():
            self._execute(sql.SQL("DROP VIEW IF EXISTS {}").format(view))
            self._execute(sql.SQL("CREATE VIEW {} AS SELECT * FROM {}").format(view, self._table(collection.name)))

    def drop(self, collection: str) -> None:
        """Drop a table, its watermark and its checksums in one transaction."""
        with self._translated(), self._open.transaction():
            self.forget_digests(collection)
            self._execute(sql.SQL("DROP TABLE IF EXISTS {}").format(self._table(collection)))
            self._execute(
                sql.SQL("DELETE FROM {} WHERE name = %s AND collection = %s").format(self._table(WATERMARKS)),
                self.name,
                collection,
            )

    def find(self, collection: str, keys: ErasedKeys) -> int:
        """Count the rows by id, or by source and id."""
        (number,) = self._fetch_one(
            sql.SQL("SELECT count(*) FROM {} t WHERE {}").format(self._table(collection), MEANT), *_key_arrays(keys)
        )
        return int(number)

    def erase(self, collection: str, keys: ErasedKeys) -> None:
        """Delete the rows, then vacuum: dead rows and their entries in indexes go."""
        self._execute(sql.SQL("DELETE FROM {} t WHERE {}").format(self._table(collection), MEANT), *_key_arrays(keys))
        self._execute(sql.SQL("VACUUM {}").format(self._table(collection)))

    def __str__(self) -> str:
        return f"{self.location}#{self._schema}.{self.name}"

    @property
    def _open(self) -> psycopg.Connection[Any]:
        assert self._connection is not None, "use the destination as a context manager"
        return self._connection

    def _table(self, name: str) -> sql.Identifier:
        return sql.Identifier(self._schema, name)

    def _create(self, collection: Collection) -> None:
        columns = [
            sql.SQL("{} {}").format(
                sql.Identifier(name),
                sql.SQL(kind.name + column_options(name)),
            )
            for name, kind in collection_types(collection)
        ]
        self._execute(sql.SQL("CREATE TABLE {} ({})").format(self._table(collection.name), sql.SQL(", ").join(columns)))

    def _check_columns(self, collection: Collection) -> None:
        """Raise `DestinationError` unless a table has the columns that its rows need."""
        query = (
            "SELECT a.attname, format_type(a.atttypid, a.atttypmod) FROM pg_attribute a "
            "JOIN pg_class c ON c.oid = a.attrelid JOIN pg_namespace n ON n.oid = c.relnamespace "
            "WHERE n.nspname = %s AND c.relname = %s AND a.attnum > 0 AND NOT a.attisdropped"
        )
        there = dict(self._fetch_all(query, self._schema, collection.name))
        needed = {name: FULL_TYPE_NAMES.get(kind.name, kind.name) for name, kind in collection_types(collection)}
        wrong = [
            f"{name} is {there.get(name, 'not there')}, needed is {kind}"
            for name, kind in needed.items()
            if there.get(name) != kind
        ]
        if wrong:
            raise DestinationError(
                f"{self}: the table {collection.name} was changed by someone else ({'; '.join(wrong)}): restore its "
                "columns, or drop view and table and sync again"
            )

    def _kind(self, name: str) -> str | None:
        rows = self._fetch_all(
            "SELECT c.relkind FROM pg_class c JOIN pg_namespace n ON n.oid = c.relnamespace "
            "WHERE n.nspname = %s AND c.relname = %s",
            self._schema,
            name,
        )
        kind = rows[0][0] if rows else None
        return kind.decode() if isinstance(kind, bytes) else kind

    def _execute(self, query: Query, *values: object) -> None:
        with self._translated():
            self._open.execute(query, values or None)

    def _fetch_all(self, query: Query, *values: object) -> list[tuple[Any, ...]]:
        with self._translated():
            return self._open.execute(query, values or None).fetchall()

    def _fetch_one(self, query: Query, *values: object) -> tuple[Any, ...]:
        return self._fetch_all(query, *values)[0]

    @contextmanager
    def _translated(self) -> Iterator[None]:
        """Translate errors of the client into `DestinationError`."""
        try:
            yield
        except psycopg.Error as error:
            text = " ".join(str(error).split())
            remedy = DAMAGED if isinstance(error, psycopg.errors.DataCorrupted) else ""
            raise DestinationError(f"{self}: {text or type(error).__name__}{remedy}") from error


def _key_arrays(keys: ErasedKeys) -> tuple[list[str], list[str], list[str]]:
    """Return the values of `MEANT`: ids, then sources and ids of the pairs, as PostgreSQL stores them."""
    pairs = sorted(keys.pairs)
    parts = sorted(keys.ids), [source for source, _ in pairs], [row_id for _, row_id in pairs]
    ids, sources, pair_ids = ([value.replace("\0", "\ufffd") for value in part] for part in parts)
    return ids, sources, pair_ids

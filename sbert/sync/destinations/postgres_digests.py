"""Hashes of rows that PostgreSQL computes and joins to checksums itself, so that rows do not travel to be compared.

Each column's bytes, as the server's ``*_send`` functions return them, are hashed with a seed of the column. A row's hash is
a hash of the exclusive or of these. The checksum of a bucket of keys is the exclusive or of its row hashes. Where both sides
have the same number of rows and the same checksum, the bucket's rows are equal. Checksums are kept in the server, and the
next proof computes those of buckets with rows that were written since (`postgres_checksums.py`).
"""

from collections.abc import Callable, Iterable, Iterator, Sequence
from contextlib import AbstractContextManager
from dataclasses import dataclass
from typing import Any

import numpy as np
import psycopg
import pyarrow as pa
from psycopg import sql

from sbert.errors import DestinationError
from sbert.sync.destinations.base import KEY_COLUMNS, BucketChecksums, RowDigester, RowDigests, StoredRows
from sbert.sync.destinations.postgres_binary import HASH, HEADER, TRAILER, ColumnType, field_bytes, vector_words
from sbert.sync.destinations.postgres_checksums import KeptBuckets, KeptChecksums
from sbert.sync.destinations.postgres_hash import hash_values, hash_words
from sbert.table.record_file import Keys

__all__ = ["PostgresDigester", "content_of"]

SEED = 0x5BE4_7000
"""The first of the seeds; the column's place is added."""
ROW_SEED = SEED - 1
ROWS_PER_READ = 16_384
WORK_MEMORY = "64MB"
"""Memory of the server for the checksums of all buckets; with PostgreSQL's 4 MB it would write them to disk."""
EVERY_ROW = sql.SQL("")
READ_ANYWAY = {*KEY_COLUMNS, "text_hash"}
"""The key's hash reads the key, and a text hash is shorter than a reference to a value that is stored apart from its row."""
PROBE = b"sbert", 7
"""Bytes and seed whose hash the server must compute as this library does."""


@dataclass(frozen=True)
class ServerHash:
    """A way to let the server compute lookup3 of bytes (`postgres_hash.py`)."""

    kind: str
    """Name of the digests that it makes."""
    template: str
    """SQL of the hash of ``{value}`` with the seed ``{seed}``."""
    added: np.uint64
    """What the server's function adds to the hash."""

    def sql(self, value: sql.Composable, seed: int | sql.Composable) -> sql.Composed:
        """Return the SQL that hashes bytes."""
        return sql.SQL(self.template).format(value=value, seed=seed)


HASH_OF_BYTES = ServerHash("postgresql-1", "hashbyteaextended({value}, {seed})", np.uint64(0))
"""From PostgreSQL 18 on."""
HASH_OF_ARRAY = ServerHash(
    "postgresql-array-1",
    "hash_array_extended(ARRAY[{value}], {seed})",
    np.uint64(31),
)
"""Before: of an array of one element, 31 and the element's hash (src/backend/utils/adt/arrayfuncs.c)."""
HAS_HASH_OF_BYTES = "SELECT to_regprocedure('hashbyteaextended(bytea, bigint)') IS NOT NULL"


class PostgresDigester(RowDigester):
    """Digests of the rows of one collection."""

    def __init__(
        self,
        connection: psycopg.Connection[Any],
        table: sql.Identifier,
        types: Sequence[tuple[str, ColumnType]],
        kept: KeptChecksums,
        translated: Callable[[], AbstractContextManager[None]],
    ) -> None:
        """Digest the columns `types` of `table`, with the checksums that earlier proofs kept.

        Args:
            connection: of the destination.
            table: of the collection.
            types: columns of the collection.
            kept: checksums of earlier proofs.
            translated: a context that translates errors of the client.

        Raises:
            DestinationError: the server computes other hashes than this library.
        """
        self._connection = connection
        self._table = table
        self._types = types
        self._kept = kept
        self._translated = translated
        (has_function,) = connection.execute(HAS_HASH_OF_BYTES).fetchone() or (False,)
        self._hashing = HASH_OF_BYTES if has_function else HASH_OF_ARRAY
        self.kind = self._hashing.kind
        probe = self._hashing.sql(sql.Literal(PROBE[0]), PROBE[1])
        answer = connection.execute(sql.SQL("SELECT {}").format(probe)).fetchone()
        expected = hash_values(pa.array([PROBE[0]], pa.large_binary()), PROBE[1]) + self._hashing.added
        if answer is None or answer[0] != expected.view(np.int64)[0]:
            raise DestinationError(
                "the server's hashes differ from those of PostgreSQL on a little-endian machine: rows cannot be "
                "compared on this server"
            )

    def digests(self, rows: pa.Table) -> RowDigests:
        """Return the digests of rows of the table."""
        digests = np.empty((len(rows), 3), np.uint64)
        combined = np.zeros(len(rows), np.uint64)
        for place, (name, kind) in enumerate(self._types):
            seed = SEED + place
            if kind.dim:
                hashes = hash_words(vector_words(rows, name, kind.dim), seed)
            else:
                values = field_bytes(rows, name, kind)
                hashes = hash_values(values, seed)
                if values.null_count:
                    hashes[~np.asarray(values.is_valid())] = np.uint64(seed) - self._hashing.added
            hashes += self._hashing.added
            if name in KEY_COLUMNS:
                digests[:, KEY_COLUMNS.index(name)] = hashes
            combined ^= hashes
        words_WN = np.ascontiguousarray(combined.byteswap().view("<u4").reshape(len(rows), 2).T)  # as int8send sends it
        digests[:, 2] = hash_words(words_WN, ROW_SEED) + self._hashing.added
        return digests

    def checksums(self, num_buckets: int) -> BucketChecksums:
        """Let the server count the rows of each bucket and join their hashes, but for buckets without new rows."""
        with self._translated(), self._connection.transaction():
            self._connection.execute("SET TRANSACTION ISOLATION LEVEL REPEATABLE READ")  # all queries see the same rows
            self._connection.execute(sql.SQL("SET LOCAL work_mem = {}").format(WORK_MEMORY))
            # The planner takes the number of buckets for that of rows, so it would sort the rows, vectors and all.
            self._connection.execute("SET LOCAL enable_sort = off")
            definition = self._kept.definition(self._table, self.kind)
            if definition is None:
                return self._joined(num_buckets, self._row_hash())
            before = self._kept.read(definition, num_buckets)
            if before is None:
                buckets = self._joined(num_buckets, self._version_hash(), self._row_hash())
            else:
                buckets = self._with_new_rows(before, num_buckets)
            if before is None or (buckets != before).any():
                self._kept.write(definition, buckets)
            return buckets[:, [0, 2]]

    def _with_new_rows(self, before: KeptBuckets, num_buckets: int) -> KeptBuckets:
        """Return the checksums of now: of buckets whose rows are those of before, the checksums of before."""
        versions = self._joined(num_buckets, self._version_hash())
        changed = np.flatnonzero((versions != before[:, :2]).any(axis=1))
        checksums = before[:, 2].copy()
        if len(changed):
            where = self._in_buckets(num_buckets, changed) if 2 * len(changed) < num_buckets else EVERY_ROW
            checksums[changed] = self._joined(num_buckets, self._row_hash(), where=where)[changed, 1]
        return np.column_stack([versions, checksums])

    def _joined(self, num_buckets: int, *hashes: sql.Composed, where: sql.Composable = EVERY_ROW) -> KeptBuckets:
        """Return the number of rows of each bucket and the exclusive ors of their hashes, shape (buckets, 1 + hashes)."""
        query = sql.SQL(
            "COPY (SELECT {bucket}, count(*), {hashes} FROM {table}{where} GROUP BY 1) TO STDOUT (FORMAT binary)"
        ).format(
            bucket=self._bucket(num_buckets),
            hashes=sql.SQL(", ").join(sql.SQL("bit_xor({})").format(one) for one in hashes),
            table=self._table,
            where=where,
        )
        with self._connection.cursor() as cursor, cursor.copy(query) as copy:
            content = b"".join(copy)
        num_fields = 2 + len(hashes)
        groups = np.frombuffer(
            content[len(HEADER) : -len(TRAILER)],
            [("fields", ">i2"), ("values", [("bytes", ">i4"), ("value", ">u8")], num_fields)],
        )["values"]["value"]
        checksums = np.zeros((num_buckets, num_fields - 1), np.uint64)
        checksums[groups[:, 0].astype(np.int64)] = groups[:, 1:]
        return checksums

    def rows(self, num_buckets: int, buckets: Sequence[int] | None) -> Iterator[StoredRows]:
        """Read keys and digests of the rows of some buckets, or of all."""
        where = EVERY_ROW if buckets is None else self._in_buckets(num_buckets, buckets)
        query = sql.SQL("COPY (SELECT source, id, {}, {}, {} FROM {}{}) TO STDOUT (FORMAT binary)").format(
            self._hash("source"), self._hash("id"), self._row_hash(), self._table, where
        )
        sources: list[str] = []
        ids: list[str] = []
        hashes: list[bytes] = []
        with self._translated(), self._connection.cursor() as cursor, cursor.copy(query) as copy:
            copy.set_types(["text", "text", "bytea", "bytea", "bytea"])
            for source, row_id, *digest in copy.rows():
                sources.append(source)
                ids.append(row_id)
                hashes += digest
                if len(ids) == ROWS_PER_READ:
                    yield _stored(sources, ids, hashes)
                    sources, ids, hashes = [], [], []
        if ids:
            yield _stored(sources, ids, hashes)

    def _bucket(self, num_buckets: int) -> sql.Composed:
        return sql.SQL("({} & {})").format(self._key_hash(), num_buckets - 1)

    def _in_buckets(self, num_buckets: int, buckets: Iterable[int]) -> sql.Composed:
        return sql.SQL(" WHERE {} = ANY({}::bigint[])").format(self._bucket(num_buckets), list(map(int, buckets)))

    def _key_hash(self) -> sql.Composed:
        return sql.SQL("({} # {})").format(self._hash("source"), self._hash("id"))

    def _version_hash(self) -> sql.Composed:
        """Return the SQL that hashes a row's key and the number of the transaction that wrote it.

        It makes the server read the pages of values that may be stored apart from their row.
        """
        reads = [
            self._hashing.sql(sql.Identifier(name), 0)
            if kind.reading == HASH
            else sql.SQL(kind.reading).format(sql.Identifier(name))
            for name, kind in self._types
            if kind.reading and name not in READ_ANYWAY
        ]
        seed = sql.SQL(" # ").join([self._key_hash(), *(sql.SQL("coalesce({}, 0)").format(read) for read in reads)])
        return self._hashing.sql(sql.SQL("xidsend(xmin)"), seed)

    def _hash(self, name: str) -> sql.Composed:
        """Return the SQL that hashes a column."""
        place, kind = next((place, kind) for place, (other, kind) in enumerate(self._types) if other == name)
        column, seed = sql.Identifier(name), SEED + place
        hashed = self._hashing.sql(sql.SQL("{}({})").format(sql.SQL(kind.send), column), seed)
        return sql.SQL("CASE WHEN {} IS NULL THEN {} ELSE {} END").format(column, seed, hashed)

    def _row_hash(self) -> sql.Composed:
        """Return the SQL that hashes a row."""
        combined = sql.SQL(" # ").join(self._hash(name) for name, _ in self._types)
        return self._hashing.sql(sql.SQL("int8send({})").format(combined), ROW_SEED)


def _stored(sources: list[str], ids: list[str], hashes: list[bytes]) -> StoredRows:
    keys = pa.table({"source": pa.array(sources, pa.string()), "id": pa.array(ids, pa.string())})
    digests = np.frombuffer(b"".join(hashes), ">u8").astype(np.uint64).reshape(len(ids), 3)
    return StoredRows(keys, content_of(digests), digests)


def content_of(digests: RowDigests) -> Keys:
    """Return digests of rows as content hashes of `Destination.keys`."""
    return np.stack([digests[:, 2], np.zeros(len(digests), np.uint64)], axis=1)

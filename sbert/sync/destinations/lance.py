"""LanceDB, in a folder or in object storage: each collection is a table, and a pointer says which version is complete.

A location is ``lancedb:/folder#name`` or ``lancedb:s3://bucket/prefix#name``. The table ``name`` is the pointer: a row for
each collection with the Lance version that holds everything of the watermark. `open_collection` reads it, so a reader
never sees a load that is half done. The pointer is replaced by one commit.
"""

import datetime as dt
import os
import warnings
from collections.abc import Iterator
from contextlib import AbstractContextManager, contextmanager
from typing import Any, ClassVar

os.environ.setdefault("LANCEDB_LOG", "error")  # read when it is imported; it warns that a new table is new

import lancedb
import pyarrow as pa

from sbert.errors import DestinationError
from sbert.storage.files import delta_storage_options
from sbert.sync.destinations.base import KEY_COLUMNS, Collection, Destination, Load, StoredRows, content_keys, errors_of
from sbert.sync.destinations.lance_rows import RowStream, as_lance, as_table_rows, lance_schema, merged_blocks
from sbert.sync.destinations.payload import in_parts
from sbert.sync.watermark import Watermark
from sbert.table.erased_keys import ErasedKeys
from sbert.table.record_file import Keys

__all__ = ["LanceDestination", "open_collection"]

POINTER_SCHEMA = pa.schema(
    [
        pa.field("collection", pa.string()),
        pa.field("lance_version", pa.int64()),
        pa.field("is_visible", pa.bool_()),
        pa.field("watermark", pa.string()),
    ]
)
ROWS_PER_READ = 16_384
ROWS_PER_MERGE = 65_536
"""Rows of one merge: each is a commit of its own in Lance."""
KEYS_PER_FILTER = 4_096
MIN_INDEXED_ROWS = 100_000
"""Below this, exact search is fast and an index cannot be trained well."""
KEEP_VERSIONS = dt.timedelta(days=1)
"""Readers that opened an older version can finish within this time."""


def open_collection(uri: str, name: str) -> Any:
    """Return the LanceDB table that holds the newest complete version, checked out at exactly that version.

    Args:
        uri: folder or object-store prefix of the database.
        name: the destination's name.

    Raises:
        DestinationError: nothing was synced to this name yet.
    """
    with LanceDestination(uri, name) as destination:
        return destination.open_visible()


class LanceDestination(Destination):
    """A pointer table in a LanceDB database."""

    scheme: ClassVar[str] = "lancedb"
    kept_by_store: ClassVar[str] = "copies of its folder, and object versions where the bucket keeps them"

    def __init__(self, location: str, name: str, secret: str | None = None) -> None:  # noqa: ARG002
        """Refer to `name` in the database at `location`; keys of object storage come from the environment."""
        super().__init__(location, name)
        self._database: Any = None

    def connect(self) -> None:
        """Open the database, and check that the pointer's name is free or ours."""
        with self._translated():
            self._database = lancedb.connect(
                self.location, storage_options=delta_storage_options(self.location) or None
            )
            if self._exists(self.name) and self._database.open_table(self.name).schema != POINTER_SCHEMA:
                raise self.taken_by_another("table")

    def close(self) -> None:
        """Let the database go."""
        self._database = None

    def watermarks(self) -> dict[str, Watermark]:
        """Return the watermarks by collection."""
        return {row["collection"]: Watermark.model_validate_json(row["watermark"]) for row in self._pointers()}

    def set_watermark(self, collection: str, watermark: Watermark) -> None:
        """Replace a collection's watermark."""
        rows = [
            row | {"watermark": watermark.model_dump_json()} if row["collection"] == collection else row
            for row in self._pointers()
        ]
        self._write_pointers(rows)

    @contextmanager
    def begin(self, collection: Collection, watermark: Watermark) -> Iterator[Load]:  # noqa: ARG002
        """Restore the version that the pointer names, which drops the rows of a killed load. Then load."""
        with self._translated():
            pointer = self._pointer(collection.name)
            if not self._exists(collection.name):
                table = self._database.create_table(collection.name, schema=lance_schema(collection))
            elif pointer is None:
                table = self._database.create_table(collection.name, schema=lance_schema(collection), mode="overwrite")
            else:
                table = self._database.open_table(collection.name)
                if table.version != pointer["lance_version"]:
                    table.checkout(pointer["lance_version"])
                    table.restore()
        yield LanceLoad(self, table, collection, is_new=pointer is None)

    def count(self, collection: str) -> int:
        """Count the rows of the complete version."""
        with self._translated():
            return int(self._at_pointer(collection).count_rows())

    def keys(self, collection: Collection) -> Iterator[StoredRows]:
        """Read all columns and hash them here."""
        with self._translated():
            table = self._at_pointer(collection.name)
            for batch in table.search().limit(table.count_rows()).to_batches(ROWS_PER_READ):
                rows = pa.Table.from_batches([batch]).select(collection.schema.names)
                if len(rows):
                    yield StoredRows(rows.select(KEY_COLUMNS), self.content(rows, collection))

    def content(self, rows: pa.Table, collection: Collection) -> Keys:
        """Hash rows in the table's own types."""
        return content_keys(as_table_rows(rows, collection))

    def build_index(self, collection: Collection) -> None:
        """Build an IVF-HNSW index for a large collection; LanceDB searches rows outside it exactly."""
        with self._translated():
            table = self._database.open_table(collection.name)
            if table.count_rows() >= MIN_INDEXED_ROWS and not table.list_indices():
                _create_index(table, "dot" if collection.is_normalized else "cosine")
            self._move_pointer(collection.name, table.version)

    def visible(self) -> str | None:
        """Return the collection that the pointer marks."""
        return next((row["collection"] for row in self._pointers() if row["is_visible"]), None)

    def switch(self, collection: Collection) -> None:
        """Mark another collection, by one commit of the pointer."""
        self._write_pointers([row | {"is_visible": row["collection"] == collection.name} for row in self._pointers()])

    def drop(self, collection: str) -> None:
        """Take a collection out of the pointer, then drop its table."""
        with self._translated():
            self._write_pointers([row for row in self._pointers() if row["collection"] != collection])
            if self._exists(collection):
                self._database.drop_table(collection)

    def collections(self) -> list[str]:
        """Return the tables of this destination, also the tables that the pointer does not name yet."""
        with self._translated():
            return [name for name in self._names() if name.startswith(f"{self.name}__")]

    def find(self, collection: str, keys: ErasedKeys) -> int:
        """Count the rows in every version of the table."""
        num_rows = 0
        with self._translated():
            table = self._database.open_table(collection)
            for version in [item["version"] for item in table.list_versions()]:
                table.checkout(version)
                num_rows += sum(table.count_rows(condition) for condition in _conditions(keys))
        return num_rows

    def erase(self, collection: str, keys: ErasedKeys) -> None:
        """Delete the rows, write all other rows to new files, build the index anew, and remove every older version.

        A delete only marks rows in LanceDB. They leave the files when their neighbours are written elsewhere.
        """
        with self._translated():
            pointer = self._pointer(collection)
            table = self._database.open_table(collection)
            if pointer is not None and table.version != pointer["lance_version"]:
                table.checkout(pointer["lance_version"])
                table.restore()
            for condition in _conditions(keys):
                table.delete(condition)
            table.update(where="true", values_sql={"source": "source"})
            for index in table.list_indices():
                metric = str(table.index_stats(index.name).distance_type)
                table.drop_index(index.name)
                _create_index(table, metric)
            table.optimize(cleanup_older_than=KEEP_VERSIONS)
            for _ in range(2):  # the pointer first: the version that it names must exist at every moment
                self._move_pointer(collection, int(table.version))
                with warnings.catch_warnings():
                    warnings.simplefilter("ignore")  # it warns that readers of older versions will fail, as they must
                    table.optimize(cleanup_older_than=dt.timedelta(0), delete_unverified=True)

    def open_visible(self) -> Any:
        """Return the visible collection's table at its complete version."""
        name = self.visible()
        if name is None:
            raise DestinationError(f"{self}: nothing was synced here yet: run `sbert sync TABLE {self}`")
        return self._at_pointer(name)

    def complete(self, collection: Collection, watermark: Watermark, lance_version: int) -> None:
        """Set a collection's watermark and Lance version by one commit of the pointer."""
        row = self._pointer(collection.name) or {"collection": collection.name, "is_visible": False}
        row |= {"lance_version": lance_version, "watermark": watermark.model_dump_json()}
        self._write_pointers([*(other for other in self._pointers() if other["collection"] != collection.name), row])

    def _exists(self, name: str) -> bool:
        return name in self._names()

    def _names(self) -> Iterator[str]:
        page = None
        while True:
            listed = self._database.list_tables(page_token=page)
            yield from listed.tables
            page = listed.page_token
            if not page:
                return

    def _pointers(self) -> list[dict[str, Any]]:
        with self._translated():
            if not self._exists(self.name):
                return []
            rows: list[dict[str, Any]] = self._database.open_table(self.name).to_arrow().to_pylist()
            return rows

    def _pointer(self, collection: str) -> dict[str, Any] | None:
        return next((row for row in self._pointers() if row["collection"] == collection), None)

    def _write_pointers(self, rows: list[dict[str, Any]]) -> None:
        with self._translated():
            content = pa.Table.from_pylist(rows, schema=POINTER_SCHEMA)
            self._database.create_table(self.name, data=content, schema=POINTER_SCHEMA, mode="overwrite")

    def _move_pointer(self, collection: str, lance_version: int) -> None:
        self._write_pointers(
            [
                row | {"lance_version": lance_version} if row["collection"] == collection else row
                for row in self._pointers()
            ]
        )

    def _at_pointer(self, collection: str) -> Any:
        pointer = self._pointer(collection)
        table = self._database.open_table(collection)
        if pointer is not None:
            table.checkout(pointer["lance_version"])
        return table

    def _translated(self) -> AbstractContextManager[None]:
        """Translate errors of the client into `DestinationError`."""
        return errors_of(self, OSError, RuntimeError, ValueError)


class LanceLoad:
    """Merges rows into a table; the pointer moves at the end."""

    def __init__(self, destination: LanceDestination, table: Any, collection: Collection, *, is_new: bool) -> None:
        """Load into `table`, which is empty when `is_new`."""
        self._destination = destination
        self._table = table
        self._collection = collection
        self._is_new = is_new

    def upsert(self, blocks: Iterator[pa.Table]) -> int:
        """Append to a new table as one stream, else merge by key."""
        schema = lance_schema(self._collection)
        if self._is_new:
            stream = RowStream(blocks, schema)
            try:
                with self._destination._translated():
                    self._table.add(pa.RecordBatchReader.from_batches(schema, stream.batches()))
            except DestinationError:
                if stream.error is not None:  # the rows could not be read, which is no fault of the store
                    raise stream.error from None
                raise
            return stream.num_rows
        num_rows = 0
        for rows in merged_blocks(blocks, ROWS_PER_MERGE):
            with self._destination._translated():
                merge = self._table.merge_insert(list(KEY_COLUMNS))
                merge.when_matched_update_all().when_not_matched_insert_all().execute(as_lance(rows, schema))
            num_rows += len(rows)
        return num_rows

    def delete(self, blocks: Iterator[pa.Table]) -> int:
        """Delete rows by key, source by source."""
        num_rows = 0
        for keys in merged_blocks(blocks, ROWS_PER_MERGE // 16):
            by_source: dict[str, list[str]] = {}
            for source, row_id in zip(keys["source"].to_pylist(), keys["id"].to_pylist(), strict=True):
                by_source.setdefault(source, []).append(row_id)
            for source, ids in by_source.items():
                with self._destination._translated():
                    self._table.delete(f"source = {quoted(source)} AND id IN ({', '.join(map(quoted, ids))})")
            num_rows += len(keys)
        return num_rows

    def finish(self, watermark: Watermark) -> None:
        """Merge small files, then move the pointer to the table's version."""
        with self._destination._translated():
            if not self._is_new:
                self._table.optimize(cleanup_older_than=KEEP_VERSIONS)
        self._destination.complete(self._collection, watermark, int(self._table.version))


def _create_index(table: Any, metric: str) -> None:
    table.create_index(metric=metric, vector_column_name="embedding", index_type="IVF_HNSW_SQ")


def _conditions(keys: ErasedKeys) -> Iterator[str]:
    """Yield conditions of the rows that an erasure means, of up to `KEYS_PER_FILTER` keys each."""
    by_source: dict[str, list[str]] = {}
    for source, row_id in sorted(keys.pairs):
        by_source.setdefault(source, []).append(row_id)
    groups: list[tuple[str, list[str]]] = [("", sorted(keys.ids))]
    groups += [(f"source = {quoted(source)} AND ", ids) for source, ids in by_source.items()]
    for prefix, ids in groups:
        for part in in_parts(ids, KEYS_PER_FILTER):
            yield f"{prefix}id IN ({', '.join(map(quoted, part))})"


def quoted(value: str) -> str:
    """Return a text as an SQL literal."""
    return "'" + value.replace("'", "''") + "'"

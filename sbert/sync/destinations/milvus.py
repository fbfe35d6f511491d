"""Milvus: entities keyed by a hash of (source, id), an alias that switches between encoders.

A location is ``milvus:http://host:19530#name``; ``milvus:/folder/file.db#name`` is Milvus Lite, the engine inside this
process. The token comes from ``MILVUS_TOKEN``. Readers search the alias ``name``. Kept columns are dynamic fields, which
filters name as they are.
"""

import json
import os
import re
from collections.abc import Iterator, Sequence
from contextlib import AbstractContextManager, contextmanager
from typing import Any, ClassVar

import numpy as np
import pyarrow as pa
from grpc import RpcError
from pymilvus import DataType, MilvusClient, MilvusException

from sbert.errors import DestinationError
from sbert.sync.destinations.base import Collection, Destination, Load, StoredRows, errors_of
from sbert.sync.destinations.payload import (
    handles_of,
    in_parts,
    key_digest,
    payload_content,
    payloads,
    requests_of,
    stored_keys,
    vectors_of,
)
from sbert.sync.watermark import Watermark
from sbert.table.erased_keys import ErasedKeys
from sbert.table.record_file import Keys

__all__ = ["MilvusDestination"]

MAX_TEXT_BYTES = 65_535
"""Bytes of one VARCHAR."""
MAX_FIELDS_BYTES = 65_536
"""Bytes of one entity's dynamic fields."""
ROWS_PER_REQUEST = 512
ROWS_PER_READ = 1_024
TIMEOUT_SECONDS = 60
STRONG = "Strong"
"""Every read sees every write before it."""
WATERMARK_FIELDS: tuple[tuple[str, DataType, dict[str, Any]], ...] = (
    ("key", DataType.VARCHAR, {"max_length": 256}),
    ("watermark", DataType.VARCHAR, {"max_length": MAX_TEXT_BYTES}),
    ("vector", DataType.FLOAT_VECTOR, {"dim": 2}),  # a collection must have a vector
)


class MilvusDestination(Destination):
    """An alias in Milvus over the collection of the current encoder."""

    scheme: ClassVar[str] = "milvus"
    kept_by_store: ClassVar[str] = "segments until its garbage collection removes them, the message queue and backups"

    def __init__(self, location: str, name: str, secret: str | None = None) -> None:
        """Refer to the alias `name` of the server or file at `location`; `secret` is the token."""
        super().__init__(location, name, secret or os.environ.get("MILVUS_TOKEN"))
        self._client: Any = None
        self._watermarks_name = f"{name}__watermarks"
        if not re.fullmatch(r"[A-Za-z_][A-Za-z0-9_]*", name):
            raise DestinationError(
                f"{self}: Milvus takes names of letters, digits and underscores: choose another name after the #"
            )

    def connect(self) -> None:
        """Connect, and check that no foreign collection has the alias' name."""
        with self._translated():
            self._client = MilvusClient(self.location, token=self.secret or "", timeout=TIMEOUT_SECONDS)
            names = self._client.list_collections()
        if self.name in names:
            raise self.taken_by_another("collection")

    def close(self) -> None:
        """Close the client."""
        if self._client is not None:
            self._client.close()
            self._client = None

    def watermarks(self) -> dict[str, Watermark]:
        """Return the watermarks by collection."""
        with self._translated():
            if not self._client.has_collection(self._watermarks_name):
                return {}
            self._make_ready(self._watermarks_name, WATERMARK_FIELDS, "L2")
            rows = self._client.query(
                self._watermarks_name, filter='key != ""', output_fields=["watermark"], consistency_level=STRONG
            )
        return {row["key"]: Watermark.model_validate_json(row["watermark"]) for row in rows}

    def set_watermark(self, collection: str, watermark: Watermark) -> None:
        """Replace a collection's watermark."""
        with self._translated():
            self._make_ready(self._watermarks_name, WATERMARK_FIELDS, "L2")
            row = {"key": collection, "vector": [0.0, 0.0], "watermark": watermark.model_dump_json()}
            self._client.upsert(self._watermarks_name, [row])

    @contextmanager
    def begin(self, collection: Collection, watermark: Watermark) -> Iterator[Load]:
        """Make the collection if it does not exist, note that a load begins, and load."""
        with self._translated():
            self._make_collection_ready(collection)
        self.set_watermark(collection.name, watermark)
        yield MilvusLoad(self, collection)

    def count(self, collection: str) -> int:
        """Count the entities."""
        with self._translated():
            rows = self._client.query(collection, filter="", output_fields=["count(*)"], consistency_level=STRONG)
        return int(rows[0]["count(*)"])

    def keys(self, collection: Collection) -> Iterator[StoredRows]:
        """Read all entities and hash them here."""
        with self._translated():
            self._make_collection_ready(collection)
            iterator = self._client.query_iterator(
                collection.name, batch_size=ROWS_PER_READ, output_fields=["*"], consistency_level=STRONG
            )
        try:
            while True:
                with self._translated():
                    rows = iterator.next()
                if not rows:
                    return
                items = [
                    {name: value for name, value in row.items() if name not in {"key", "embedding"}} for row in rows
                ]
                keys = stored_keys(*([row[name] for row in rows] for name in ("source", "id", "key")))
                vectors = np.array([row["embedding"] for row in rows], np.float32)
                yield StoredRows(keys, payload_content(items, vectors))
        finally:
            iterator.close()

    def content(self, rows: pa.Table, collection: Collection) -> Keys:
        """Hash rows as `keys` hashes entities."""
        return payload_content(payloads(rows), vectors_of(rows, collection))

    def build_index(self, collection: Collection) -> None:
        """Leave it to Milvus, which indexes by the AUTOINDEX that the collection was made with."""

    def visible(self) -> str | None:
        """Return the collection behind the alias."""
        with self._translated():
            for name in self._client.list_collections():
                if self.name in self._client.list_aliases(name).get("aliases", ()):
                    return str(name)
        return None

    def switch(self, collection: Collection) -> None:
        """Create the alias, or point it to another collection by one request."""
        with self._translated():
            if self.visible() is None:
                self._client.create_alias(collection.name, self.name)
            else:
                self._client.alter_alias(collection.name, self.name)

    def drop(self, collection: str) -> None:
        """Remove the collection, then its watermark."""
        with self._translated():
            if self._client.has_collection(collection):
                self._client.drop_collection(collection)
            if self._client.has_collection(self._watermarks_name):
                self._client.delete(self._watermarks_name, ids=[collection])

    def find(self, collection: str, keys: ErasedKeys) -> int:
        """Count the entities by id, or by the key that is made of source and id."""
        num_rows = 0
        for condition in _filters(keys):
            with self._translated():
                rows = self._client.query(
                    collection, filter=condition, output_fields=["count(*)"], consistency_level=STRONG
                )
            num_rows += int(rows[0]["count(*)"])
        return num_rows

    def erase(self, collection: str, keys: ErasedKeys) -> None:
        """Delete the entities, write everything to storage, and compact: a compaction drops deleted entities."""
        with self._translated():
            for condition in _filters(keys):
                self._client.delete(collection, filter=condition)
            self._client.flush(collection)
            self._client.compact(collection)

    def _make_collection_ready(self, collection: Collection) -> None:
        fields: list[tuple[str, DataType, dict[str, Any]]] = [
            ("key", DataType.VARCHAR, {"max_length": 64}),
            ("source", DataType.VARCHAR, {"max_length": MAX_TEXT_BYTES}),
            ("id", DataType.VARCHAR, {"max_length": MAX_TEXT_BYTES}),
            ("embedding", DataType.FLOAT_VECTOR, {"dim": collection.dim}),
        ]
        self._make_ready(collection.name, fields, "IP" if collection.is_normalized else "COSINE")

    def _make_ready(self, name: str, fields: Sequence[tuple[str, DataType, dict[str, Any]]], metric: str) -> None:
        """Make a collection with its index, and load it; finish this when a process was killed before the end.

        The last of the fields is the vector, and the first is the key.
        """
        if not self._client.has_collection(name):
            schema = MilvusClient.create_schema(auto_id=False, enable_dynamic_field=True)
            for place, (field, kind, options) in enumerate(fields):
                schema.add_field(field, kind, is_primary=place == 0, **options)
            self._client.create_collection(name, schema=schema, consistency_level=STRONG)
        if not self._client.list_indexes(name):
            index = self._client.prepare_index_params()
            index.add_index(fields[-1][0], index_type="AUTOINDEX", metric_type=metric)
            self._client.create_index(name, index)
        self._client.load_collection(name)

    def _translated(self) -> AbstractContextManager[None]:
        """Translate errors of the client into `DestinationError`."""
        return errors_of(self, MilvusException, RpcError, ValueError, OSError)


class MilvusLoad:
    """Sends entities in batches."""

    def __init__(self, destination: MilvusDestination, collection: Collection) -> None:
        """Load into `collection`."""
        self._destination = destination
        self._collection = collection

    def upsert(self, blocks: Iterator[pa.Table]) -> int:
        """Insert or replace entities."""
        num_rows = 0
        for rows in requests_of(blocks, ROWS_PER_REQUEST):
            vectors = vectors_of(rows, self._collection).tolist()
            entities = [
                {**item, "key": entity_key(item["source"], item["id"]), "embedding": vector}
                for item, vector in zip(payloads(rows), vectors, strict=True)
            ]
            for entity in entities:
                self._check(entity)
            with self._destination._translated():
                done = self._destination._client.upsert(self._collection.name, entities)
            if done["upsert_count"] != len(entities):
                raise DestinationError(
                    f"{self._destination}: the store took {done['upsert_count']} of {len(entities)} rows: run the sync again"
                )
            num_rows += len(rows)
        return num_rows

    def delete(self, blocks: Iterator[pa.Table]) -> int:
        """Remove entities by the hash of their key."""
        num_rows = 0
        for keys in requests_of(blocks, ROWS_PER_REQUEST):
            with self._destination._translated():
                self._destination._client.delete(self._collection.name, ids=handles_of(keys, entity_key))
            num_rows += len(keys)
        return num_rows

    def finish(self, watermark: Watermark) -> None:
        """Write everything to storage, then set the watermark."""
        with self._destination._translated():
            self._destination._client.flush(self._collection.name)
        self._destination.set_watermark(self._collection.name, watermark)

    def _check(self, entity: dict[str, Any]) -> None:
        """Refuse a row that Milvus cannot hold, by its key and size."""
        fields = {name: value for name, value in entity.items() if name not in {"key", "embedding"}}
        size = len(json.dumps(fields, ensure_ascii=False).encode())
        if size > MAX_FIELDS_BYTES:
            raise DestinationError(
                f"{self._destination}: row {entity['id']!r} of {entity['source']} has {size:,} bytes beside its vector, "
                f"but Milvus takes {MAX_FIELDS_BYTES:,}: keep fewer or shorter columns in the table"
            )


def _filters(keys: ErasedKeys) -> Iterator[str]:
    """Yield filters of the entities that an erasure means, of up to `ROWS_PER_REQUEST` keys each."""
    pair_keys = [entity_key(source, row_id) for source, row_id in sorted(keys.pairs)]
    for name, values in (("id", sorted(keys.ids)), ("key", pair_keys)):
        for part in in_parts(values, ROWS_PER_REQUEST):
            yield f"{name} in {json.dumps(part, ensure_ascii=False)}"


def entity_key(source: str, row_id: str) -> str:
    """Return the primary key of a row's entity: 32 hexadecimal digits."""
    return key_digest(source, row_id).hex()

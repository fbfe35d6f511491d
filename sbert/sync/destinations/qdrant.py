"""Qdrant: points with the row as payload, an alias that switches between encoders.

A location is ``qdrant:http://host:6333#name``; ``qdrant:/folder#name`` is the client's local mode, an imitation of the
server for trying out. The API key comes from ``QDRANT_API_KEY``. Readers search the alias ``name``.

Vectors of unit length are compared by their inner product, so that Qdrant stores them unchanged. For other encoders
Qdrant normalizes vectors by itself; the hash of their content then leaves the vector out.
"""

import os
import uuid
from collections.abc import Iterator
from contextlib import AbstractContextManager, contextmanager
from typing import Any, ClassVar

import numpy as np
import pyarrow as pa
from grpc import RpcError
from httpx import HTTPError
from qdrant_client import QdrantClient, models
from qdrant_client.http.exceptions import ApiException

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

__all__ = ["QdrantDestination"]

ROWS_PER_REQUEST = 512
ROWS_PER_READ = 2_048
TIMEOUT_SECONDS = 60
WATERMARK_POINT = str(uuid.UUID(int=1))
"""Watermarks of all collections are one point of a collection of their own."""


class QdrantDestination(Destination):
    """An alias in Qdrant over the collection of the current encoder."""

    scheme: ClassVar[str] = "qdrant"
    kept_by_store: ClassVar[str] = (
        "segments until its optimizer rewrites them, the write-ahead log, snapshots and replicas"
    )

    def __init__(self, location: str, name: str, secret: str | None = None) -> None:
        """Refer to the alias `name` of the server or folder at `location`; `secret` is the API key."""
        super().__init__(location, name, secret or os.environ.get("QDRANT_API_KEY"))
        self._client: QdrantClient | None = None
        self._watermarks_name = f"{name}__watermarks"

    def connect(self) -> None:
        """Connect, and check that no foreign collection has the alias' name."""
        with self._translated():
            if self.location.startswith(("http://", "https://")):
                self._client = QdrantClient(
                    url=self.location, api_key=self.secret, timeout=TIMEOUT_SECONDS, check_compatibility=False
                )
            else:
                self._client = QdrantClient(path=self.location)
            names = {item.name for item in self._open.get_collections().collections}
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
            if not self._open.collection_exists(self._watermarks_name):
                return {}
            points = self._open.retrieve(self._watermarks_name, [WATERMARK_POINT], with_payload=True)
        payload = (points[0].payload or {}) if points else {}
        return {name: Watermark.model_validate_json(text) for name, text in payload.items()}

    def set_watermark(self, collection: str, watermark: Watermark) -> None:
        """Replace a collection's watermark."""
        marks = {name: mark.model_dump_json() for name, mark in self.watermarks().items()}
        self._write_watermarks(marks | {collection: watermark.model_dump_json()})

    @contextmanager
    def begin(self, collection: Collection, watermark: Watermark) -> Iterator[Load]:
        """Make the collection if it does not exist, note that a load begins, and load."""
        with self._translated():
            if not self._open.collection_exists(collection.name):
                distance = models.Distance.DOT if collection.is_normalized else models.Distance.COSINE
                self._open.create_collection(
                    collection.name, vectors_config=models.VectorParams(size=collection.dim, distance=distance)
                )
        self.set_watermark(collection.name, watermark)
        yield QdrantLoad(self, collection)

    def count(self, collection: str) -> int:
        """Count the points exactly."""
        with self._translated():
            return int(self._open.count(collection, exact=True).count)

    def keys(self, collection: Collection) -> Iterator[StoredRows]:
        """Scroll through all points and hash them here."""
        offset: Any = None
        while True:
            with self._translated():
                points, offset = self._open.scroll(
                    collection.name, limit=ROWS_PER_READ, offset=offset, with_payload=True, with_vectors=True
                )
            if points:
                items = [point.payload or {} for point in points]
                vectors = np.array([point.vector for point in points], np.float32)
                keys = stored_keys(
                    [str(item.get("source", "")) for item in items],
                    [str(item.get("id", "")) for item in items],
                    [str(point.id) for point in points],
                )
                yield StoredRows(keys, payload_content(items, self._compared(vectors, collection)))
            if offset is None:
                return

    def content(self, rows: pa.Table, collection: Collection) -> Keys:
        """Hash rows as `keys` hashes points."""
        return payload_content(payloads(rows), self._compared(vectors_of(rows, collection), collection))

    def build_index(self, collection: Collection) -> None:
        """Leave it to Qdrant, which builds its HNSW index by itself while points arrive."""

    def visible(self) -> str | None:
        """Return the collection behind the alias."""
        with self._translated():
            aliases = self._open.get_aliases().aliases
        return next((item.collection_name for item in aliases if item.alias_name == self.name), None)

    def switch(self, collection: Collection) -> None:
        """Replace the alias by one request, which Qdrant carries out atomically."""
        steps: list[Any] = []
        if self.visible() is not None:
            steps.append(models.DeleteAliasOperation(delete_alias=models.DeleteAlias(alias_name=self.name)))
        steps.append(
            models.CreateAliasOperation(
                create_alias=models.CreateAlias(collection_name=collection.name, alias_name=self.name)
            )
        )
        with self._translated():
            self._open.update_collection_aliases(steps)

    def drop(self, collection: str) -> None:
        """Remove the collection, then its watermark."""
        with self._translated():
            self._open.delete_collection(collection)
        marks = {name: mark.model_dump_json() for name, mark in self.watermarks().items() if name != collection}
        self._write_watermarks(marks)

    def find(self, collection: str, keys: ErasedKeys) -> int:
        """Count the points, by the id in their payload, or by the point id that is made of source and id."""
        with self._translated():
            return sum(
                int(self._open.count(collection, count_filter=condition, exact=True).count)
                for condition in _filters(keys)
            )

    def erase(self, collection: str, keys: ErasedKeys) -> None:
        """Delete the points and wait."""
        with self._translated():
            for condition in _filters(keys):
                self._open.delete(collection, models.FilterSelector(filter=condition), wait=True)

    @property
    def _open(self) -> QdrantClient:
        assert self._client is not None, "use the destination as a context manager"
        return self._client

    def _write_watermarks(self, marks: dict[str, str]) -> None:
        with self._translated():
            if not self._open.collection_exists(self._watermarks_name):
                self._open.create_collection(
                    self._watermarks_name, vectors_config=models.VectorParams(size=1, distance=models.Distance.DOT)
                )
            point = models.PointStruct(id=WATERMARK_POINT, vector=[0.0], payload=marks)
            self._open.upsert(self._watermarks_name, [point], wait=True)

    @staticmethod
    def _compared(vectors: Any, collection: Collection) -> Any:
        return vectors if collection.is_normalized else np.zeros((len(vectors), 0), np.float32)

    def _translated(self) -> AbstractContextManager[None]:
        """Translate errors of the client into `DestinationError`."""
        return errors_of(self, ApiException, HTTPError, RpcError, RuntimeError, ValueError, OSError)


class QdrantLoad:
    """Sends points in batches and waits for each."""

    def __init__(self, destination: QdrantDestination, collection: Collection) -> None:
        """Load into `collection`."""
        self._destination = destination
        self._collection = collection

    def upsert(self, blocks: Iterator[pa.Table]) -> int:
        """Insert or replace points."""
        num_rows = 0
        for rows in requests_of(blocks, ROWS_PER_REQUEST):
            items = payloads(rows)
            batch = models.Batch(
                ids=[point_id(item["source"], item["id"]) for item in items],
                vectors=vectors_of(rows, self._collection).tolist(),
                payloads=items,
            )
            with self._destination._translated():
                self._destination._open.upsert(self._collection.name, batch, wait=True)
            num_rows += len(rows)
        return num_rows

    def delete(self, blocks: Iterator[pa.Table]) -> int:
        """Remove points by the id that is made of their key."""
        num_rows = 0
        for keys in requests_of(blocks, ROWS_PER_REQUEST):
            selector = models.PointIdsList(points=points_of(keys))
            with self._destination._translated():
                self._destination._open.delete(self._collection.name, selector, wait=True)
            num_rows += len(keys)
        return num_rows

    def finish(self, watermark: Watermark) -> None:
        """Set the watermark."""
        self._destination.set_watermark(self._collection.name, watermark)


def _filters(keys: ErasedKeys) -> Iterator[models.Filter]:
    """Yield filters of the points that an erasure means, of up to `ROWS_PER_REQUEST` keys each."""
    for ids in in_parts(sorted(keys.ids), ROWS_PER_REQUEST):
        yield models.Filter(must=[models.FieldCondition(key="id", match=models.MatchAny(any=list(ids)))])
    for pairs in in_parts(sorted(keys.pairs), ROWS_PER_REQUEST):
        points: list[Any] = [point_id(source, row_id) for source, row_id in pairs]
        yield models.Filter(must=[models.HasIdCondition(has_id=points)])


def points_of(keys: pa.Table) -> list[Any]:
    """Return the ids of the points of rows; a point that a person added may have a whole number for its id."""
    return [int(handle) if handle.isdigit() else handle for handle in handles_of(keys, point_id)]


def point_id(source: str, row_id: str) -> str:
    """Return the UUID that names a row's point."""
    return str(uuid.UUID(bytes=key_digest(source, row_id)))

"""The interface of a vector store that follows a table.

A destination is one name in a store, such as ``docs``, under which readers find the newest complete version of a table.
Behind the name there is one *collection* for each encoder and set of columns. A new encoder fills a new collection beside
the old one; `Destination.switch` then points the name to it in one step. The watermark of each collection is kept in the
store. A store without transactions marks it as incomplete while a load runs (`Watermark.is_complete`). It says that a
version is complete only after everything of the version is there.

To add a store, write a class with these methods and name it: a store of this library in `STORES` of `locate.py`, a store of
another package under that package's entry point group ``sbert.destinations``.
"""

import hashlib
from abc import ABC, abstractmethod
from collections.abc import Iterator, Sequence
from contextlib import AbstractContextManager, contextmanager
from dataclasses import dataclass, field
from typing import ClassVar, Protocol, Self

import numpy as np
import numpy.typing as npt
import polars as pl
import pyarrow as pa

from sbert.errors import DestinationError, SbertError
from sbert.sync.watermark import Watermark
from sbert.table.delta import Table
from sbert.table.duplicate_keys import row_keys
from sbert.table.erased_keys import ErasedKeys
from sbert.table.record_file import Keys
from sbert.table.shards import vector_matrix
from sbert.vectors.precision import Precision

__all__ = [
    "KEY_COLUMNS",
    "BucketChecksums",
    "Collection",
    "Destination",
    "Load",
    "RowDigester",
    "RowDigests",
    "StoredRows",
    "content_keys",
    "errors_of",
    "restored_rows",
]

KEY_COLUMNS = ("source", "id")
"""The key of a row, in the table and in every destination."""


@contextmanager
def errors_of(destination: object, *kinds: type[Exception]) -> Iterator[None]:
    """Raise errors of a store's client as `DestinationError`, which begins with the name of the destination."""
    try:
        yield
    except kinds as error:
        if isinstance(error, SbertError):
            raise
        raise DestinationError(f"{destination}: {' '.join(str(error).split())}") from error


@dataclass(frozen=True)
class Collection:
    """The rows of a table as a store holds them: columns, and the kind of their vectors."""

    name: str
    """Name of the collection in the store: the destination's name and a hash of encoder and columns."""
    schema: pa.Schema
    """Columns and Arrow types of the rows: ``source``, ``id``, ``text_hash``, ``embedding`` (list of float32), …"""
    dim: int
    is_normalized: bool
    encoder_fingerprint: str
    kept_columns: tuple[str, ...] = field(default=())

    @classmethod
    def of_table(cls, destination_name: str, table: Table) -> Self:
        """Return the collection that holds the rows of a version of a table."""
        base = {"id", "source", "text_hash", "embedding", "scale", "num_tokens", "truncated"}
        fields = [item for item in table.arrow_schema if item.name != "scale"]
        schema = pa.schema(
            [pa.field("embedding", pa.list_(pa.float32())) if item.name == "embedding" else item for item in fields]
        )
        digest = hashlib.sha256(f"{table.encoder.fingerprint}|{schema.to_string()}".encode()).hexdigest()
        return cls(
            name=f"{destination_name}__{digest[:12]}",
            schema=schema,
            dim=table.encoder.dim,
            is_normalized=table.encoder.normalized,
            encoder_fingerprint=table.encoder.fingerprint,
            kept_columns=tuple(item.name for item in schema if item.name not in base),
        )


def restored_rows(rows: pa.Table, table: Table) -> pa.Table:
    """Return rows of a table with float32 vectors, whatever precision the table stores, and without ``scale``."""
    if table.encoder.precision is Precision.FLOAT32:
        return rows
    vectors_ND = vector_matrix(rows, table.encoder.dim, table.encoder.precision)
    offsets = pa.array(range(0, (len(vectors_ND) + 1) * table.encoder.dim, table.encoder.dim), pa.int32())
    column = pa.ListArray.from_arrays(offsets, pa.array(vectors_ND.reshape(-1)))
    place = rows.schema.get_field_index("embedding")
    return rows.set_column(place, "embedding", column).drop_columns(["scale"])


def content_keys(rows: pa.Table) -> Keys:
    """Return a 128-bit hash of each row's values without its key, shape (rows, 2); comparable within this process only.

    Vectors are compared by their bytes, nested columns by their JSON.
    """
    names = [name for name in rows.schema.names if name not in KEY_COLUMNS]
    vectors = rows["embedding"].combine_chunks()
    vectors = vectors.chunk(0) if isinstance(vectors, pa.ChunkedArray) else vectors
    flat = vectors.flatten()
    width = flat.type.bit_width // 8 * (len(flat) // len(rows) if len(rows) else 0)
    frame = pl.from_arrow(rows.select(names).drop_columns(["embedding"]))
    assert isinstance(frame, pl.DataFrame)
    if len(rows):
        content = flat.buffers()[1].slice(flat.offset * (flat.type.bit_width // 8), width * len(rows))
        packed = pa.FixedSizeBinaryArray.from_buffers(pa.binary(width), len(rows), [None, content])
        frame = frame.with_columns(pl.Series("embedding", packed.cast(pa.binary())))
    nested = [name for name, kind in frame.schema.items() if kind.is_nested()]
    frame = frame.with_columns(pl.struct(name).struct.json_encode().alias(name) for name in nested)
    return row_keys(frame, *sorted(frame.columns))


RowDigests = npt.NDArray[np.uint64]
"""Shape (rows, 3): hashes of source, id and the whole row."""
BucketChecksums = npt.NDArray[np.uint64]
"""Shape (buckets, 2): number of rows, and the exclusive or of their row hashes."""


@dataclass(frozen=True)
class StoredRows:
    """A block of rows that a store holds: their keys, and a hash of every value that is compared."""

    keys: pa.Table
    """Columns ``source`` and ``id``; also ``handle``, the store's own name of the row, where it has one."""
    content: Keys
    """128 bits a row, shape (rows, 2): equal where the row equals the table's."""
    digests: RowDigests | None = None
    """The store's own digests of the rows, where it computes some (`RowDigester`)."""


class RowDigester(ABC):
    """Digests of rows that a store computes itself, and that this library computes from the table's rows.

    A digest is three numbers of 64 bits: a hash of the source, of the id, and of the whole row. The bucket of a row is
    the lowest bits of the exclusive or of the first two.
    """

    kind: str
    """Name of the functions that make the digests; other functions need another name."""

    @abstractmethod
    def digests(self, rows: pa.Table) -> RowDigests:
        """Return the digests of rows of the table, shape (rows, 3)."""

    @abstractmethod
    def checksums(self, num_buckets: int) -> BucketChecksums:
        """Return, for each bucket, the number of rows that the store holds and the checksum of their row hashes.

        Args:
            num_buckets: a power of two.
        """

    @abstractmethod
    def rows(self, num_buckets: int, buckets: Sequence[int] | None) -> Iterator[StoredRows]:
        """Read keys and digests of the rows of some buckets, or of all with None."""


class Load(Protocol):
    """One version on its way into a collection."""

    def upsert(self, blocks: Iterator[pa.Table]) -> int:
        """Insert rows, or replace the rows with the same key; return the number of rows.

        Args:
            blocks: rows with the columns of `Collection.schema`, a few thousand a block.

        Raises:
            DestinationError: when the store does not take every row.
        """

    def delete(self, blocks: Iterator[pa.Table]) -> int:
        """Remove rows by key and return the number of keys; a missing key is not an error.

        Args:
            blocks: keys, columns ``source`` and ``id``, and ``handle`` where `Destination.keys` returned it.
        """

    def finish(self, watermark: Watermark) -> None:
        """Make everything of this load visible together with its watermark."""


class Destination(ABC):
    """One name in a vector store. Use as a context manager: it holds a connection."""

    scheme: ClassVar[str]
    """The word that a location begins with, such as ``postgresql``."""
    kept_by_store: ClassVar[str] = "its logs, replicas, snapshots and backups"
    """Places inside the store that may keep removed rows, and that no client can reach; an erasure's receipt names them."""

    def __init__(self, location: str, name: str, secret: str | None = None) -> None:
        """Refer to `name` at `location`; neither holds a secret.

        Args:
            location: what stands between the scheme and the ``#``.
            name: what stands after the ``#``.
            secret: password, token or API key, where the environment does not hold it.
        """
        self.location = location
        self.name = name
        self.secret = secret

    def __enter__(self) -> Self:
        try:
            self.connect()
        except BaseException:
            self.close()  # the error may have come after a connection was opened
            raise
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def __str__(self) -> str:
        """Return the location that a person writes; it is shown and stored."""
        return f"{self.scheme}:{self.location}#{self.name}"

    def taken_by_another(self, kind: str) -> DestinationError:
        """Return the error of a destination whose name a table or collection of another program has."""
        return DestinationError(f"{self}: a {kind} of this name exists that sbert did not make: choose another name")

    @abstractmethod
    def connect(self) -> None:
        """Connect, and check that no table or collection of another program has the destination's name.

        Raises:
            DestinationError: when the store does not answer, refuses the credentials, or the name belongs to another
            program.
        """

    @abstractmethod
    def close(self) -> None:
        """Close the connection."""

    @abstractmethod
    def watermarks(self) -> dict[str, Watermark]:
        """Return the watermark of every collection of this destination, by the collection's name."""

    @abstractmethod
    def set_watermark(self, collection: str, watermark: Watermark) -> None:
        """Replace the watermark of a collection."""

    @abstractmethod
    def begin(self, collection: Collection, watermark: Watermark) -> AbstractContextManager[Load]:
        """Begin to bring a collection to a version; make the collection if it does not exist.

        Args:
            collection: where rows go.
            watermark: the version that the load brings, not complete yet. A store without transactions keeps it at
                once, so that a load that dies is known.
        """

    @abstractmethod
    def count(self, collection: str) -> int:
        """Return the number of rows of a collection."""

    def begin_count(self, collection: str) -> None:  # noqa: B027  (most stores count at once)
        """Let the store begin to count the rows of a collection, so that `count` after the load has less to wait for."""

    @abstractmethod
    def keys(self, collection: Collection) -> Iterator[StoredRows]:
        """Read the keys, and a hash of the content, of all rows of a collection, in blocks."""

    @abstractmethod
    def content(self, rows: pa.Table, collection: Collection) -> Keys:
        """Return the content hashes that `keys` would return if the store held `rows` unchanged."""

    def digester(self, collection: Collection) -> RowDigester | None:  # noqa: ARG002
        """Return the digester of a collection, in stores that compute digests themselves; None in all others.

        With it a comparison reads only rows of the buckets that differ, and `keys` and `content` are not called.
        """
        return None

    def forget_digests(self, collection: str) -> None:  # noqa: B027  (most stores keep none)
        """Forget the digests of a collection that the store keeps from one proof to the next."""

    def portable(self, rows: pa.Table) -> pa.Table:
        """Return rows with values that the store can hold; stores that hold every value return `rows`."""
        return rows

    @abstractmethod
    def build_index(self, collection: Collection) -> None:
        """Make nearest-neighbour search in a collection fast, if the store does not do so by itself."""

    def collections(self) -> list[str]:
        """Return every collection of this destination, also the collections that a killed load left without a watermark."""
        return sorted(self.watermarks())

    def find(self, collection: str, keys: ErasedKeys) -> int:  # noqa: ARG002
        """Return the number of rows of a collection, in every version that the store keeps, that have one of the keys.

        Raises:
            DestinationError: the store of this class cannot look for keys.
        """
        raise DestinationError(f"{self}: this store has no way to look for keys: erase there by hand")

    def erase(self, collection: str, keys: ErasedKeys) -> None:  # noqa: ARG002
        """Remove rows for good: from readers, from older versions and, as far as a client can, from the store's files.

        The call may be repeated, also for rows that are gone already.

        Raises:
            DestinationError: the store of this class cannot erase.
        """
        raise DestinationError(f"{self}: this store has no way to erase: erase there by hand")

    @abstractmethod
    def visible(self) -> str | None:
        """Return the name of the collection that readers see under the destination's name; None before the first."""

    @abstractmethod
    def switch(self, collection: Collection) -> None:
        """Point the destination's name to a collection, in one step."""

    @abstractmethod
    def drop(self, collection: str) -> None:
        """Remove a collection and its watermark. The collection that readers see is never dropped."""

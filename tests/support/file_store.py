"""A vector store of your own: a folder with one Parquet file and one JSON file a collection. Complete, small, and slow.

`sbert.sync.destinations.base` says what each method must do.
"""

import json
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import ClassVar

import polars as pl
import pyarrow as pa
import pyarrow.parquet as pq

from sbert.sync.destinations.base import KEY_COLUMNS, Collection, Destination, Load, StoredRows, content_keys
from sbert.sync.watermark import Watermark
from sbert.table.record_file import Keys

__all__ = ["FileStoreDestination"]


class FileStoreDestination(Destination):
    """A name in a folder; readers read the collection that ``NAME.current`` names."""

    scheme: ClassVar[str] = "filestore"

    def connect(self) -> None:
        """Make the folder."""
        self._folder = Path(self.location)
        self._folder.mkdir(parents=True, exist_ok=True)

    def close(self) -> None:
        """Do nothing."""

    def watermarks(self) -> dict[str, Watermark]:
        """Read the watermark beside each collection."""
        files = sorted(self._folder.glob(f"{self.name}__*.json"))
        return {file.stem: Watermark.model_validate_json(file.read_text()) for file in files}

    def set_watermark(self, collection: str, watermark: Watermark) -> None:
        """Write the watermark beside the collection."""
        (self._folder / f"{collection}.json").write_text(watermark.model_dump_json())

    @contextmanager
    def begin(self, collection: Collection, watermark: Watermark) -> Iterator[Load]:
        """Hold the rows in memory until the load ends."""
        yield FileStoreLoad(self, collection)

    def count(self, collection: str) -> int:
        """Count the rows."""
        return int(pq.read_metadata(self._folder / f"{collection}.parquet").num_rows)

    def keys(self, collection: Collection) -> Iterator[StoredRows]:
        """Read all rows."""
        rows = self.read(collection)
        yield StoredRows(rows.select(KEY_COLUMNS), content_keys(rows))

    def content(self, rows: pa.Table, collection: Collection) -> Keys:
        """Hash rows as `keys` does."""
        return content_keys(rows)

    def build_index(self, collection: Collection) -> None:
        """Do nothing: search is exact."""

    def visible(self) -> str | None:
        """Return the collection that readers see."""
        current = self._folder / f"{self.name}.current"
        return str(json.loads(current.read_text())) if current.exists() else None

    def switch(self, collection: Collection) -> None:
        """Replace the pointer in one step."""
        new = self._folder / f"{self.name}.new"
        new.write_text(json.dumps(collection.name))
        new.replace(self._folder / f"{self.name}.current")

    def drop(self, collection: str) -> None:
        """Remove both files."""
        for ending in ("parquet", "json"):
            (self._folder / f"{collection}.{ending}").unlink(missing_ok=True)

    def read(self, collection: Collection) -> pa.Table:
        """Read a collection; empty before its first load."""
        file = self._folder / f"{collection.name}.parquet"
        return pq.read_table(file).cast(collection.schema) if file.exists() else collection.schema.empty_table()

    def write(self, collection: Collection, rows: pa.Table) -> None:
        """Replace a collection in one step."""
        new = self._folder / f"{collection.name}.new"
        pq.write_table(rows, new)
        new.replace(self._folder / f"{collection.name}.parquet")


class FileStoreLoad:
    """The rows of a collection on their way to a version."""

    def __init__(self, destination: FileStoreDestination, collection: Collection) -> None:
        """Begin with the rows that are there."""
        self._destination = destination
        self._collection = collection
        self._rows = destination.read(collection)

    def upsert(self, blocks: Iterator[pa.Table]) -> int:
        """Replace rows by key."""
        num_rows = 0
        for rows in blocks:
            self.delete(iter([rows]))
            self._rows = pa.concat_tables([self._rows, rows.cast(self._collection.schema)])
            num_rows += len(rows)
        return num_rows

    def delete(self, blocks: Iterator[pa.Table]) -> int:
        """Remove rows by key."""
        num_keys = 0
        for keys in blocks:
            frames = [pl.from_arrow(table.select(KEY_COLUMNS)) for table in (self._rows, keys)]
            there, removed = (frame for frame in frames if isinstance(frame, pl.DataFrame))
            places = there.with_row_index("place").join(removed, on=KEY_COLUMNS, how="anti")["place"].sort()
            self._rows = self._rows.take(places.to_arrow())
            num_keys += len(keys)
        return num_keys

    def finish(self, watermark: Watermark) -> None:
        """Write rows, then watermark."""
        self._destination.write(self._collection, self._rows)
        self._destination.set_watermark(self._collection.name, watermark)

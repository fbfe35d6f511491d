"""Prove row by row that a destination equals its table, and repair the rows that differ.

Every key and every content of both sides is compared: text hash, vector and kept columns. The proof is exact but for a
collision of hashes. A store that hashes its rows itself is compared by checksums of buckets first (`bucket_comparison`).
"""

import datetime as dt
import tempfile
import time
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from typing import IO, Self

import numpy as np
import pyarrow as pa
import pyarrow.ipc
from pydantic import BaseModel, ConfigDict, Field

from sbert.counted import counted
from sbert.errors import DestinationError
from sbert.runtime.prefetch import prefetch
from sbert.sync.bucket_comparison import compare_buckets
from sbert.sync.destinations.base import Collection, Destination
from sbert.sync.destinations.locate import open_destination
from sbert.sync.note_destination import note_destination
from sbert.sync.row_comparison import RowComparison, RowDifferences
from sbert.sync.table_rows import keys_of, read_rows, rows_at, table_rows_at
from sbert.sync.watermark import Watermark
from sbert.table.delta import Table

__all__ = ["CopyComparison", "ReconcileReport", "compare", "reconcile", "repair", "watermark_of"]

NAMED_KEYS = 20
"""Keys of each kind that a report names; the counts are of all."""


class RowKey(BaseModel):
    """A row's key."""

    model_config = ConfigDict(frozen=True)

    source: str
    id: str


class ReconcileReport(BaseModel):
    """The result of comparing a destination with its table."""

    model_config = ConfigDict(frozen=True)

    table_uri: str
    destination: str
    collection: str = Field(description="The collection that was compared.")
    version: int = Field(description="The table version that the destination says to hold, and was compared with.")
    newest_version: int = Field(description="The newest version of the table.")
    encoder_fingerprint: str
    is_equal: bool = Field(description="Whether both sides are equal now.")
    was_equal: bool = Field(description="Whether both sides were equal before a repair.")
    num_rows: int = Field(description="Rows of the table version.")
    num_missing: int = Field(description="Rows that the destination lacked.")
    num_extra: int = Field(description="Rows that only the destination had.")
    num_stale: int = Field(description="Rows that the destination had with other content.")
    missing: list[RowKey] = Field(description=f"The first {NAMED_KEYS} missing rows.")
    extra: list[RowKey] = Field(description=f"The first {NAMED_KEYS} extra rows.")
    stale: list[RowKey] = Field(description=f"The first {NAMED_KEYS} stale rows.")
    is_repaired: bool = Field(default=False, description="Whether this run mended the differences.")
    seconds: float = 0.0

    def summary(self) -> str:
        """Return the outcome in one line."""
        if self.was_equal:
            return f"Equal to version {self.version}: {counted(self.num_rows, 'row')}"
        verdict = "Mended" if self.is_equal else "Not equal"
        counts = f"{counted(self.num_missing, 'missing row')}, {self.num_stale:,} stale, {self.num_extra:,} extra"
        return f"{verdict}, version {self.version}: {counts}"


class _KeyFile:
    """Writes blocks of keys to a file, one after the other."""

    def __init__(self, file: IO[bytes]) -> None:
        self._file = file
        self._writer: pa.RecordBatchStreamWriter | None = None

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        if self._writer is not None:
            self._writer.close()

    def write(self, keys: pa.Table) -> None:
        """Append a block."""
        if self._writer is None:
            self._writer = pa.ipc.new_stream(self._file, keys.schema)
        self._writer.write_table(keys)


class CopyComparison:
    """The differences between a table version and a collection, and the rows that mend them."""

    def __init__(
        self, table: Table, destination: Destination, collection: Collection, *, recompute: bool = False
    ) -> None:
        """Compare on entering; hold the keys of the collection in a temporary file until the exit."""
        self._recompute = recompute
        self._table = table
        self._destination = destination
        self._collection = collection
        self._keys_file: IO[bytes] = tempfile.TemporaryFile(prefix="sbert-copy-keys-")  # noqa: SIM115
        self.differences: RowDifferences
        self.num_table_rows = 0

    def __enter__(self) -> Self:
        try:
            self._compare()
        except BaseException:
            self._keys_file.close()
            raise
        return self

    def _compare(self) -> None:
        digester = self._destination.digester(self._collection)
        with RowComparison() as rows, _KeyFile(self._keys_file) as keys:
            if digester is not None:
                compare_buckets(
                    self._table,
                    self._destination,
                    self._collection,
                    digester,
                    rows,
                    keys.write,
                    recompute=self._recompute,
                )
            else:
                self._compare_all(rows, keys)
            self.differences = rows.differences()
            self.num_table_rows = rows.num_table_rows

    def _compare_all(self, rows: RowComparison, keys: "_KeyFile") -> None:
        """Add every row of both sides, each side in a thread of its own."""
        with ThreadPoolExecutor(1, thread_name_prefix="copy") as pool:
            copy_side = pool.submit(self._read_copy, rows, keys)
            for block in prefetch(read_rows(self._table, self._destination), 2):
                rows.add_table_rows(keys_of(block), self._destination.content(block, self._collection))
                if copy_side.done() and copy_side.exception() is not None:
                    break
            copy_side.result()

    def __exit__(self, *_: object) -> None:
        self._keys_file.close()

    @property
    def is_equal(self) -> bool:
        """Return whether nothing differs."""
        differences = self.differences
        return not (len(differences.missing) or len(differences.stale) or len(differences.extra))

    def upserts(self) -> Iterator[pa.Table]:
        """Read the table's rows that are missing or stale."""
        places = np.union1d(self.differences.missing, self.differences.stale)
        return table_rows_at(self._table, self._destination, places)

    def deletes(self) -> Iterator[pa.Table]:
        """Read the keys that only the collection has."""
        return rows_at(self._copy_keys(), self.differences.extra) if len(self.differences.extra) else iter(())

    def repeated(self) -> Iterator[pa.Table]:
        """Read the keys that the collection has more than once."""
        return rows_at(self._copy_keys(), self.differences.repeated) if len(self.differences.repeated) else iter(())

    def named(self, kind: str) -> list[RowKey]:
        """Return the first keys of the missing, stale or extra rows."""
        places = getattr(self.differences, kind)[:NAMED_KEYS]
        if not len(places):
            return []
        is_of_copy = kind == "extra"
        tables = (
            rows_at(self._copy_keys(), places) if is_of_copy else table_rows_at(self._table, self._destination, places)
        )
        return [
            RowKey(source=source, id=row_id)
            for keys in tables
            for source, row_id in zip(keys["source"].to_pylist(), keys["id"].to_pylist(), strict=True)
        ]

    def _read_copy(self, rows: RowComparison, keys: "_KeyFile") -> None:
        """Add the collection's rows, and keep their keys."""
        for stored in self._destination.keys(self._collection):
            keys.write(stored.keys)
            rows.add_copy_rows(keys_of(stored.keys), stored.content)

    def _copy_keys(self) -> Iterator[pa.Table]:
        self._keys_file.seek(0)
        with pa.ipc.open_stream(self._keys_file) as reader:
            for batch in reader:
                yield pa.Table.from_batches([batch])


def compare(
    table: Table, destination: Destination, collection: Collection, *, recompute: bool = False
) -> CopyComparison:
    """Compare every row of a table version with a collection; use the result as a context manager.

    Args:
        table: the version.
        destination: where the collection is.
        collection: the rows to compare.
        recompute: hash every row anew, also rows of which an earlier comparison has kept hashes.
    """
    return CopyComparison(table, destination, collection, recompute=recompute)


def repair(
    table: Table, destination: Destination, collection: Collection, comparison: CopyComparison
) -> tuple[int, int]:
    """Upsert missing and stale rows, then delete extra rows; return both numbers of rows."""
    earlier = destination.watermarks().get(collection.name)
    with destination.begin(collection, watermark_of(table, is_complete=False, earlier=earlier)) as load:
        load.delete(comparison.repeated())
        num_upserts = load.upsert(comparison.upserts())
        num_deletes = load.delete(comparison.deletes())
        load.finish(watermark_of(table, is_complete=True, earlier=earlier))
    return num_upserts, num_deletes


def reconcile(
    table_uri: str,
    location: str,
    *,
    repair_differences: bool = False,
    recompute: bool = False,
    secret: str | None = None,
) -> ReconcileReport:
    """Compare a destination with the table version that its watermark names; optionally mend just the differences.

    Args:
        table_uri: the table.
        location: the destination, see `open_destination`.
        repair_differences: mend what differs, then prove again.
        recompute: hash every row anew on both sides. Otherwise hashes serve that an earlier comparison kept, of rows that
            were not written since.
        secret: password, token or API key, where the environment does not hold it.

    Raises:
        DestinationError: the destination holds nothing yet, or rows of another table.
    """
    began = time.monotonic()
    newest = Table.open(table_uri)
    with open_destination(location, secret) as destination:
        table, collection, mark = _version_shown(newest, destination)
        with compare(table, destination, collection, recompute=recompute) as comparison:
            was_equal = comparison.is_equal and mark.is_complete
            report = ReconcileReport(
                table_uri=table.uri,
                destination=str(destination),
                collection=collection.name,
                version=table.version,
                newest_version=newest.version,
                encoder_fingerprint=mark.encoder_fingerprint,
                is_equal=was_equal,
                was_equal=was_equal,
                num_rows=comparison.num_table_rows,
                num_missing=len(comparison.differences.missing),
                num_extra=len(comparison.differences.extra),
                num_stale=len(comparison.differences.stale),
                missing=comparison.named("missing"),
                extra=comparison.named("extra"),
                stale=comparison.named("stale"),
            )
            if repair_differences and not was_equal:
                repair(table, destination, collection, comparison)
        if report.is_equal:
            destination.set_watermark(collection.name, proven(mark))
        elif repair_differences:
            with compare(table, destination, collection) as again:
                is_equal = again.is_equal
            if is_equal:
                destination.set_watermark(collection.name, proven(watermark_of(table, is_complete=True)))
            report = report.model_copy(update={"is_equal": is_equal, "is_repaired": is_equal})
        num_rows = report.num_rows + (0 if report.is_equal else report.num_extra - report.num_missing)
        note_destination(
            table.uri,
            destination,
            destination.watermarks()[collection.name],
            num_rows=num_rows,
            is_equal=report.is_equal,
        )
        return report.model_copy(update={"seconds": round(time.monotonic() - began, 3)})


def _version_shown(newest: Table, destination: Destination) -> tuple[Table, Collection, Watermark]:
    """Return the table version that readers of a destination see, its collection, and the watermark that names it.

    Raises:
        DestinationError: the destination holds nothing yet, or rows of another table.
    """
    marks = destination.watermarks()
    visible = destination.visible()
    if visible is None or visible not in marks:
        raise DestinationError(f"{destination}: nothing was synced here yet: run `sbert sync` first")
    mark = marks[visible]
    check_same_table(newest, mark, destination)
    table = Table.open(newest.uri, mark.version)
    collection = Collection.of_table(destination.name, table)
    if collection.name != visible:
        raise DestinationError(
            f"{destination}: readers see the collection {visible}, but version {mark.version} of {table.uri} belongs "
            f"into {collection.name}: run `sbert sync`"
        )
    return table, collection, mark


def watermark_of(table: Table, *, is_complete: bool, earlier: Watermark | None = None) -> Watermark:
    """Return the watermark of a table version, with the newest proof of the watermark `earlier`."""
    is_same_table = earlier is not None and earlier.table_id == table.table_id
    return Watermark(
        table_uri=table.uri,
        table_id=table.table_id,
        version=table.version,
        is_complete=is_complete,
        encoder=table.encoder.model,
        encoder_fingerprint=table.encoder.fingerprint,
        dim=table.encoder.dim,
        num_rows=table.num_rows,
        synced_at=dt.datetime.now(dt.UTC),
        proven_version=earlier.proven_version if earlier is not None and is_same_table else None,
        proven_at=earlier.proven_at if earlier is not None and is_same_table else None,
    )


def proven(mark: Watermark) -> Watermark:
    """Return a watermark that says that its version was found equal now."""
    return mark.model_copy(update={"proven_version": mark.version, "proven_at": dt.datetime.now(dt.UTC)})


def check_same_table(table: Table, mark: Watermark, destination: Destination) -> None:
    """Raise `DestinationError` when a destination follows another table."""
    if mark.table_id != table.table_id:
        raise DestinationError(
            f"{destination}: it follows the table {mark.table_uri} (id {mark.table_id}), but {table.uri} has id "
            f"{table.table_id}: choose another name after the #, or sync with --replace"
        )

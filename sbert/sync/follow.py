"""Bring a destination to the newest version of its table.

The change feed tells what differs between the destination's watermark and the table; only that is written, new rows before
old ones are removed. Where the feed cannot tell (a load died in a store without transactions, or the versions between were
vacuumed) every row is compared instead. A new encoder or new columns fill a collection beside the one that readers see;
after it was proven equal, the destination's name switches to it in one step.
"""

import logging
import time
from enum import StrEnum

from pydantic import BaseModel, ConfigDict, Field

from sbert.counted import counted
from sbert.errors import NotATableError, NotEqualError, TableError
from sbert.sync.destinations.base import Collection, Destination, restored_rows
from sbert.sync.destinations.locate import open_destination
from sbert.sync.note_destination import note_destination
from sbert.sync.reconcile import check_same_table, compare, proven, repair, watermark_of
from sbert.sync.table_rows import read_rows
from sbert.sync.version_changes import VersionChanges
from sbert.sync.watermark import Watermark
from sbert.table.delta import Table

__all__ = ["SyncMethod", "SyncReport", "sync"]

log = logging.getLogger(__name__)


class SyncMethod(StrEnum):
    """Ways in which a sync finds the rows to write."""

    NOTHING = "nothing"
    """The destination holds the version already."""
    FIRST_LOAD = "first load"
    """All rows, into a new collection."""
    CHANGE_FEED = "change feed"
    """The rows that differ between two versions."""
    COMPARISON = "comparison"
    """Every row was compared, since the change feed could not tell."""


class SyncReport(BaseModel):
    """The results of a sync; scripts rely on the keys."""

    model_config = ConfigDict(frozen=True)

    table_uri: str
    destination: str
    collection: str
    method: SyncMethod
    why: str = Field(default="", description="Why every row was compared.")
    from_version: int | None = Field(description="The version that the collection held; None before its first load.")
    to_version: int = Field(description="The version that it holds now.")
    num_upserts: int = Field(description="Rows that were inserted or replaced.")
    num_deletes: int = Field(description="Rows that were removed.")
    num_rows: int = Field(description="Rows that the destination holds now.")
    is_switched: bool = Field(description="Whether readers were switched to this collection.")
    is_proven: bool = Field(description="Whether every row was compared after writing.")
    seconds: float = 0.0

    def summary(self) -> str:
        """Return the outcome in one line."""
        written = f"{counted(self.num_upserts, 'upsert')}, {counted(self.num_deletes, 'delete')}"
        return f"Version {self.to_version}: {counted(self.num_rows, 'row')}, {written}"


def sync(
    table_uri: str,
    location: str,
    *,
    version: int | None = None,
    replace: bool = False,
    prove: bool = False,
    secret: str | None = None,
) -> SyncReport:
    """Make a destination equal to a version of a table, by default the newest.

    Args:
        table_uri: the table.
        location: the destination, see `open_destination`.
        version: the table version to bring the destination to.
        replace: let the destination follow this table though it follows another one now.
        prove: compare every row afterwards. A new collection is always proven before readers see it.
        secret: password, token or API key, where the environment does not hold it.

    Raises:
        DestinationError: the store refuses, or follows another table. Its watermark stays where it was.
        NotEqualError: the store does not hold what was written to it.
    """
    began = time.monotonic()
    table = Table.open(table_uri, version)
    with open_destination(location, secret) as destination:
        collection = Collection.of_table(destination.name, table)
        marks = destination.watermarks()
        visible = destination.visible()
        for name in marks.keys() - {visible, collection.name}:
            destination.drop(name)
        if not replace:
            for other in marks.values():
                check_same_table(table, other, destination)
        mark = marks.get(collection.name)
        if mark is not None and mark.table_id != table.table_id:
            mark = mark.model_copy(update={"is_complete": False})
        report = bring_to_version(table, destination, collection, mark)
        is_new = visible != collection.name
        if is_new or prove:
            check_equal(table, destination, collection)
        if is_new:
            destination.build_index(collection)
            destination.switch(collection)
        check_count(destination, collection, report)
        is_proven = is_new or prove
        note_destination(
            table.uri,
            destination,
            destination.watermarks()[collection.name],
            num_rows=report.num_rows,
            is_equal=True if is_proven else None,
        )
        return report.model_copy(
            update={"is_switched": is_new, "is_proven": is_proven, "seconds": round(time.monotonic() - began, 3)}
        )


def bring_to_version(
    table: Table, destination: Destination, collection: Collection, mark: Watermark | None
) -> SyncReport:
    """Write the rows that a collection lacks of a table version, and move its watermark."""
    report = SyncReport(
        table_uri=table.uri,
        destination=str(destination),
        collection=collection.name,
        method=SyncMethod.NOTHING,
        from_version=None if mark is None or not mark.is_complete else mark.version,
        to_version=table.version,
        num_upserts=0,
        num_deletes=0,
        num_rows=table.num_rows,
        is_switched=False,
        is_proven=False,
    )
    if mark is None:
        with destination.begin(collection, watermark_of(table, is_complete=False)) as load:
            num_rows = load.upsert(read_rows(table, destination))
            load.finish(watermark_of(table, is_complete=True))
        return report.model_copy(update={"method": SyncMethod.FIRST_LOAD, "num_upserts": num_rows})
    if not mark.is_complete:
        return by_comparison(table, destination, collection, report, "the load before did not end")
    if mark.version == table.version:
        return report
    try:
        before = Table.open(table.uri, mark.version)
        changes = VersionChanges(before, table)
    except (TableError, NotATableError) as error:
        return by_comparison(table, destination, collection, report, f"version {mark.version} is gone: {error}")
    begun = watermark_of(table, is_complete=False, earlier=mark)
    destination.begin_count(collection.name)
    with changes, destination.begin(collection, begun) as load:
        upserts = (destination.portable(restored_rows(rows, table)) for rows in changes.upserts())
        num_upserts = load.upsert(upserts)
        num_deletes = load.delete(destination.portable(keys) for keys in changes.deletes())
        load.finish(watermark_of(table, is_complete=True, earlier=mark))
    return report.model_copy(
        update={"method": SyncMethod.CHANGE_FEED, "num_upserts": num_upserts, "num_deletes": num_deletes}
    )


def by_comparison(
    table: Table, destination: Destination, collection: Collection, report: SyncReport, why: str
) -> SyncReport:
    """Compare every row, and write the rows that differ."""
    log.warning("%s: every row is compared: %s", destination, why)
    with compare(table, destination, collection) as comparison:
        num_upserts, num_deletes = repair(table, destination, collection, comparison)
    return report.model_copy(
        update={"method": SyncMethod.COMPARISON, "why": why, "num_upserts": num_upserts, "num_deletes": num_deletes}
    )


def check_equal(table: Table, destination: Destination, collection: Collection) -> None:
    """Raise `NotEqualError` unless a collection holds exactly the rows of a table version."""
    with compare(table, destination, collection) as comparison:
        differences = comparison.differences
        if not comparison.is_equal:
            raise NotEqualError(
                f"{destination}: after writing version {table.version} the store lacks {len(differences.missing):,} of "
                f"{comparison.num_table_rows:,} rows, and has {len(differences.stale):,} stale and "
                f"{len(differences.extra):,} extra rows: run `sbert reconcile --repair`"
            )
    destination.set_watermark(collection.name, proven(destination.watermarks()[collection.name]))


def check_count(destination: Destination, collection: Collection, report: SyncReport) -> None:
    """Raise `NotEqualError` when the store counts other rows than the table has."""
    count = destination.count(collection.name)
    if count != report.num_rows:
        raise NotEqualError(
            f"{destination}: the store has {count:,} rows, but version {report.to_version} of {report.table_uri} has "
            f"{report.num_rows:,}: run `sbert reconcile --repair`"
        )

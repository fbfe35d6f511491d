"""Look at all files below a table: the files of every place, files that no place owns, and runs at work."""

from collections import Counter
from collections.abc import Mapping

from sbert.counted import counted
from sbert.erase.all_places import PLACES
from sbert.erase.places import ErasedRows
from sbert.erase.receipt import PlaceReport
from sbert.erase.shards import is_shard
from sbert.storage.errors import translate_errors
from sbert.storage.files import filesystem, join, strip_protocol
from sbert.table.lease import active_leases
from sbert.table.tombstones import ERASE

__all__ = ["files_below", "look_into_places", "runs_at_work", "unknown_files"]


def files_below(table_uri: str) -> list[str]:
    """Return every file below a table, relative to it."""
    path = strip_protocol(table_uri).rstrip("/")
    with translate_errors(table_uri):
        names = filesystem(table_uri).find(path)
    return sorted(name[len(path) :].lstrip("/") for name in names if name.rstrip("/") != path)


def look_into_places(table_uri: str, rows: ErasedRows, reports: Mapping[str, PlaceReport]) -> list[PlaceReport]:
    """Look again into every place beside the shards; return the reports with the rows that are left.

    Args:
        table_uri: the table.
        rows: the erased rows.
        reports: what was erased, by the name of the place.
    """
    files = files_below(table_uri)
    return [
        place.look(
            table_uri,
            [path for path in files if place.owns(path)],
            rows,
            reports.get(place.name) or PlaceReport(place=place.name, location=table_uri),
        )
        for place in PLACES
    ]


def unknown_files(table_uri: str) -> list[PlaceReport]:
    """Return a report for each folder with files that no place owns: they may hold rows."""
    folders = Counter(
        path.split("/", 1)[0]
        for path in files_below(table_uri)
        if not is_shard(path) and not any(place.owns(path) for place in PLACES)
    )
    return [
        PlaceReport(
            place="unknown",
            location=join(table_uri, name),
            action="not erased",
            problem=f"{counted(number, 'file')} that this command does not know: look into them by hand",
        )
        for name, number in sorted(folders.items())
    ]


def runs_at_work(table_uri: str, erasure: str) -> list[PlaceReport]:
    """Return a report for each run that was planned before. It publishes none of the rows, but may write some to files.

    Args:
        table_uri: the table.
        erasure: name of the erasure that asks; other erasures are left out too.
    """
    return [
        PlaceReport(
            place="run at work",
            location=table_uri,
            action="not waited for",
            problem=f"{lease.operation} {lease.run_id} began before: erase again when it has ended",
        )
        for lease in active_leases(table_uri, but=erasure)
        if lease.operation != ERASE
    ]

"""Find earlier rows that stay: rows of unreadable objects, and of objects that a backfill did not choose.

The plan foresees with these functions what a run will keep, and the diff decides with them what it keeps.
"""

from collections.abc import Collection, Iterable, Mapping

from sbert.refresh.split_selection import Scope
from sbert.source.objects import SourceObject
from sbert.table.split_records import RecordedSpan, SplitRecord

__all__ = ["held_prefixes", "staying_spans", "tables_held_back"]


def tables_held_back(
    objects: Collection[SourceObject], broken: Collection[str], before: Iterable[SplitRecord]
) -> tuple[str, ...]:
    """Return the folders of source tables whose earlier rows must stay.

    Such a folder has an unreadable file now, and the table has rows of files that it has replaced since.

    Args:
        objects: the source.
        broken: objects that cannot be read, by URI.
        before: records of the splits that leave the table.
    """
    folders = {f"{item.table.uri}/" for item in objects if item.table is not None and item.uri in broken}
    if not folders:
        return ()
    listed = {item.uri for item in objects}
    unlisted = {span.uri for record in before for span in record.spans} - listed
    return tuple(sorted(folder for folder in folders if any(uri.startswith(folder) for uri in unlisted)))


def held_prefixes(tables: Iterable[str], broken: Iterable[str]) -> tuple[str, ...]:
    """Return the URI prefixes whose rows stay: of source tables that are held back, and of unreadable objects.

    An unreadable object has others below it when it is an archive that cannot be opened, or a link to a folder that is gone.
    """
    return (*tables, *(f"{uri}/" for uri in broken))


def staying_spans(
    records: Mapping[str, SplitRecord], scope: Scope, broken: Collection[str], held: tuple[str, ...]
) -> dict[str, list[RecordedSpan]]:
    """Return, for each split that leaves the table, its spans whose rows stay, by fingerprint.

    Splits without such spans are left out.

    Args:
        records: of the splits that leave.
        scope: objects whose rows may change.
        broken: objects that cannot be read, by URI.
        held: the result of `held_prefixes`.
    """
    staying = {
        fingerprint: [
            span
            for span in record.spans
            if span.uri in broken or span.uri.startswith(held) or not scope.includes(span.uri)
        ]
        for fingerprint, record in sorted(records.items())
    }
    return {fingerprint: spans for fingerprint, spans in staying.items() if spans}

"""Take erased rows out of vector stores that follow the table, look again, and move their watermarks."""

import re
from collections.abc import Iterable

from sbert.counted import counted
from sbert.erase.receipt import PlaceReport
from sbert.errors import DestinationError
from sbert.sync.destinations.base import Destination
from sbert.sync.destinations.locate import open_destination
from sbert.sync.reconcile import watermark_of
from sbert.sync.watermark import Watermark
from sbert.table.commit_record import recorded_at
from sbert.table.delta import Table
from sbert.table.erased_keys import ErasedKeys
from sbert.table.followers import note_rows_left
from sbert.table.tombstones import ERASE

__all__ = ["erase_in_store", "keys_in_store"]

PLACE = "vector store"


def erase_in_store(
    location: str, table_uri: str, keys: ErasedKeys, *, secret: str | None = None, is_dry_run: bool = False
) -> PlaceReport:
    """Remove rows from every collection of a destination, and look again.

    A collection that held the version before the erasure holds the version after it, so its watermark moves there. The next
    sync of any other collection compares every row.

    Returns:
        The entry of the receipt. A store that does not answer or refuses is a problem in it, no error.
    """
    try:
        with open_destination(location, secret) as destination:
            return _erase(destination, Table.open(table_uri), keys, is_dry_run=is_dry_run)
    except DestinationError as error:
        return PlaceReport(
            place=PLACE, location=location, action="not erased", problem=_without_ids(str(error), keys.names)
        )


def keys_in_store(location: str, keys: ErasedKeys, *, secret: str | None = None) -> ErasedKeys:
    """Return the keys that a destination holds rows of; none when it does not answer, which `erase_in_store` reports."""
    try:
        with open_destination(location, secret) as destination:
            return _keys_in(destination, keys)
    except DestinationError:
        return ErasedKeys()


def _keys_in(destination: Destination, keys: ErasedKeys) -> ErasedKeys:
    """Find the keys that a store holds by halving: a store can only count rows."""
    if not keys or not sum(destination.find(name, keys) for name in destination.collections()):
        return ErasedKeys()
    if len(keys) == 1:
        return keys
    ids, pairs = sorted(keys.ids), sorted(keys.pairs)
    half = len(keys) // 2
    first = ErasedKeys(ids[:half], pairs[: max(0, half - len(ids))])
    return _keys_in(destination, first).together(_keys_in(destination, keys.without(first)))


def _erase(destination: Destination, table: Table, keys: ErasedKeys, *, is_dry_run: bool) -> PlaceReport:
    marks = destination.watermarks()
    names = destination.collections()
    num_found = sum(destination.find(name, keys) for name in names)
    report = PlaceReport(place=PLACE, location=str(destination), num_found=num_found)
    if is_dry_run:
        return report.model_copy(update={"action": f"rows of {counted(len(names), 'collection')} would be removed"})
    for name in names:
        destination.erase(name, keys)
    for name in names:
        mark = marks.get(name)
        if mark is not None and _holds_newest(destination, mark, table, name):
            destination.set_watermark(name, watermark_of(table, is_complete=True))
    visible = destination.visible()
    if visible is not None and visible in marks:
        newest_mark = destination.watermarks()[visible]
        note_rows_left(table.uri, str(destination), destination.count(visible), newest_mark.version)
    num_left = sum(destination.find(name, keys) for name in names)
    loading = [name for name, mark in marks.items() if not mark.is_complete]
    problem = (
        f"a sync of {', '.join(loading)} was at work or had died: run `sbert sync`, then erase again" if loading else ""
    )
    return report.model_copy(
        update={
            "action": f"rows of {counted(len(names), 'collection')} removed" if num_found else "nothing to do",
            "look": f"{counted(len(names), 'collection')} searched for the keys",
            "num_left": num_left,
            "problem": problem,
        }
    )


def _holds_newest(destination: Destination, mark: Watermark, table: Table, collection: str) -> bool:
    """Return whether only erasures lie between a watermark and the newest version, and the store has as many rows."""
    if not mark.is_complete or mark.table_id != table.table_id or mark.version >= table.version:
        return False
    between = range(mark.version + 1, table.version + 1)
    only_erased = all(recorded_at(table.uri, version).get("operation") == ERASE for version in between)
    is_same = only_erased and mark.encoder_fingerprint == table.encoder.fingerprint
    return is_same and destination.count(collection) == table.num_rows


def _without_ids(text: str, names: Iterable[str]) -> str:
    """Return a store's message without ids, which it may repeat from a request."""
    for name in names:
        if name in text:
            text = re.sub(rf"(?<!\w){re.escape(name)}(?!\w)", "…", text)
    return text

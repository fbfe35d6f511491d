"""Describe how objects are written, by looking at them: a plan shows this before anything is read."""

from collections import Counter
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from typing import NamedTuple

from sbert.errors import BrokenObjectError, StorageError
from sbert.source.formats.all_formats import format_of
from sbert.source.objects import SourceObject
from sbert.source.reading import hints_of
from sbert.source.settings import SourceSettings

__all__ = ["Looks", "look_at_objects"]

MAX_OBJECTS = 64
"""Most objects that are looked at. Of more objects, those at even distances in the order of their names are."""
MAX_THREADS = 16


class Looks(NamedTuple):
    """The result of looking at some objects, about all of them."""

    formats: dict[str, int]
    """What was told, such as ``csv: semicolon, double quotes, windows-1252``, and of how many objects."""
    unreadable: dict[str, str]
    """Why objects cannot be opened, or that it is uncertain how they are written, by URI."""


def look_at_objects(objects: Sequence[SourceObject], source: SourceSettings) -> Looks:
    """Look at the head of some objects, before anything is read.

    Raises:
        StorageError: when storage fails and trying again can help.
    """
    unreadable = {item.uri: item.unreadable for item in objects if item.unreadable}
    by_uri = {item.uri: item for item in objects if item.num_bytes and not item.unreadable}
    ordered = [by_uri[uri] for uri in sorted(by_uri)]
    looked_at = ordered[:: max(1, -(-len(ordered) // MAX_OBJECTS))]
    hints = hints_of(source)

    def describe(item: SourceObject) -> str:
        try:
            said = format_of(item.format).describe(item, hints)
        except BrokenObjectError as error:
            unreadable[item.uri] = error.detail
            return ""
        except StorageError as error:
            if error.transient:
                raise
            unreadable[item.uri] = f"cannot be opened: {error}"
            return ""
        return f"{item.format}: {said}" if said else ""

    with ThreadPoolExecutor(MAX_THREADS) as pool:
        descriptions = Counter(said for said in pool.map(describe, looked_at) if said)
    return Looks(dict(descriptions.most_common()), {uri: unreadable[uri] for uri in sorted(unreadable)})

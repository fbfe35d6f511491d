"""Read the objects of events as texts, through the formats that raw text is read by; broken records are counted."""

from collections import Counter
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor

import polars as pl

from sbert.apply.recommendation.settings import EventColumns
from sbert.errors import BrokenObjectError
from sbert.source.formats.all_formats import format_of
from sbert.source.formats.base import ColumnRequest
from sbert.source.listing import list_objects
from sbert.source.objects import SourceObject, Span
from sbert.source.settings import ReadSettings

__all__ = ["read_event_rows"]

MAX_THREADS = 8
"""Objects that are read at the same time."""


def read_event_rows(uri: str, columns: EventColumns) -> tuple[pl.DataFrame, Counter[str]]:
    """Return the named columns of all objects under `uri` as texts, and the number of broken records by reason.

    The column of the type may lack; it is null then.

    Raises:
        ColumnError: a column is missing in an object.
        BrokenObjectError: an object cannot be read to its end.
        SourceError, StorageError: there is nothing to read, or storage refuses.
    """
    required = [columns.user, columns.item, columns.time, *([columns.weight] if columns.weight else [])]
    names = list(dict.fromkeys([*required, columns.type]))
    request = ColumnRequest(texts=tuple(names), required=frozenset(required))
    with ThreadPoolExecutor(MAX_THREADS, thread_name_prefix="events") as pool:
        read = list(pool.map(lambda item: _read_object(item, request), list_objects(uri, documents=False)))
    broken: Counter[str] = Counter()
    for _, counts in read:
        broken.update(counts)
    frames = [frame for frames_of_file, _ in read for frame in frames_of_file]
    return pl.concat([pl.DataFrame(schema=dict.fromkeys(names, pl.String())), *frames]), broken


def _read_object(item: SourceObject, request: ColumnRequest) -> tuple[Sequence[pl.DataFrame], Counter[str]]:
    frames: list[pl.DataFrame] = []
    broken: Counter[str] = Counter()
    if item.unreadable:
        raise BrokenObjectError(item.uri, item.unreadable)
    if item.num_bytes:
        for block in format_of(item.format).read(Span(object=item), request, ReadSettings()):
            frames.append(block.values.select(request.columns))
            broken.update(bad.reason.value.replace("_", " ") for bad in block.bad)
    return frames, broken

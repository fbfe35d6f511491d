"""Guess how many rows splits hold, from the beginning of their largest object, where no earlier run measured it."""

import logging
from collections.abc import Sequence

import pyarrow as pa

from sbert.errors import SbertError
from sbert.refresh.fingerprints import PlannedSplit
from sbert.source.formats.all_formats import format_of
from sbert.source.formats.base import Hints
from sbert.source.objects import SourceObject
from sbert.source.settings import ReadSettings
from sbert.storage.files import open_input

__all__ = ["sample_num_rows"]

log = logging.getLogger(__name__)

HEAD_BYTES = 256 * 1024


def sample_num_rows(splits: Sequence[PlannedSplit]) -> int | None:
    """Return about how many rows splits hold; None when the largest object does not show it, as compressed ones.

    One small read. The number only feeds the time left that is shown, so a failure is not an error.
    """
    objects = [span.object for planned in splits for span in planned.split.spans]
    if not objects:
        return None
    largest = max(objects, key=lambda item: item.num_bytes)
    try:
        rows_per_byte = _rows_per_byte(largest)
    except (SbertError, OSError, pa.ArrowException) as error:
        log.debug("%s: the number of rows cannot be guessed: %s", largest.uri, error)
        return None
    if not rows_per_byte:
        return None
    return round(rows_per_byte * sum(planned.split.num_bytes for planned in splits))


def _rows_per_byte(item: SourceObject) -> float | None:
    if item.num_bytes == 0 or item.is_stream:
        return None
    source_format = format_of(item.format)
    if source_format.is_document:
        return None  # rows are passages
    if source_format.count_is_cheap:
        return source_format.count(item, ReadSettings(), Hints()) / item.num_bytes
    if not source_format.has_columns:
        return None
    with open_input(item.uri) as file:
        head = file.read(min(HEAD_BYTES, item.num_bytes))
    return head.count(b"\n") / len(head) if head else None

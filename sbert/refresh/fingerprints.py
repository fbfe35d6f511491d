"""The names that rows go by: the fingerprint of a split hashes everything that decides its rows.

Planning, building and publishing compare only these names.
"""

import hashlib
import json
from collections.abc import Mapping, Sequence
from dataclasses import replace

from pydantic import BaseModel, ConfigDict

from sbert.refresh.job import RefreshSettings, TruncationPolicy
from sbert.source.splits import Split
from sbert.table.split_records import RecordedSpan

__all__ = [
    "FORMAT",
    "PlannedSplit",
    "cut_to_first_rows",
    "hash_json",
    "identity_fingerprint",
    "plan_split",
    "recorded_fingerprint",
    "recorded_spans",
    "rows_fingerprint",
    "without_objects",
]

FORMAT = 1
"""Raised when the same settings would give other rows than before, so that everything is built anew."""
FINGERPRINT_CHARACTERS = 32


class PlannedSplit(BaseModel):
    """A split of the source with the name that its rows go by."""

    model_config = ConfigDict(frozen=True)

    split: Split
    fingerprint: str

    @property
    def object_uris(self) -> set[str]:
        """Source objects of the split."""
        return {span.object.uri for span in self.split.spans}


def hash_json(value: object) -> str:
    """Return the SHA-256 of a value in canonical JSON."""
    text = json.dumps(value, sort_keys=True, ensure_ascii=False, separators=(",", ":"))
    return hashlib.sha256(text.encode("utf-8", "surrogateescape")).hexdigest()


def rows_fingerprint(encoder_fingerprint: str, settings: RefreshSettings) -> str:
    """Return the hash of everything but the source objects that decides the rows of a split."""
    return hash_json(
        [
            FORMAT,
            encoder_fingerprint,
            settings.source.identity(),
            settings.cleaning.identity(),
            settings.encoding.truncation.value == TruncationPolicy.REJECT.value,
        ]
    )


def plan_split(split: Split, rows: str) -> PlannedSplit:
    """Name a split, where `rows` is the rows fingerprint of the run."""
    return PlannedSplit(split=split, fingerprint=identity_fingerprint(split.identity(), rows))


def identity_fingerprint(identity: Sequence[Sequence[str | int | None]], rows: str) -> str:
    """Return the name of rows made of the spans of `identity`: (uri, version, start, stop) each; 32 hex digits."""
    return hash_json([rows, identity])[:FINGERPRINT_CHARACTERS]


def recorded_spans(split: Split) -> list[RecordedSpan]:
    """Return the spans of a split as its completion record has them."""
    return [
        RecordedSpan(
            uri=span.object.uri,
            version=span.object.version,
            start=span.start,
            stop=span.stop,
            max_rows=span.max_rows,
        )
        for span in split.spans
    ]


def recorded_fingerprint(spans: Sequence[RecordedSpan], rows: str) -> str:
    """Return the name that the rows of recorded spans have under the rows fingerprint `rows`."""
    return identity_fingerprint([span.identity() for span in spans], rows)


def without_objects(planned: PlannedSplit, uris: set[str], rows: str) -> PlannedSplit | None:
    """Return a split without the objects of `uris`, named by the objects left; None when no object is left."""
    spans = tuple(span for span in planned.split.spans if span.object.uri not in uris)
    if not spans:
        return None
    return plan_split(planned.split.part(spans), rows)


def cut_to_first_rows(planned: PlannedSplit, num_rows: Mapping[str, int], rows: str) -> PlannedSplit:
    """Return a split with only the first rows of the objects in `num_rows`, and a name of its own."""
    spans = tuple(
        replace(span, max_rows=num_rows[span.object.uri]) if span.object.uri in num_rows else span
        for span in planned.split.spans
    )
    return plan_split(Split(spans=spans, name=planned.split.name), rows)

"""The names rows go by: a split's fingerprint hashes everything that decides its rows.

Planning, building and settling only ever compare these names.
"""

import hashlib
import json
from collections.abc import Sequence

from pydantic import BaseModel, ConfigDict

from sbert.refresh.job import RefreshSettings, TruncationPolicy
from sbert.source.splits import Split

__all__ = [
    "FORMAT",
    "PlannedSplit",
    "hash_json",
    "identity_fingerprint",
    "rows_fingerprint",
    "split_fingerprint",
    "without_objects",
]

FORMAT = 1
"""Raised when the same settings would give other rows than before, so that everything is built anew."""
FINGERPRINT_CHARACTERS = 32


class PlannedSplit(BaseModel):
    """A split of the source with the name its rows go by."""

    model_config = ConfigDict(frozen=True)

    split: Split
    fingerprint: str


def hash_json(value: object) -> str:
    """Give the SHA-256 of a value in canonical JSON."""
    text = json.dumps(value, sort_keys=True, ensure_ascii=False, separators=(",", ":"))
    return hashlib.sha256(text.encode("utf-8", "surrogateescape")).hexdigest()


def rows_fingerprint(encoder_fingerprint: str, settings: RefreshSettings) -> str:
    """Give the hash of everything but the source objects that decides the rows of a split."""
    return hash_json(
        [
            FORMAT,
            encoder_fingerprint,
            settings.source.model_dump(mode="json"),
            settings.cleaning.model_dump(mode="json"),
            settings.encoding.truncation.value == TruncationPolicy.REJECT.value,
        ]
    )


def split_fingerprint(split: Split, rows: str) -> str:
    """Give the name that the rows of a split go by: 32 hex digits."""
    return identity_fingerprint(split.identity(), rows)


def identity_fingerprint(identity: Sequence[Sequence[str | int | None]], rows: str) -> str:
    """Give the name of rows made of the spans of `identity`: (uri, version, start, stop) each, as `Span.identity`."""
    return hash_json([rows, identity])[:FINGERPRINT_CHARACTERS]


def without_objects(planned: PlannedSplit, uris: set[str], rows: str) -> PlannedSplit | None:
    """Give a split without the objects of `uris`, named by what is left; None when nothing is."""
    spans = tuple(span for span in planned.split.spans if span.object.uri not in uris)
    if not spans:
        return None
    split = Split(spans=spans, name=planned.split.name)
    return PlannedSplit(split=split, fingerprint=split_fingerprint(split, rows))

"""The rows that an erasure found in shards, kept while it is under way.

Derived tables, stores, samples and labels are searched for them after the shards are gone. So a run that was killed finds
them here when it runs again. The file holds ids, as the shards did; the finished erasure removes it.
"""

import json
from collections.abc import Iterable
from dataclasses import dataclass, field, replace

from sbert.errors import MissingError
from sbert.storage.files import delete, join, read_bytes, write_bytes
from sbert.table.erased_keys import ErasedKeys
from sbert.table.shard_rewrite import ShardFinding
from sbert.table.tombstones import ERASED_FOLDER

__all__ = ["FoundRows", "forget_found_rows", "read_found_rows", "write_found_rows"]

UNFINISHED_FOLDER = f"{ERASED_FOLDER}/unfinished"


@dataclass(frozen=True)
class FoundRows:
    """Keys and text hashes of rows that were found."""

    pairs: frozenset[tuple[str, str]] = frozenset()
    """Source and id of each row; for a document, the sources and ids of its passages."""
    text_hashes: frozenset[bytes] = frozenset()
    shards: frozenset[str] = frozenset()
    """Names of the shards of the table that held them."""

    asked: ErasedKeys = field(default_factory=ErasedKeys)
    """Keys of the request that were found, in shards or elsewhere."""

    def with_findings(self, findings: Iterable[ShardFinding], keys: ErasedKeys) -> "FoundRows":
        """Return these rows and the rows of findings; `keys` is the request."""
        several = list(findings)
        return FoundRows(
            pairs=self.pairs.union(*(one.keys for one in several)),
            text_hashes=self.text_hashes.union(*(one.text_hashes - {b""} for one in several)),
            shards=self.shards.union(one.name for one in several),
            asked=self.asked.together(keys.among(key for one in several for key in one.keys | one.documents)),
        )

    def with_asked(self, keys: ErasedKeys) -> "FoundRows":
        """Return these rows, with keys of the request that were found elsewhere."""
        return replace(self, asked=self.asked.together(keys))


def _uri(table_uri: str, erasure: str) -> str:
    return join(table_uri, UNFINISHED_FOLDER, f"{erasure}.json")


def write_found_rows(table_uri: str, erasure: str, rows: FoundRows) -> None:
    """Write the found rows, before the shards that hold them are removed."""
    content = {
        "pairs": sorted(rows.pairs),
        "text_hashes": sorted(text_hash.hex() for text_hash in rows.text_hashes),
        "shards": sorted(rows.shards),
        "asked_ids": sorted(rows.asked.ids),
        "asked_pairs": sorted(rows.asked.pairs),
    }
    write_bytes(_uri(table_uri, erasure), json.dumps(content).encode())


def read_found_rows(table_uri: str, erasure: str) -> FoundRows:
    """Return the rows that a killed run of an erasure found; none if it found none."""
    try:
        content = json.loads(read_bytes(_uri(table_uri, erasure)))
    except MissingError:
        return FoundRows()
    return FoundRows(
        pairs=frozenset((source, row_id) for source, row_id in content["pairs"]),
        text_hashes=frozenset(bytes.fromhex(text_hash) for text_hash in content["text_hashes"]),
        shards=frozenset(content["shards"]),
        asked=ErasedKeys(content.get("asked_ids", []), map(tuple, content.get("asked_pairs", []))),
    )


def forget_found_rows(table_uri: str, erasure: str) -> None:
    """Remove the file of found rows."""
    delete([_uri(table_uri, erasure)])

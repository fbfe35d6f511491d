"""The keys of a request that earlier erasures erased, by their tombstones."""

from dataclasses import dataclass

import polars as pl

from sbert.table.erased_keys import ErasedKeys
from sbert.table.tombstones import KeyedHash, read_tombstone_files, request_of

__all__ = ["EarlierErasures", "KeyHashes", "find_earlier"]


@dataclass(frozen=True)
class KeyHashes:
    """Keyed hashes of the keys of a request."""

    by_id: dict[str, str]
    by_pair: dict[tuple[str, str], str]

    @classmethod
    def of(cls, keys: ErasedKeys, hasher: KeyedHash) -> "KeyHashes":
        """Hash the keys."""
        ids, pairs = sorted(keys.ids), sorted(keys.pairs)
        sources = pl.Series([source for source, _ in pairs], dtype=pl.String)
        pair_ids = pl.Series([row_id for _, row_id in pairs], dtype=pl.String)
        return cls(
            by_id=dict(zip(ids, hasher.ids(pl.Series(ids, dtype=pl.String)).to_list(), strict=True)),
            by_pair=dict(zip(pairs, hasher.pairs(sources, pair_ids).to_list(), strict=True)),
        )

    @property
    def all(self) -> list[str]:
        """All hashes, in order."""
        return sorted([*self.by_id.values(), *self.by_pair.values()])

    def keys_in(self, hashes: frozenset[str]) -> ErasedKeys:
        """Return the keys whose hash is known."""
        ids = (row_id for row_id, hashed in self.by_id.items() if hashed in hashes)
        return ErasedKeys(ids, (pair for pair, hashed in self.by_pair.items() if hashed in hashes))


@dataclass(frozen=True)
class EarlierErasures:
    """The part of a request that earlier erasures did."""

    keys: ErasedKeys
    """Keys with a tombstone of another request, or of a finished erasure."""
    is_finished: bool
    """Whether finished erasures cover all keys, and no erasure of these keys is under way."""


def find_earlier(table_uri: str, keys: ErasedKeys) -> EarlierErasures:
    """Look up the keys of a request among the tombstones; nothing is written."""
    files = read_tombstone_files(table_uri)
    if not files:
        return EarlierErasures(ErasedKeys(), is_finished=False)
    hashes = KeyHashes.of(keys, KeyedHash.of_table(table_uri))
    request = request_of(hashes.all)
    finished = [one for one in files if one.is_finished]
    if any(one.request == request for one in finished):  # keys by row number have a tombstone by text instead
        earlier, done = keys, keys
    else:
        others = [one for one in files if one.is_finished or one.request != request]
        earlier = hashes.keys_in(frozenset[str]().union(*(one.hashes for one in others)))
        done = hashes.keys_in(frozenset[str]().union(*(one.hashes for one in finished)))
    is_under_way = any(one.request == request and not one.is_finished for one in files)
    return EarlierErasures(earlier, is_finished=len(done) == len(keys) and not is_under_way)

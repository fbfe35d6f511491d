"""Lift tombstones: let rows that were erased come back from the raw text.

Nothing that was erased is restored. Rows come back when their object is built again: when it changes, or by
``sbert backfill RAW TABLE --include OBJECT --force``.
"""

import polars as pl
from pydantic import BaseModel, ConfigDict, Field

from sbert.erase.sources import with_whole_sources
from sbert.storage.files import normalize_uri
from sbert.table.delta import Table
from sbert.table.erased_keys import ErasedKeys
from sbert.table.tombstones import KeyedHash, delete_tombstones, read_tombstone_files, request_of, write_tombstones

__all__ = ["Lifted", "lift_tombstones"]


class Lifted(BaseModel):
    """The outcome of lifting tombstones."""

    model_config = ConfigDict(frozen=True)

    table_uri: str
    num_keys: int = Field(description="Keys that were asked for.")
    num_lifted: int = Field(description="Tombstones that were lifted.")
    num_by_text: int = Field(
        description="Tombstones by text that stay: only all keys of their erasure together lift them."
    )


def lift_tombstones(table_uri: str, keys: ErasedKeys) -> Lifted:
    """Lift the tombstones of keys, each as it was asked for: an id, or a pair of source and id.

    All keys of an erasure together lift all of its tombstones.

    Raises:
        NotATableError: no table there.
        SettingsError: a source is no whole URI, and the end of no object or of several.
    """
    table_uri = Table.open(normalize_uri(table_uri)).uri
    keys = with_whole_sources(table_uri, keys, allow_missing=True)
    hasher = KeyedHash.of_table(table_uri)
    pairs = sorted(keys.pairs)
    sources = pl.Series([source for source, _ in pairs], dtype=pl.String)
    ids = pl.Series([row_id for _, row_id in pairs], dtype=pl.String)
    lifted = {*hasher.ids(pl.Series(sorted(keys.ids), dtype=pl.String)), *hasher.pairs(sources, ids)}
    request = request_of(sorted(lifted))
    num_lifted = num_by_text = 0
    for file in read_tombstone_files(table_uri):
        to_lift = file.hashes if file.request == request else file.hashes & lifted
        num_by_text += len(file.texts - to_lift)
        if not to_lift:
            continue
        num_lifted += len(to_lift)
        left = file.model_copy(
            update={"ids": file.ids - to_lift, "pairs": file.pairs - to_lift, "texts": file.texts - to_lift}
        )
        if left.hashes:
            write_tombstones(table_uri, left)
        else:
            delete_tombstones(table_uri, file.erasure)
    return Lifted(table_uri=table_uri, num_keys=len(keys), num_lifted=num_lifted, num_by_text=num_by_text)

"""Find the objects that the sources of keys name. A source may be the end of a URI, as `sbert search` shows it."""

import difflib
import io

import polars as pl

from sbert.erase.shards import is_shard
from sbert.errors import MissingError, SettingsError
from sbert.storage.files import join, list_names, normalize_uri, read_bytes
from sbert.table.erased_keys import ErasedKeys
from sbert.table.shard_file import open_shard
from sbert.table.split_records import MISFITS_FOLDER, REJECTED_FOLDER
from sbert.table.tombstones import KeyedHash, read_tombstone_files

__all__ = ["with_whole_sources"]

MAX_NAMED = 3
"""Objects that an error suggests."""
ROWS_PER_READ = 65_536


def with_whole_sources(table_uri: str, keys: ErasedKeys, *, allow_missing: bool = False) -> ErasedKeys:
    """Return the keys with the whole URI of each source.

    A source is an object of the table, of its earlier versions or of its rejected rows. It may be written as the end of
    exactly one object's URI, after a ``/``. A source that an earlier erasure named is accepted too.

    Args:
        table_uri: the table.
        keys: the keys as they were written.
        allow_missing: accept whole URIs of objects that the table does not have.

    Raises:
        SettingsError: a source is no object of the table, or the end of several.
        TableError: a shard is damaged.
    """
    if not keys.pairs:
        return keys
    written = sorted({source for source, _ in keys.pairs})
    objects = _objects(table_uri)
    accepted = set(written) if allow_missing else _erased_before(table_uri, written)
    whole = {source: _whole(source, objects, accepted) for source in written}
    return ErasedKeys(keys.ids, [(whole[source], row_id) for source, row_id in keys.pairs])


def _whole(source: str, objects: frozenset[str], accepted: set[str]) -> str:
    normal = normalize_uri(source)
    if normal in objects:
        return normal
    ending = sorted(uri for uri in objects if uri.endswith(f"/{source}"))
    if len(ending) == 1:
        return ending[0]
    if ending:
        more = f" and {len(ending) - MAX_NAMED:,} more" if len(ending) > MAX_NAMED else ""
        raise SettingsError(
            f"{len(ending):,} objects of the table end in '/{source}': {', '.join(ending[:MAX_NAMED])}{more}; write the "
            "whole source of one of them"
        )
    if source in accepted and ("://" in source or source.startswith("/")):
        return normal
    near = _near(source, objects)
    advice = f"did you mean {' or '.join(near)}?" if near else "write the source as the table has it"
    raise SettingsError(f"no object '{source}' in the table; {advice}")


def _near(source: str, objects: frozenset[str]) -> list[str]:
    by_name: dict[str, list[str]] = {}
    for uri in sorted(objects):
        by_name.setdefault(uri.rpartition("/")[2], []).append(uri)
    names = difflib.get_close_matches(source.rpartition("/")[2], by_name, n=MAX_NAMED)
    return [uri for name in names for uri in by_name[name]][:MAX_NAMED]


def _erased_before(table_uri: str, sources: list[str]) -> set[str]:
    """Return the sources that tombstones name: their object may be gone."""
    erased_hashes = frozenset[str]().union(*(one.sources for one in read_tombstone_files(table_uri)))
    if not erased_hashes:
        return set()
    hashes = KeyedHash.of_table(table_uri).sources(pl.Series([normalize_uri(one) for one in sources]))
    return {source for source, hashed in zip(sources, hashes.to_list(), strict=True) if hashed in erased_hashes}


def _objects(table_uri: str) -> frozenset[str]:
    """Return the sources of all rows in shards of all versions, and of rejected rows."""
    sources: set[str] = set()
    for name in filter(is_shard, list_names(table_uri)):
        try:
            with open_shard(join(table_uri, name)) as parquet:
                if "source" in parquet.schema_arrow.names:
                    for batch in parquet.iter_batches(ROWS_PER_READ, columns=["source"]):
                        sources.update(batch.column(0).unique().to_pylist())
        except MissingError:
            continue  # a run removed it meanwhile
    for folder in (REJECTED_FOLDER, MISFITS_FOLDER):
        for name in list_names(join(table_uri, folder)):
            if name.endswith(".parquet"):
                try:
                    content = read_bytes(join(table_uri, folder, name))
                except MissingError:
                    continue
                sources.update(pl.read_parquet(io.BytesIO(content), columns=["source"])["source"].unique().to_list())
    return frozenset(source for source in sources if source)

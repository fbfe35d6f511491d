"""Remove files that no version within the retention needs.

A file is removed only if all of the following is true. It is in no version that was the newest within the retention, it
is older than the retention, and, while a run is at work, it is not part of a split that the run might resume.
"""

import datetime as dt
import json
import logging
import re
from collections.abc import Callable, Iterable
from typing import Any, Protocol

from pydantic import BaseModel, ConfigDict, Field

from sbert.storage.errors import translate_errors
from sbert.storage.files import delete, filesystem, join, read_bytes, strip_protocol
from sbert.table.delta import Table
from sbert.table.followers import FOLLOWERS_FOLDER
from sbert.table.lease import LEASES_FOLDER, active_leases
from sbert.table.shard_layout import is_compacted, locate_splits
from sbert.table.shards import fingerprint_of_shard
from sbert.table.split_records import MISFITS_FOLDER, REJECTED_FOLDER, SPLITS_FOLDER
from sbert.table.table_shard import TableShard
from sbert.table.vector_segments import INDEX_FOLDER, unneeded_index_files
from sbert.table.word_segments import unneeded_word_files

__all__ = ["Vacuum", "vacuum_table"]

log = logging.getLogger(__name__)

SHARD_NAME = re.compile(r"part-[0-9a-z]{32}-[0-9a-f]{8}-\d{4,}\.parquet")
TEMPORARY_NAME = re.compile(r"\..*\.tmp")
DIGESTS_FOLDER = "_digests"
"""Digests of rows by shard, which comparisons with vector stores keep."""
FOLDERS = frozenset(
    {"", DIGESTS_FOLDER, FOLLOWERS_FOLDER, LEASES_FOLDER, MISFITS_FOLDER, REJECTED_FOLDER, SPLITS_FOLDER}
)
"""Folders where a writer that died may have left a temporary file."""
COMMIT_NAME = re.compile(r"\d{20}\.json")


class Vacuum(BaseModel):
    """The files that a vacuum removed, or would remove."""

    model_config = ConfigDict(frozen=True)

    table_uri: str
    version: int
    retention_hours: float
    applied: bool
    files: list[str] = Field(description="Files, relative to the table.")
    num_shards: int = Field(description="Number of these files that are shards.")
    num_bytes: int
    num_kept_for_runs: int = Field(description="Files that would be removed if no run were at work.")
    leases: list[str] = Field(description="The runs at work.")


class OpenedTable(Protocol):
    """A table, of embeddings or derived from one."""

    uri: str

    @property
    def version(self) -> int:
        """The version that is open."""
        ...

    def shards(self) -> list[TableShard]:
        """Return the shards of the version."""
        ...


def vacuum_table(
    table_uri: str,
    *,
    retention_hours: float,
    apply: bool = False,
    open_table: Callable[[str], OpenedTable] = Table.open,
) -> Vacuum:
    """Find files that nothing needs, and with `apply` remove them.

    Args:
        table_uri: the table.
        retention_hours: versions that were the newest within this time stay readable, younger files stay.
        apply: whether to remove; records are removed before shards, so that no run resumes a split without shards.
        open_table: opens the newest version; `DerivedTable.open` for a derived table.
    """
    table = open_table(table_uri)
    now = dt.datetime.now(dt.UTC)
    cutoff = now - dt.timedelta(hours=retention_hours)
    leases = active_leases(table.uri)
    if leases:
        cutoff = min(cutoff, leases[0].started)
    files = _list_files(table.uri)
    needed_shards = {shard.name for shard in table.shards()} | _retired_since(table.uri, cutoff)
    needed_splits = _splits_of(table.uri, needed_shards, files.keys())
    needless_index_files = _needless_index_files(table, files)
    recorded = {name for name in files if name.startswith(f"{SPLITS_FOLDER}/")}
    unneeded = {
        name: size
        for name, (size, modified) in files.items()
        if modified < cutoff and (name in needless_index_files or _is_unneeded(name, needed_shards, needed_splits))
    }
    for name in unneeded_word_files(table.uri, needed_splits, files):
        if files[name][1] < cutoff:
            unneeded[name] = files[name][0]
    kept = {name for name in unneeded if _might_be_taken_up(name, recorded)} if leases else set()
    going = sorted(unneeded.keys() - kept, key=_order)
    if apply:
        shards = [name for name in going if SHARD_NAME.fullmatch(name)]
        others = [name for name in going if not SHARD_NAME.fullmatch(name)]
        delete(join(table.uri, name) for name in others)
        begun = {lease.run_id for lease in active_leases(table.uri)} - {lease.run_id for lease in leases}
        if begun or open_table(table.uri).version != table.version:  # they may have resumed splits
            log.warning("%s: another run began or committed meanwhile: shards are left for the next vacuum", table.uri)
            going, shards = others, []
        delete(join(table.uri, name) for name in shards)
    return Vacuum(
        table_uri=table.uri,
        version=table.version,
        retention_hours=retention_hours,
        applied=apply,
        files=going,
        num_shards=sum(SHARD_NAME.fullmatch(name) is not None for name in going),
        num_bytes=sum(unneeded[name] for name in going),
        num_kept_for_runs=len(kept),
        leases=[lease.describe() for lease in leases],
    )


def _order(name: str) -> tuple[bool, bool, str]:
    """Put records first, so that no reader finds one without its files."""
    return (SHARD_NAME.fullmatch(name) is not None, not name.endswith(".json"), name)


def _needless_index_files(table: OpenedTable, files: Iterable[str]) -> set[str]:
    """Return the files of the index that do not serve the newest version; an older one is then searched exactly."""
    of_index = [name for name in files if name.startswith(f"{INDEX_FOLDER}/")]
    if not of_index or not isinstance(table, Table):
        return set()
    num_rows: dict[str, int] = {}
    for shard in locate_splits(table.uri, table.shards()):
        for split in shard.splits:
            num_rows[split.fingerprint] = num_rows.get(split.fingerprint, 0) + split.num_rows
    return unneeded_index_files(table.uri, of_index, num_rows, table.encoder.fingerprint, table.version)


def _is_unneeded(name: str, shards: set[str], splits: set[str]) -> bool:
    if SHARD_NAME.fullmatch(name):
        return name not in shards
    folder, _, base = name.rpartition("/")
    if folder == DIGESTS_FOLDER and not TEMPORARY_NAME.fullmatch(base):
        return f"{base.split('.')[0]}.parquet" not in shards
    if TEMPORARY_NAME.fullmatch(base):
        return folder in FOLDERS
    if folder in {SPLITS_FOLDER, REJECTED_FOLDER, MISFITS_FOLDER}:
        return base.split(".")[0] not in splits
    return folder == LEASES_FOLDER  # older than the retention: of a run that died


def _might_be_taken_up(name: str, recorded: set[str]) -> bool:
    """Return whether a run that is planned now may resume the split that a file belongs to."""
    if SHARD_NAME.fullmatch(name):
        return f"{SPLITS_FOLDER}/{fingerprint_of_shard(name)}.json" in recorded
    return name.startswith((f"{SPLITS_FOLDER}/", f"{REJECTED_FOLDER}/", f"{MISFITS_FOLDER}/"))


def _retired_since(table_uri: str, cutoff: dt.datetime) -> set[str]:
    """Return the shards that commits since `cutoff` removed: they were in the newest version within that time."""
    folder = join(table_uri, "_delta_log")
    names: set[str] = set()
    for name, (_, modified) in _list_files(folder).items():
        if COMMIT_NAME.fullmatch(name) and modified >= cutoff:
            actions = [json.loads(line) for line in read_bytes(join(folder, name)).splitlines() if line.strip()]
            names |= {action["remove"]["path"] for action in actions if "remove" in action}
    return names


def _splits_of(table_uri: str, shards: set[str], files: Iterable[str]) -> set[str]:
    """Return the splits whose rows are in `shards`."""
    plain = {fingerprint_of_shard(name) for name in shards}
    there = set(files)
    compacted = [
        TableShard(name=name, fingerprint=fingerprint_of_shard(name), num_rows=0, num_bytes=0)
        for name in sorted(shards & there)
        if is_compacted(fingerprint_of_shard(name))
    ]
    return plain.union(*(shard.fingerprints for shard in locate_splits(table_uri, compacted)))


def _list_files(uri: str) -> dict[str, tuple[int, dt.datetime]]:
    """Return size and modification time of every file below a folder, by its path there."""
    path = strip_protocol(uri).rstrip("/")
    with translate_errors(uri):
        files = filesystem(uri).find(path, detail=True)
    return {
        name[len(path) :].lstrip("/"): (int(info.get("size") or 0), _modified(info))
        for name, info in files.items()
        if name.rstrip("/") != path
    }


def _modified(info: dict[str, Any]) -> dt.datetime:
    value = info.get("LastModified") or info.get("mtime")
    if isinstance(value, dt.datetime):
        return value
    # A store without times: count the file as written now, so that it stays.
    return dt.datetime.fromtimestamp(value, dt.UTC) if isinstance(value, int | float) else dt.datetime.now(dt.UTC)

"""Take erased rows out of the shards of a table, in all its versions and in splits that are not published yet.

Every Parquet file in the table's folder is searched, whether or not a version names it. A file of the newest version is
written again without the rows, and one commit puts the new files in the place of the old ones. All other files that hold a
row only go: versions that name them are refused from then on, and unpublished splits are built again. Old files go after the
commit, so a reader of the newest version always finds whole files.
"""

import datetime as dt
import logging
from collections.abc import Callable, Iterable
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field

from sbert.counted import counted
from sbert.erase.erasable_tables import ErasableTable
from sbert.erase.receipt import PlaceReport
from sbert.errors import CommitConflictError, MissingError
from sbert.storage.files import delete, join, list_names
from sbert.table.commit import moved_is_conflict
from sbert.table.erased_keys import ErasedKeys
from sbert.table.refused_versions import refuse_versions, versions_that_name
from sbert.table.shard_rewrite import ShardFinding, find_rows, rewrite_shard
from sbert.table.shards import ShardRecord

__all__ = ["ShardsErased", "erase_shards", "is_shard", "look_into_shards"]

log = logging.getLogger(__name__)

MAX_ATTEMPTS = 8
"""Attempts of the commit. An attempt fails if another run commits first."""
THREADS = 4


@dataclass
class ShardsErased:
    """The work on the shards of one table."""

    version_before: int
    version: int
    num_rows: int = 0
    """Rows that left the newest version."""
    num_rewritten: int = 0
    num_removed: int = 0
    num_records: int = 0
    refused: tuple[int, ...] = ()
    findings: list[ShardFinding] = field(default_factory=list)

    def report(self, table: ErasableTable, *, is_dry_run: bool) -> PlaceReport:
        """Return the entry of the receipt."""
        mentions = sum(finding.num_mentions for finding in self.findings)
        would = "would be " if is_dry_run else ""
        action = (
            f"{counted(self.num_rewritten, 'shard')} {would}rewritten, "
            f"{counted(self.num_removed, 'old or unpublished one')} {would}removed"
            + (f", {counted(self.num_records, 'unpublished split')} removed" if self.num_records else "")
            + (f", {counted(mentions, 'mention')} in other rows taken out" if mentions else "")
        )
        return PlaceReport(
            place=table.kind,
            location=table.uri,
            num_found=sum(finding.num_rows for finding in self.findings) + mentions,
            action=action if self.findings else "nothing to do",
        )


def is_shard(path: str) -> bool:
    """Return whether a file below a table is looked into as a shard: a Parquet file in the folder itself."""
    return "/" not in path and path.endswith(".parquet") and not path.startswith((".", "_"))


def erase_shards(
    table: ErasableTable,
    keys: ErasedKeys,
    erasure: str,
    begun_at: dt.datetime,
    *,
    is_dry_run: bool = False,
    before_commit: Callable[[list[ShardFinding]], None] = lambda _: None,
) -> ShardsErased:
    """Remove rows from every shard. A killed run is finished by running again.

    Args:
        table: the table.
        keys: the rows.
        erasure: id of the erasure, for the commit.
        begun_at: time of its tombstones. A run that goes on with the erasure makes no version if one was made since then
            and no shard changes.
        is_dry_run: only look.
        before_commit: gets what was found while the files still hold it.

    Raises:
        CommitConflictError: other runs committed first, at every attempt.
        TableError: a shard is damaged, so nobody can tell what it holds.
    """
    for attempt in range(1, MAX_ATTEMPTS + 1):
        table.open()
        written: list[ShardRecord] = []
        try:
            with moved_is_conflict(table.uri, None if table.kind != "shards" else table.version):
                findings = [finding for finding in _look(table, keys) if finding]
                current = [finding for finding in findings if finding.name in table.shards]
                done = ShardsErased(
                    version_before=table.version,
                    version=table.version,
                    num_rows=sum(finding.num_rows for finding in current),
                    num_rewritten=len(current),
                    num_removed=len(findings) - len(current),
                    findings=findings,
                )
                if is_dry_run:
                    return done
                before_commit(findings)
                for finding in current:
                    written.append(rewrite_shard(table.uri, finding.name, keys))  # noqa: PERF401  (kept after an error)
            drop = [table.shards[finding.name] for finding in current]
            if current or not table.has_commit_of(erasure, begun_at):
                done.version = table.commit(written, drop, erasure, done.num_rows)
        except CommitConflictError as error:
            delete(join(table.uri, record.name) for record in written)
            if attempt == MAX_ATTEMPTS:
                raise
            log.warning(
                "another run committed first; looking again (attempt %d of %d): %s", attempt + 1, MAX_ATTEMPTS, error
            )
            continue
        _remove_old(table, done, dict(zip([finding.name for finding in current], written, strict=True)), erasure)
        return done
    raise AssertionError("unreachable: the last attempt returns or raises")


def _remove_old(table: ErasableTable, done: ShardsErased, renamed: dict[str, ShardRecord], erasure: str) -> None:
    """Refuse the versions that name the old files, then remove records and files."""
    old = [finding.name for finding in done.findings]
    done.refused = refuse_versions(
        table.uri, erasure, [v for v in versions_that_name(table.uri, old) if v < done.version]
    )
    rows_of_splits: dict[str, int] = {}
    for finding in done.findings:
        if finding.name in renamed:
            for fingerprint, num_rows in finding.rows_of_splits.items():
                rows_of_splits[fingerprint] = rows_of_splits.get(fingerprint, 0) + num_rows
    table.publish_records(renamed, rows_of_splits)
    published = {shard.fingerprint for shard in table.shards.values()} | rows_of_splits.keys()
    done.num_records = table.remove_unpublished(old, sorted(published))
    delete(join(table.uri, name) for name in old)


def _look(table: ErasableTable, keys: ErasedKeys) -> Iterable[ShardFinding]:
    """Search every Parquet file of the folder. A file that vanishes meanwhile belongs to no version, so it is passed
    over."""
    names = sorted(name for name in list_names(table.uri) if is_shard(name))

    def look(name: str) -> ShardFinding:
        try:
            return find_rows(table.uri, name, keys)
        except MissingError:
            if name in table.shards:
                raise
            return ShardFinding(name)

    with ThreadPoolExecutor(THREADS) as pool:
        return list(pool.map(look, names))


def look_into_shards(table: ErasableTable, keys: ErasedKeys, report: PlaceReport) -> PlaceReport:
    """Read the keys of every shard again, and return the report with the rows that are left."""
    table.open()
    findings = list(_look(table, keys))
    num_left = sum(finding.num_rows + finding.num_mentions for finding in findings)
    num_rows = sum(finding.num_rows_read for finding in findings)
    return report.model_copy(
        update={"look": f"{counted(len(findings), 'file')} with {counted(num_rows, 'row')} read", "num_left": num_left}
    )

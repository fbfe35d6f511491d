"""Erase rows from a table and from everything that follows it.

>>> from sbert.erase.run import erase
>>> receipt = erase("table", ErasedKeys(ids=["a1"]), destinations=["lancedb:lance#docs"])  # doctest: +SKIP

Tombstones come first: from then on no refresh that is planned brings a row back. Then come the shards, with one commit even
if no shard changes. A refresh or compaction that was planned before loses against this commit, and plans again. Then come
derived tables and vector stores. Then every place is looked into again, and the receipt says what was found. A run that was
killed anywhere is finished by running again with the same keys.
"""

import datetime as dt
import getpass
import logging
import os
import socket
import time
import uuid
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from functools import partial
from typing import Any

import polars as pl

from sbert.erase.all_places import PLACES
from sbert.erase.earlier_erasures import EarlierErasures, KeyHashes, find_earlier
from sbert.erase.erasable_tables import ErasableDerived, ErasableEmbeddings
from sbert.erase.found_rows import FoundRows, forget_found_rows, read_found_rows, write_found_rows
from sbert.erase.other_consumers import other_consumers
from sbert.erase.out_of_reach import OUT_OF_REACH, bucket_problem
from sbert.erase.places import ErasedRows
from sbert.erase.receipt import RECEIPTS_FOLDER, OutOfReach, PlaceReport, Receipt, receipt_markdown
from sbert.erase.reports import erase_reports
from sbert.erase.seen_by import find_seen_by
from sbert.erase.shards import ShardsErased, erase_shards, look_into_shards
from sbert.erase.sources import with_whole_sources
from sbert.erase.stores import erase_in_store, keys_in_store
from sbert.erase.table_files import files_below, look_into_places, runs_at_work, unknown_files
from sbert.errors import SettingsError
from sbert.storage.files import join, normalize_uri, write_bytes
from sbert.sync.destinations.locate import check_location, open_destination
from sbert.table.erased_keys import ErasedKeys
from sbert.table.followers import note_rows_left
from sbert.table.lease import hold_lease
from sbert.table.recorded_settings import table_cleaning
from sbert.table.shard_rewrite import ShardFinding
from sbert.table.tombstones import (
    ERASE,
    KeyedHash,
    TombstoneFile,
    read_tombstone_files,
    request_of,
    write_tombstones,
)
from sbert.table.unit_vectors import forget_unit_vectors

__all__ = ["erase"]

log = logging.getLogger(__name__)

MAX_PASSES = 3
"""Times that places are erased when the look afterwards finds rows that a run wrote meanwhile."""


def erase(
    table_uri: str,
    keys: ErasedKeys,
    *,
    destinations: Sequence[str] = (),
    derived: Sequence[str] = (),
    labels_uri: str | None = None,
    models_uri: str | None = None,
    is_dry_run: bool = False,
    allow_missing: bool = False,
    secrets: Mapping[str, str | None] | None = None,
) -> Receipt:
    """Erase rows for good, and return the receipt, which is also kept beside the table.

    Nothing is committed and no receipt is kept when earlier erasures finished all keys and nothing is found any more. With
    destinations the erasure always runs: the past of a store cannot be searched, only removed.

    Args:
        table_uri: the table.
        keys: the rows.
        destinations: vector stores that follow the table, see `open_destination`.
        derived: derived tables of the table.
        labels_uri: labels to search for the rows; they are listed and left.
        models_uri: registry whose models are listed when their labels hold the rows.
        is_dry_run: only look: nothing is written, not even a receipt.
        allow_missing: accept a source by its whole URI when the table has no such object.
        secrets: password, token or API key by destination, where the environment does not hold it.

    Raises:
        SettingsError: no key, a source that is no object of the table, or a location that cannot be.
        NotATableError: no table there; nothing was changed.
        CommitConflictError: other runs committed first again and again.
        TableError: a shard is damaged, so nobody can tell what it holds.
        StorageError: storage refuses. Run again with the same keys.
    """
    if not keys:
        raise SettingsError("no id is named: nothing would be erased")
    for location in destinations:
        check_location(location)
    run = _Run(normalize_uri(table_uri), keys, is_dry_run=is_dry_run)
    run.keys = with_whole_sources(run.table_uri, keys, allow_missing=allow_missing)
    for uri in derived:
        ErasableDerived(normalize_uri(uri)).open()  # a wrong location is an error before anything is done
    run.earlier = find_earlier(run.table_uri, run.keys)
    follow = partial(_follow, derived, destinations, secrets or {}, labels_uri, models_uri)
    if run.earlier.is_finished and not (is_dry_run or destinations):
        looked = _Run(run.table_uri, run.keys, is_dry_run=True, earlier=run.earlier)
        looked.erase_table()
        receipt = follow(looked)
        if not any(place.num_found or not place.is_clean for place in receipt.places):
            return receipt.model_copy(update={"is_dry_run": False, "erasure": "", "out_of_reach": []})
    if is_dry_run:
        run.erase_table()
    else:
        run.bury()
        with hold_lease(run.table_uri, run.erasure, ERASE):
            run.erase_table()
    return follow(run)


def _follow(
    derived: Sequence[str],
    destinations: Sequence[str],
    secrets: Mapping[str, str | None],
    labels_uri: str | None,
    models_uri: str | None,
    run: "_Run",
) -> Receipt:
    """Erase in the table's followers, name the consumers that were left out, and return the receipt."""
    for uri in derived:
        run.erase_derived(normalize_uri(uri))
    for location in destinations:
        run.erase_destination(location, secrets.get(location))
    if not run.earlier.is_finished:
        stores = [str(open_destination(location, secrets.get(location))) for location in destinations]
        run.places += other_consumers(run.embeddings.table, [*map(normalize_uri, derived), *stores])
    run.find_seen_by(labels_uri, models_uri)
    return run.write_receipt()


@dataclass
class _Run:
    """An erasure under way."""

    table_uri: str
    keys: ErasedKeys
    is_dry_run: bool
    earlier: EarlierErasures = field(default_factory=lambda: EarlierErasures(ErasedKeys(), is_finished=False))
    erasure: str = ""
    places: list[PlaceReport] = field(default_factory=list)
    seen_by: list[Any] = field(default_factory=list)
    kept_by_stores: list[OutOfReach] = field(default_factory=list)

    def __post_init__(self) -> None:
        self.began = time.monotonic()
        self.begun_at = dt.datetime.now(dt.UTC)
        self.embeddings = ErasableEmbeddings(self.table_uri)
        self.embeddings.open()
        self.table_uri = self.embeddings.uri
        self.erasure = str(uuid.uuid4())
        self.version_before = self.embeddings.version
        self.refused: set[int] = set()
        self.num_rows = 0
        self.found_rows = FoundRows()
        self.tombstones: TombstoneFile | None = None
        self.hashed: list[str] = []

    @property
    def rows(self) -> ErasedRows:
        """The keys, with those of passages, and the text hashes that were found so far."""
        return ErasedRows(
            self.keys.with_pairs(self.found_rows.pairs), self.found_rows.text_hashes, self.found_rows.shards
        )

    @property
    def buried_at(self) -> dt.datetime:
        """Time of the tombstones: that of the first run of this erasure."""
        return self.begun_at if self.tombstones is None else self.tombstones.created

    @property
    def missing(self) -> ErasedKeys:
        """The keys that were found nowhere so far, and that no earlier erasure named."""
        return self.keys.without(self.found_rows.asked).without(self.earlier.keys)

    def bury(self) -> None:
        """Write the tombstones, or find the tombstones of an unfinished run with the same keys."""
        hasher = KeyedHash.of_table(self.table_uri)
        sources = pl.Series(sorted({source for source, _ in self.keys.pairs}), dtype=pl.String)
        hashes = KeyHashes.of(self.keys, hasher)
        self.hashed = hashes.all
        request = request_of(self.hashed)
        unfinished = [
            one for one in read_tombstone_files(self.table_uri) if one.request == request and not one.is_finished
        ]
        self.tombstones = TombstoneFile(
            erasure=self.erasure,
            created=self.begun_at,
            request=request,
            ids=frozenset(hashes.by_id.values()),
            pairs=frozenset(hashes.by_pair.values()),
            sources=frozenset(hasher.sources(sources).to_list()),
        )
        if unfinished:
            self.tombstones = unfinished[0]
            self.erasure = self.tombstones.erasure
            self.found_rows = read_found_rows(self.table_uri, self.erasure)
            self.num_rows = self.embeddings.rows_erased_by(self.erasure, self.tombstones.created)
            log.info("%s: going on with erasure %s, which did not end", self.table_uri, self.erasure)
        write_tombstones(self.table_uri, self.tombstones)

    def erase_table(self) -> None:
        """Erase the shards and the places beside them, and look again."""
        reports: dict[str, PlaceReport] = {}

        def before_commit(findings: list[ShardFinding]) -> None:
            self._note(findings)
            self._erase_places(reports)

        erased = partial(erase_shards, self.embeddings, self.keys, self.erasure, self.buried_at)
        done = erased(is_dry_run=self.is_dry_run, before_commit=before_commit)
        report = done.report(self.embeddings, is_dry_run=self.is_dry_run)
        self._take(done)
        if self.is_dry_run:
            self._note(done.findings)
            self._erase_places(reports)
            self.places += [report, *reports.values(), *unknown_files(self.table_uri)]
            return
        forget_unit_vectors(self.table_uri)
        for number in range(1, MAX_PASSES + 1):
            looked = look_into_shards(self.embeddings, self.keys, report)
            beside = look_into_places(self.table_uri, self.rows, reports)
            if number == MAX_PASSES or all(place.is_clean for place in (looked, *beside)):
                break
            log.info("%s: rows were written meanwhile; erasing them too", self.table_uri)
            if not looked.is_clean:
                self._take(erased(before_commit=before_commit))
            self._erase_places(reports)
        at_work = runs_at_work(self.table_uri, self.erasure)
        self.places += [looked, *beside, *unknown_files(self.table_uri), *at_work, *bucket_problem(self.table_uri)]

    def erase_derived(self, uri: str) -> None:
        """Erase the rows of a derived table, and take them out of lists of other rows."""
        output = ErasableDerived(uri)
        if self.is_dry_run:
            done = erase_shards(output, self.rows.keys, self.erasure, self.buried_at, is_dry_run=True)
            self._note_asked(done.findings)
            reports = self._erase_reports(output, done)
            self.places += [done.report(output, is_dry_run=True), *([reports] if reports else [])]
            return
        with hold_lease(uri, self.erasure, ERASE):
            done = erase_shards(output, self.rows.keys, self.erasure, self.buried_at, before_commit=self._note_asked)
            report = look_into_shards(output, self.rows.keys, done.report(output, is_dry_run=False))
            reports = self._erase_reports(output, done)
        note_rows_left(self.table_uri, output.uri, output.derived.num_rows)
        self.places += [report, *([reports] if reports else []), *bucket_problem(uri)]

    def _erase_reports(self, output: ErasableDerived, done: ShardsErased) -> PlaceReport | None:
        """Remove the pages of a derived table. A table of parts names no rows: its pages go when any row was erased."""
        of_rows = done.num_rows or done.findings
        is_meant = self.num_rows if output.derived.info.parts is not None else of_rows
        return erase_reports(output.uri, self.rows, has_erased_rows=bool(is_meant), is_dry_run=self.is_dry_run)

    def erase_destination(self, location: str, secret: str | None) -> None:
        """Erase the rows of a vector store."""
        if self.missing:
            self._keep(self.found_rows.with_asked(keys_in_store(location, self.missing, secret=secret)))
        report = erase_in_store(location, self.table_uri, self.rows.keys, secret=secret, is_dry_run=self.is_dry_run)
        self.places.append(report)
        if report.is_clean:
            kept = open_destination(location, secret).kept_by_store
            self.kept_by_stores.append(OutOfReach(place=f"inside {location}", advice=kept))

    def find_seen_by(self, labels_uri: str | None, models_uri: str | None) -> None:
        """List labels and models that had seen the rows."""
        cleaning = table_cleaning(self.embeddings.table)
        self.seen_by, problems = find_seen_by(labels_uri, models_uri, self.rows, cleaning)
        self.places += problems

    def write_receipt(self) -> Receipt:
        """Return the receipt; write it beside the table, and finish the tombstones when nothing is left."""
        uri = "" if self.is_dry_run else join(self.table_uri, RECEIPTS_FOLDER, f"{self.erasure}.json")
        receipt = Receipt(
            erasure=self.erasure,
            table_uri=self.table_uri,
            table_id=self.embeddings.table.table_id,
            begun_at=self.buried_at,
            ended_at=dt.datetime.now(dt.UTC),
            requested_by=f"{_user()} on {socket.gethostname()}",
            is_dry_run=self.is_dry_run,
            num_keys=len(self.keys),
            num_not_found=len(self.missing),
            ids_not_found=self.missing.described(),
            hashed_keys=self.hashed,
            num_rows_erased=self.num_rows,
            version_before=self.version_before,
            version=self.embeddings.version,
            refused_versions=sorted(self.refused),
            places=self.places,
            seen_by=self.seen_by,
            out_of_reach=[*OUT_OF_REACH, *self.kept_by_stores],
            seconds=round(time.monotonic() - self.began, 3),
            receipt=uri,
        )
        if not self.is_dry_run:
            write_bytes(uri.removesuffix(".json") + ".md", receipt_markdown(receipt).encode())
            write_bytes(uri, receipt.model_dump_json(indent=1).encode())
            if receipt.is_complete and self.tombstones is not None:
                forget_found_rows(self.table_uri, self.erasure)
                self.tombstones = self.tombstones.model_copy(update={"is_finished": True})
                write_tombstones(self.table_uri, self.tombstones)
        return receipt

    def _take(self, done: ShardsErased) -> None:
        self.num_rows += done.num_rows
        self.refused.update(done.refused)

    def _note(self, findings: list[ShardFinding]) -> None:
        """Remember the texts of found rows; rows whose id is made of their row number get a tombstone by text."""
        self._keep(self.found_rows.with_findings(findings, self.keys))
        numbered = sorted({row for finding in findings for row in finding.derived_ids if row[2]})
        if self.tombstones is None or not numbered:
            return
        hasher = KeyedHash.of_table(self.table_uri)
        sources = pl.Series([source for source, _, _ in numbered], dtype=pl.String)
        hashes = pl.Series([text_hash for _, _, text_hash in numbered], dtype=pl.Binary)
        ids = pl.Series([row_id for _, row_id, _ in numbered], dtype=pl.String)
        self.tombstones = self.tombstones.model_copy(
            update={
                "texts": self.tombstones.texts | set(hasher.texts(sources, hashes).to_list()),
                "sources": self.tombstones.sources | set(hasher.sources(sources.unique()).to_list()),
                # The number of another row may become this one's when the object changes.
                "ids": self.tombstones.ids - set(hasher.ids(ids).to_list()),
                "pairs": self.tombstones.pairs - set(hasher.pairs(sources, ids).to_list()),
            }
        )
        write_tombstones(self.table_uri, self.tombstones)

    def _note_asked(self, findings: list[ShardFinding]) -> None:
        """Remember the keys that a derived table holds rows of."""
        rows = (key for finding in findings for key in finding.keys | finding.documents)
        self._keep(self.found_rows.with_asked(self.keys.among(rows)))

    def _keep(self, rows: FoundRows) -> None:
        """Store the rows that were found; a run that continues this erasure reads them."""
        self.found_rows = rows
        if not self.is_dry_run:
            write_found_rows(self.table_uri, self.erasure, rows)

    def _erase_places(self, reports: dict[str, PlaceReport]) -> None:
        """Erase in the places beside the shards; found rows of several passes add up."""
        files = files_below(self.table_uri)
        for place in PLACES:
            paths = [path for path in files if place.owns(path)]
            if self.missing:
                named = place.keys_in(self.table_uri, paths, self.missing)
                if named:
                    self._keep(self.found_rows.with_asked(named))
            report = place.erase(self.table_uri, paths, self.rows, is_dry_run=self.is_dry_run)
            before = reports.get(place.name)
            if before is not None and before.num_found:
                report = report if report.num_found else before
                report = report.model_copy(update={"num_found": max(before.num_found, report.num_found)})
            reports[place.name] = report


def _user() -> str:
    try:
        return getpass.getuser()
    except (OSError, KeyError):  # a container whose user has no name
        return str(os.getuid())

"""Select the splits that a job builds, the splits that it keeps, and the splits that leave the table.

A refresh wants exactly the splits of the source: all other splits of the table leave it. Packs of tiny objects that the
table has are splits of the source (`sbert.refresh.table_packs`). A backfill wants the chosen objects only: everything else
stays, also rows of objects that are no longer in the source.
"""

from collections import Counter
from collections.abc import Mapping, Sequence

from pydantic import BaseModel, ConfigDict, Field

from sbert.counted import counted
from sbert.errors import SettingsError, TableError
from sbert.refresh.backfill_selection import Selection, choose_objects, cut_to_rows
from sbert.refresh.fingerprints import PlannedSplit, plan_split, without_objects
from sbert.refresh.job import RefreshJob
from sbert.refresh.table_packs import with_packs_of_table
from sbert.source.objects import SourceObject, Span
from sbert.source.splits import make_splits
from sbert.table.split_records import SplitRecord, read_records

__all__ = ["Scope", "SplitSelection", "scope_of", "select_splits"]

SLICES_LEFT_OUT = 0
"""Stands in place of a number of rows when whole slices of the object are left out."""


class Scope(BaseModel):
    """The source objects whose rows a job may change."""

    model_config = ConfigDict(frozen=True)

    is_everything: bool = True
    uris: frozenset[str] = Field(default=frozenset(), description="Objects, where it is not everything.")
    num_objects: int = Field(default=0, ge=0, description="Objects of the source.")

    @property
    def num_chosen(self) -> int:
        """Return the number of objects that the job works on."""
        return self.num_objects if self.is_everything else len(self.uris)

    def includes(self, uri: str) -> bool:
        """Return whether the rows of an object may change."""
        return self.is_everything or uri in self.uris


class SplitSelection(BaseModel):
    """The splits of a job in three groups: to build, to keep, and to drop from the table."""

    model_config = ConfigDict(frozen=True)

    scope: Scope = Field(default=Scope(), description="Objects whose rows may change; all others keep their rows.")
    missing: list[PlannedSplit] = Field(description="Splits that are wanted and not in the table, or forced.")
    keep: list[PlannedSplit] = Field(description="Splits whose rows the table has.")
    leaving: frozenset[str] = Field(description="Splits of the table that leave it, by fingerprint.")
    records: dict[str, SplitRecord] = Field(description="Completion records of the leaving splits that have one.")
    keeps_other_rows: bool = Field(default=False, description="Whether rows of objects outside the scope stay.")


class Candidate(BaseModel):
    """A split that a backfill may build."""

    model_config = ConfigDict(frozen=True)

    whole: PlannedSplit = Field(description="As a refresh would build it, with objects that were not chosen.")
    part: PlannedSplit = Field(description="The chosen objects only, or the rows that a limit leaves of them.")


def scope_of(job: RefreshJob, objects: Sequence[SourceObject]) -> Scope:
    """Return the objects that a job works on, before a limit of rows cuts them.

    Raises:
        EmptySourceError: when the job chooses none.
    """
    if job.selection is None:
        return Scope(num_objects=len(objects))
    selected = choose_objects(objects, job.selection, job.raw_uri)
    uris = frozenset(item.uri for item in selected)
    return Scope(is_everything=False, uris=uris, num_objects=len(objects))


def select_splits(
    job: RefreshJob, objects: Sequence[SourceObject], scope: Scope, have: frozenset[str], rows: str
) -> SplitSelection:
    """Compare the splits of the source with the splits of the table.

    Args:
        job: the job.
        objects: the source.
        scope: the objects that the job works on.
        have: fingerprints of the table's splits.
        rows: fingerprint of everything but the objects that decides the rows.

    Raises:
        SettingsError: when a limit would cut rows that the table has.
        TableError: when completion records are gone without which a backfill cannot tell whose rows to keep.
    """
    wanted, records = _splits_of_source(job, objects, have, rows)
    if job.selection is None:
        leaving = have - {planned.fingerprint for planned in wanted}
        return SplitSelection(
            scope=scope,
            missing=[planned for planned in wanted if planned.fingerprint not in have],
            keep=[planned for planned in wanted if planned.fingerprint in have],
            leaving=leaving,
            records={fingerprint: record for fingerprint, record in records.items() if fingerprint in leaving},
        )
    not_chosen = {item.uri for item in objects if not scope.includes(item.uri)}
    candidates = [
        Candidate(whole=whole, part=part)
        for whole in wanted
        if (part := without_objects(whole, not_chosen, rows)) is not None
    ]
    row_limits: Mapping[str, int] = {}
    if job.selection.limit is not None:
        candidates, row_limits = _cut_to_limit(job, job.selection.limit, candidates, rows)
        uris = frozenset(uri for candidate in candidates for uri in candidate.part.object_uris)
        scope = scope.model_copy(update={"uris": uris})
    return _select_within(job, job.selection, scope, candidates, row_limits, have, records)


def _splits_of_source(
    job: RefreshJob, objects: Sequence[SourceObject], have: frozenset[str], rows: str
) -> tuple[list[PlannedSplit], dict[str, SplitRecord]]:
    """Return the splits of the source, and the completion records of the table's splits that the rule does not give.

    A backfill packs nothing anew that the table has. With a limit it takes rows in the order of their objects, and only the
    rule has this order.
    """
    settings = job.settings.splits
    by_rule = [plan_split(split, rows) for split in make_splits(objects, settings)]
    fingerprints = {planned.fingerprint for planned in by_rule}
    records = read_records(job.table_uri, have - fingerprints)
    if not records or fingerprints <= have or (job.selection is not None and job.selection.limit is not None):
        return by_rule, records
    wanted = with_packs_of_table(by_rule, settings, have=have, records=records, rows=rows, merges=job.selection is None)
    return wanted, records


def _select_within(
    job: RefreshJob,
    selection: Selection,
    scope: Scope,
    candidates: Sequence[Candidate],
    row_limits: Mapping[str, int],
    have: frozenset[str],
    known: Mapping[str, SplitRecord],
) -> SplitSelection:
    """Compare the candidates of a backfill with the table; `known` are completion records that were read already."""
    missing: list[PlannedSplit] = []
    keep: list[PlannedSplit] = []
    for candidate in candidates:
        in_table = [planned for planned in (candidate.whole, candidate.part) if planned.fingerprint in have]
        if in_table and not job.force:
            keep.append(in_table[0])
        else:
            missing.append(candidate.part)
    others = have - {planned.fingerprint for planned in keep}
    records = {fingerprint: record for fingerprint, record in known.items() if fingerprint in others}
    records |= read_records(job.table_uri, others - known.keys())
    if lost := others - records.keys():
        raise TableError(
            f"{job.table_uri}: completion records of {counted(len(lost), 'split')} are gone ({min(lost)}), so a backfill "
            "cannot tell whose rows they hold: run `sbert refresh`, which builds the whole source"
        )
    leaving: set[str] = set()
    keeps_other_rows = False
    for fingerprint, record in records.items():
        in_scope = [span for span in record.spans if scope.includes(span.uri)]
        for span in in_scope:
            limit = row_limits.get(span.uri)
            if limit is not None and (span.max_rows is None or span.max_rows > limit):
                raise SettingsError(
                    f"limit {selection.limit} would cut {span.uri}, but the table has "
                    f"{'more' if span.max_rows is None else f'{span.max_rows:,}'} rows of it: name a new table, leave the "
                    "object out with exclude, or raise the limit"
                )
        keeps_other_rows |= len(in_scope) < len(record.spans)
        if in_scope:
            leaving.add(fingerprint)
    return SplitSelection(
        scope=scope,
        missing=missing,
        keep=keep,
        leaving=frozenset(leaving),
        records={fingerprint: records[fingerprint] for fingerprint in leaving},
        keeps_other_rows=keeps_other_rows,
    )


def _cut_to_limit(
    job: RefreshJob, limit: int, candidates: Sequence[Candidate], rows: str
) -> tuple[list[Candidate], Mapping[str, int]]:
    """Keep the first `limit` rows of the candidates.

    Returns:
        The candidates that are left, and for each object that is not wholly kept the number of its rows that are.
    """
    parts = [candidate.part.split for candidate in candidates]
    cut = cut_to_rows(parts, limit, job.settings.source, job.settings.reading)
    left: list[Candidate] = []
    for candidate, split in zip(candidates[: len(cut)], cut, strict=True):
        planned = plan_split(split, rows)
        is_uncut = planned.fingerprint == candidate.part.fingerprint
        left.append(Candidate(whole=candidate.whole if is_uncut else planned, part=planned))
    spans = [span for split in cut for span in split.spans]
    return left, _row_limits([span for split in parts for span in split.spans], spans)


def _row_limits(before: Sequence[Span], after: Sequence[Span]) -> Mapping[str, int]:
    """Return the rows to which each object is cut, `SLICES_LEFT_OUT` where slices are missing or cut."""
    num_before = Counter(span.object.uri for span in before)
    num_after = Counter(span.object.uri for span in after)
    limits = {uri: SLICES_LEFT_OUT for uri, number in num_after.items() if number < num_before[uri]}
    for span in after:
        uri = span.object.uri
        if span.max_rows is not None and uri not in limits:
            limits[uri] = span.max_rows if num_before[uri] == 1 else SLICES_LEFT_OUT
    return limits

"""Which splits a job works on and which of the table's splits leave it.

The one idea: a refresh wants exactly the splits of the source, whatever the table has besides goes. A backfill wants
the chosen objects only: everything else stays, also what is no longer in the source.
"""

from collections import defaultdict
from collections.abc import Mapping, Sequence

from pydantic import BaseModel, ConfigDict, Field

from sbert.errors import SettingsError, TableError
from sbert.refresh.backfill_selection import Selection, choose_objects, cut_to_rows
from sbert.refresh.fingerprints import PlannedSplit, split_fingerprint, without_objects
from sbert.refresh.job import RefreshJob
from sbert.source.objects import SourceObject
from sbert.source.splits import make_splits
from sbert.storage.files import normalize_uri
from sbert.table.split_records import read_records

__all__ = ["Choice", "choose"]


class Choice(BaseModel):
    """Splits by what is to become of them."""

    model_config = ConfigDict(frozen=True)

    missing: list[PlannedSplit] = Field(description="Splits that are wanted and not in the table, or forced.")
    keep: list[PlannedSplit] = Field(description="Splits whose rows the table has.")
    gone: frozenset[str] = Field(description="Splits of the table that leave it, by fingerprint.")
    chosen: frozenset[str] | None = Field(
        default=None, description="Objects that a backfill works on, by URI; all others keep their rows. None: all."
    )
    stays: bool = Field(default=False, description="Whether rows of other objects stay that may be of other columns.")


def choose(job: RefreshJob, objects: Sequence[SourceObject], have: frozenset[str], rows: str) -> Choice:
    """Compare the splits of the source with those of the table.

    Args:
        job: what is asked for.
        objects: the source.
        have: fingerprints of the table's splits.
        rows: fingerprint of everything but the objects that decides the rows.
    """
    splits = make_splits(objects, job.settings.splits)
    wanted = [PlannedSplit(split=split, fingerprint=split_fingerprint(split, rows)) for split in splits]
    if job.selection is not None:
        return _choose_some(job, job.selection, objects, wanted, have, rows)
    return Choice(
        missing=[planned for planned in wanted if planned.fingerprint not in have],
        keep=[planned for planned in wanted if planned.fingerprint in have],
        gone=have - {planned.fingerprint for planned in wanted},
    )


def _choose_some(
    job: RefreshJob,
    selection: Selection,
    objects: Sequence[SourceObject],
    wanted: Sequence[PlannedSplit],
    have: frozenset[str],
    rows: str,
) -> Choice:
    chosen = {item.uri for item in choose_objects(objects, selection, job.raw_uri)}
    others = {item.uri for item in objects} - chosen
    pairs = [(whole, part) for whole in wanted if (part := without_objects(whole, others, rows)) is not None]
    cut: Mapping[str, int | None] = {}
    if selection.limit is not None:
        pairs, cut = _cut(job, selection.limit, pairs, rows)
        chosen = {span.object.uri for _, part in pairs for span in part.split.spans}
    missing, keep = [], []
    for whole, part in pairs:
        present = next((planned for planned in (whole, part) if planned.fingerprint in have), None)
        if present is None or job.force:
            missing.append(part)
        else:
            keep.append(present)
    kept = {planned.fingerprint for planned in keep}
    gone: set[str] = set()
    stays = False
    records = read_records(normalize_uri(job.table_uri), have - kept)
    if lost := have - kept - records.keys():
        raise TableError(
            f"{job.table_uri}: the records of {len(lost)} splits are gone ({min(lost)}), cannot tell whose rows they "
            "have: run `sbert refresh`, which builds the whole source"
        )
    for fingerprint, record in records.items():
        touched = [span for span in record.spans if span.uri in chosen]
        for span in touched:
            limit = cut.get(span.uri, 0)
            if span.uri in cut and not (limit is not None and span.max_rows is not None and span.max_rows <= limit):
                raise SettingsError(
                    f"limit {selection.limit} would cut {span.uri}, of which the table has "
                    f"{'more' if span.max_rows is None else f'{span.max_rows:,}'} rows: name a new table, leave the "
                    "object out with exclude, or raise the limit"
                )
        stays |= len(touched) < len(record.spans)
        if touched:
            gone.add(fingerprint)
    return Choice(missing=missing, keep=keep, gone=frozenset(gone), chosen=frozenset(chosen), stays=stays)


def _cut(
    job: RefreshJob, limit: int, pairs: Sequence[tuple[PlannedSplit, PlannedSplit]], rows: str
) -> tuple[list[tuple[PlannedSplit, PlannedSplit]], Mapping[str, int | None]]:
    """Keep the first rows; give for each object that is not wholly kept the rows it is cut to, None if in slices."""
    parts = [part.split for _, part in pairs]
    kept = cut_to_rows(parts, limit, job.settings.source, job.settings.reading)
    named = [PlannedSplit(split=split, fingerprint=split_fingerprint(split, rows)) for split in kept]
    num_spans: dict[str, int] = defaultdict(int)
    for split in parts:
        for span in split.spans:
            num_spans[span.object.uri] += 1
    cut: dict[str, int | None] = {}
    num_kept: dict[str, int] = defaultdict(int)
    for split in kept:
        for span in split.spans:
            num_kept[span.object.uri] += 1
            if span.max_rows is not None:
                cut[span.object.uri] = span.max_rows if num_spans[span.object.uri] == 1 else None
    cut |= {uri: None for uri, number in num_kept.items() if number < num_spans[uri]}
    same = [
        (whole if part.fingerprint == planned.fingerprint else planned, planned)
        for (whole, part), planned in zip(pairs, named, strict=False)
    ]
    return same, cut

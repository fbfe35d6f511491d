"""The number of splits that a run will build, keep, copy and drop, as planning foresees them.

An object that planning shows to be unreadable is not built, and its earlier rows stay. The other objects of its split are
built without it, or stay where the table has them as a split of their own already.
"""

from collections import Counter
from collections.abc import Collection, Mapping, Sequence

from pydantic import BaseModel, ConfigDict, Field

from sbert.refresh.build_reasons import BuildReason
from sbert.refresh.earlier_rows import held_prefixes, staying_spans, tables_held_back
from sbert.refresh.fingerprints import PlannedSplit, without_objects
from sbert.refresh.split_selection import SplitSelection
from sbert.source.objects import SourceObject

__all__ = ["PlannedCounts", "foresee"]


class PlannedCounts(BaseModel):
    """Splits that a run will build, keep, copy and drop, where nothing but the objects known to be unreadable fails."""

    model_config = ConfigDict(frozen=True)

    splits_by_reason: dict[BuildReason, int] = Field(
        default={}, description="Number of splits that will be built, for each reason, the most frequent first."
    )
    num_kept: int = Field(default=0, description="Splits whose rows the table has, and that stay.")
    num_copied: int = Field(default=0, description="Splits that leave, of which some rows stay and are copied.")
    num_dropped: int = Field(default=0, description="Splits that leave the table.")

    @property
    def num_built(self) -> int:
        """Return the number of splits that will be built."""
        return sum(self.splits_by_reason.values())


def foresee(
    selection: SplitSelection,
    build: Sequence[PlannedSplit],
    *,
    reasons: Mapping[str, BuildReason],
    unreadable: Collection[str],
    objects: Collection[SourceObject],
    have: Collection[str],
    rows: str,
) -> PlannedCounts:
    """Count the splits that a run will build, keep, copy and drop.

    Args:
        selection: splits by what the job does with them.
        build: the splits to build.
        reasons: why each of them is built, by fingerprint.
        unreadable: objects to read that planning shows to be unreadable, by URI.
        objects: the source.
        have: splits whose rows the table has and the run may use as they are, by fingerprint.
        rows: fingerprint of everything but the objects that decides the rows.
    """
    broken = set(unreadable)
    by_reason: Counter[BuildReason] = Counter()
    stayed: set[str] = set()
    for planned in build:
        left = without_objects(planned, broken, rows) if planned.object_uris & broken else planned
        if left is not None and left is not planned and left.fingerprint in have:
            stayed.add(left.fingerprint)
        elif left is not None:
            by_reason[reasons[planned.fingerprint]] += 1
    leaving = selection.leaving - stayed
    records = {name: record for name, record in selection.records.items() if name in leaving}
    held = held_prefixes(tables_held_back(objects, broken, records.values()), broken)
    staying = staying_spans(records, selection.scope, broken, held)
    whole = {name for name, spans in staying.items() if len(spans) == len(records[name].spans)}
    return PlannedCounts(
        splits_by_reason=dict(by_reason.most_common()),
        num_kept=len(selection.keep) + len(stayed) + len(whole),
        num_copied=len(staying) - len(whole),
        num_dropped=len(leaving) - len(whole),
    )

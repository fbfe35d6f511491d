"""Keep the packs of tiny objects that the table has, so that a new object costs its own rows and not those of a pack.

A pack of the table stays while each of its objects is in the source, with the same version, and tiny. A pack that lost or
changed objects is built again without them, so that its vectors are read from one place. New and changed objects are packed
among themselves. So an object that changes every night leaves its pack once.

Packs with few objects would grow in number night by night. So a refresh that packs objects of a folder packs them together
with all packs of the folder that are not full, where there would be more than `MAX_SMALL_PACKS`. Each time the pack of a
row grows by so many objects, until it is full. So a row is carried over a few times at most.

The result depends on nothing but the source and the version of the table, so two runs at the same time plan the same.
"""

from collections import Counter
from collections.abc import Collection, Iterable, Mapping, Sequence

from sbert.refresh.fingerprints import PlannedSplit, plan_split, recorded_fingerprint
from sbert.source.objects import SourceObject, Span
from sbert.source.settings import SplitSettings
from sbert.source.splits import Split, folder_of, is_full, is_tiny, make_packs
from sbert.storage.files import base_name
from sbert.table.split_records import SplitRecord

__all__ = ["MAX_SMALL_PACKS", "with_packs_of_table"]

MAX_SMALL_PACKS = 16
"""Packs of a folder that are not full; when a refresh would leave more, it packs them anew."""


def with_packs_of_table(
    by_rule: Sequence[PlannedSplit],
    settings: SplitSettings,
    *,
    have: Collection[str],
    records: Mapping[str, SplitRecord],
    rows: str,
    merges: bool,
) -> list[PlannedSplit]:
    """Return the splits of the source, with the packs that the table has in place of those of the rule.

    Args:
        by_rule: the splits of the source, cut by the rule.
        settings: sizes of the splits.
        have: fingerprints of the table's splits.
        records: completion records of the table's splits that the rule does not give, by fingerprint.
        rows: fingerprint of everything but the objects that decides the rows.
        merges: whether packs that are not full may be packed anew.
    """
    others = [planned for planned in by_rule if not _is_pack(planned, settings)]
    packs_by_rule = [planned for planned in by_rule if _is_pack(planned, settings)]
    packs = [planned for planned in packs_by_rule if planned.fingerprint in have]
    left = {
        span.object.uri: span
        for planned in packs_by_rule
        if planned.fingerprint not in have
        for span in planned.split.spans
    }
    leaving: list[SplitRecord] = []
    for _, record in sorted(records.items()):
        pack = _pack_of(record, left, rows)
        if pack is None:
            leaving.append(record)
        else:
            packs.append(pack)
            _take_out(left, pack)
    rests = [plan_split(rest, rows) for record in leaving if (rest := _rest_of(record, left, rows)) is not None]
    packs += rests
    objects = [span.object for span in left.values()]
    if merges:
        small = _small_packs_to_merge(packs, rests, objects, settings)
        packs = [pack for pack in packs if pack.fingerprint not in small]
        objects += [span.object for pack in small.values() for span in pack.split.spans]
    fresh = [plan_split(split, rows) for split in make_packs(objects, settings)]
    return sorted([*others, *packs, *fresh], key=_first_place)


def _small_packs_to_merge(
    packs: Sequence[PlannedSplit],
    rests: Iterable[PlannedSplit],
    objects: Sequence[SourceObject],
    settings: SplitSettings,
) -> dict[str, PlannedSplit]:
    """Return the packs that are not full, by fingerprint, of folders that get a pack and would then have too many of them.

    Args:
        packs: packs that the table has, and rests of such packs.
        rests: the latter.
        objects: objects that are in none of them.
        settings: sizes of the splits.
    """
    small = [pack for pack in packs if not is_full(pack.split, settings)]
    fresh = make_packs(objects, settings)
    num_small = Counter(_folder(pack.split) for pack in small)
    num_small.update(_folder(split) for split in fresh if not is_full(split, settings))
    changed = {_folder(rest.split) for rest in rests} | {_folder(split) for split in fresh}
    folders = {folder for folder in changed if num_small[folder] > MAX_SMALL_PACKS}
    return {pack.fingerprint: pack for pack in small if _folder(pack.split) in folders}


def _is_pack(planned: PlannedSplit, settings: SplitSettings) -> bool:
    return is_tiny(planned.split.spans[0].object, settings)


def _pack_of(record: SplitRecord, left: Mapping[str, Span], rows: str) -> PlannedSplit | None:
    """Return a split of the table as a pack of objects of `left`; None where the source would not give the same rows.

    The fingerprint tells: whole objects of other versions, slices, first rows and other settings have other ones.
    """
    spans = tuple(left[span.uri] for span in record.spans if span.uri in left)
    if len(spans) < len(record.spans):
        return None
    planned = plan_split(Split(spans=spans, name=record.name), rows)
    return planned if planned.fingerprint == record.fingerprint else None


def _rest_of(record: SplitRecord, left: dict[str, Span], rows: str) -> Split | None:
    """Take the objects of a split of the table out of `left` that are as they were, and return them as a pack."""
    if record.fingerprint != recorded_fingerprint(record.spans, rows):
        return None  # other settings or another encoder
    spans = tuple(
        left.pop(span.uri)
        for span in record.spans
        if span.start is None
        and span.max_rows is None
        and span.uri in left
        and left[span.uri].object.version == span.version
    )
    if not spans:
        return None
    name = record.name if len(spans) > 1 else base_name(spans[0].object.uri)
    return Split(spans=spans, name=name).part(spans)


def _take_out(left: dict[str, Span], pack: PlannedSplit) -> None:
    for span in pack.split.spans:
        del left[span.object.uri]


def _folder(pack: Split) -> str:
    return folder_of(pack.spans[0].object)


def _first_place(planned: PlannedSplit) -> tuple[str, int]:
    first = planned.split.spans[0]
    return first.object.uri, first.start or 0

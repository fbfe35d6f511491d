"""Keep the packs of tiny objects that the table has, so that a new object costs its own rows and not those of a pack.

A pack of the table stays while each of its objects is in the source, with the same version, and tiny. The objects that are
left over are packed among themselves: on one side new and changed objects, on the other the rest of packs that lost or
changed an object. So an object that changes every night leaves its pack once.

Packs with few objects would grow in number night by night. So a refresh that packs objects of a folder packs them together
with all packs of the folder that are not full, where there would be more than `MAX_SMALL_PACKS`. Each time the pack of a
row grows by so many objects, until it is full. So a row is carried over a few times at most.

The result depends on nothing but the source and the version of the table, so two runs at the same time plan the same.
"""

from collections import Counter
from collections.abc import Collection, Iterable, Mapping, Sequence

from sbert.refresh.fingerprints import PlannedSplit, plan_split, recorded_fingerprint
from sbert.source.objects import Span
from sbert.source.settings import SplitSettings
from sbert.source.splits import Split, folder_of, is_full, is_tiny, make_packs
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
    objects = [span.object for span in left.values()]
    known = _unchanged(leaving, rows)
    groups = [
        [item for item in objects if (item.uri, item.version) in known],
        [item for item in objects if (item.uri, item.version) not in known],
    ]
    fresh = [split for group in groups for split in make_packs(group, settings)]
    if merges:
        folders = _folders_to_merge(packs, fresh, settings)
        merged = [item for item in objects if folder_of(item) in folders]
        small = [pack for pack in packs if _is_small_in(folders, pack, settings)]
        merged += [span.object for pack in small for span in pack.split.spans]
        packs = [pack for pack in packs if not _is_small_in(folders, pack, settings)]
        fresh = [split for split in fresh if _folder(split) not in folders] + make_packs(merged, settings)
    return sorted([*others, *packs, *(plan_split(split, rows) for split in fresh)], key=_first_place)


def _unchanged(records: Iterable[SplitRecord], rows: str) -> set[tuple[str, str]]:
    """Return the whole objects, with their versions, whose rows a run with the rows fingerprint `rows` would make again."""
    return {
        (span.uri, span.version)
        for record in records
        if record.fingerprint == recorded_fingerprint(record.spans, rows)
        for span in record.spans
        if span.start is None and span.max_rows is None
    }


def _folders_to_merge(packs: Iterable[PlannedSplit], fresh: Iterable[Split], settings: SplitSettings) -> set[str]:
    """Return the folders that get packs, and would then have too many that are not full."""
    folders = {_folder(split) for split in fresh}
    splits = [*(pack.split for pack in packs), *fresh]
    num_small = Counter(_folder(split) for split in splits if not is_full(split, settings))
    return {folder for folder in folders if num_small[folder] > MAX_SMALL_PACKS}


def _is_small_in(folders: Collection[str], pack: PlannedSplit, settings: SplitSettings) -> bool:
    return _folder(pack.split) in folders and not is_full(pack.split, settings)


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


def _take_out(left: dict[str, Span], pack: PlannedSplit) -> None:
    for span in pack.split.spans:
        del left[span.object.uri]


def _folder(pack: Split) -> str:
    return folder_of(pack.spans[0].object)


def _first_place(planned: PlannedSplit) -> tuple[str, int]:
    first = planned.split.spans[0]
    return first.object.uri, first.start or 0

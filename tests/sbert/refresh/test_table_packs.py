"""Packs that the table has stay: a night costs its new objects, and the number of packs stays small."""

from collections import Counter
from collections.abc import Iterable
from dataclasses import replace
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from sbert.refresh.fingerprints import PlannedSplit, plan_split, recorded_spans, rows_fingerprint
from sbert.refresh.job import RefreshSettings
from sbert.refresh.table_packs import MAX_SMALL_PACKS, with_packs_of_table
from sbert.rows.counts import RowCounts
from sbert.source.objects import SourceObject
from sbert.source.settings import SplitSettings
from sbert.source.splits import FULL_SHARE, Split, folder_of, is_full, is_tiny, make_splits
from sbert.table.split_records import SplitRecord

ROWS = rows_fingerprint("encoder", RefreshSettings())
OTHER_ROWS = rows_fingerprint("another encoder", RefreshSettings())


def item(name: str, version: int = 1, num_bytes: int = 1_000) -> SourceObject:
    return SourceObject(uri=f"s3://raw/{name}", version=str(version), num_bytes=num_bytes, format="jsonl")


def items(number: int, prefix: str = "a/") -> list[SourceObject]:
    return [item(f"{prefix}{at:05d}.jsonl") for at in range(number)]


class Nights:
    """A table without rows: the splits that it has after each refresh, and how often each object was built."""

    def __init__(self, splits: SplitSettings | None = None, fingerprint: str = ROWS) -> None:
        self.splits = splits or SplitSettings()
        self.rows = fingerprint
        self.have: dict[str, SplitRecord] = {}
        self.num_built: Counter[str] = Counter()

    def plan(self, objects: Iterable[SourceObject], *, merges: bool = True) -> list[PlannedSplit]:
        """Plan as `select_splits` does."""
        objects = list(objects)
        by_rule = [plan_split(split, self.rows) for split in make_splits(objects, self.splits)]
        names = {planned.fingerprint for planned in by_rule}
        records = {name: record for name, record in self.have.items() if name not in names}
        if not records or names <= self.have.keys():
            return by_rule
        return with_packs_of_table(
            by_rule, self.splits, have=self.have.keys(), records=records, rows=self.rows, merges=merges
        )

    def refresh(self, objects: Iterable[SourceObject]) -> list[Split]:
        """Build what is missing, drop the rest, and return what was built."""
        wanted = self.plan(objects)
        missing = [planned for planned in wanted if planned.fingerprint not in self.have]
        self.num_built.update(span.object.uri for planned in missing for span in planned.split.spans)
        self.have = {
            planned.fingerprint: self.have.get(planned.fingerprint) or record_of(planned) for planned in wanted
        }
        return [planned.split for planned in missing]


def record_of(planned: PlannedSplit) -> SplitRecord:
    return SplitRecord(
        fingerprint=planned.fingerprint,
        encoder_fingerprint="encoder",
        name=planned.split.name,
        spans=recorded_spans(planned.split),
        shards=[],
        rejects=None,
        counts=RowCounts(),
        run_id="run",
        built_at="2026-11-30T00:00:00+00:00",
    )


def names_of(splits: Iterable[Split]) -> list[set[str]]:
    return [{span.object.uri.removeprefix("s3://raw/") for span in split.spans} for split in splits]


def test_new_objects_are_one_new_pack_and_no_other_is_touched() -> None:
    table, old = Nights(), items(10_000)
    assert len(table.refresh(old)) == 64
    new = items(10, "a/new")
    (built,) = table.refresh([*old, *new])
    assert names_of([built]) == [{f"a/new{at:05d}.jsonl" for at in range(10)}]
    assert len(table.have) == 65
    assert table.refresh([*old, *new]) == []


def test_a_folder_that_grows_beyond_a_power_of_two_keeps_its_packs() -> None:
    table, old = Nights(), items(16_384)
    table.refresh(old)
    assert len(make_splits([*old, *items(10, "a/new")], table.splits)) == 2 * len(table.have)
    assert len(table.refresh([*old, *items(10, "a/new")])) == 1


def test_a_changed_object_leaves_its_pack_once() -> None:
    table, objects = Nights(), items(5)
    table.refresh(objects)
    for version in range(2, 5):
        objects[2] = item("a/00002.jsonl", version)
        table.refresh(objects)
    assert [table.num_built[one.uri] for one in objects] == [2, 2, 4, 2, 2]


def test_packs_that_lost_or_changed_an_object_stay_apart_without_it() -> None:
    table, objects = Nights(SplitSettings(pack_objects=16)), items(100)
    table.refresh(objects)
    before = [{span.uri for span in record.spans} for record in table.have.values()]
    gone, changed = sorted(before[0])[0], sorted(before[1])[0]
    left = [one for one in objects if one.uri not in (gone, changed)]
    new = [item(changed.removeprefix("s3://raw/"), 2), item("a/new.jsonl")]
    built = [{span.object.uri for span in split.spans} for split in table.refresh([*left, *new])]
    rests = [before[0] - {gone}, before[1] - {changed}]
    assert sorted(map(sorted, built)) == sorted(map(sorted, [*rests, {one.uri for one in new}]))


@pytest.mark.parametrize("num_first", [0, 1, 5, 300])
def test_a_new_object_each_night_leaves_few_packs_and_carries_each_row_a_few_times(num_first: int) -> None:
    table, objects = Nights(), [item("b/0.jsonl"), *items(num_first)]
    table.refresh(objects)
    for night in range(400):
        objects.append(item(f"a/new{night:05d}.jsonl"))
        table.refresh(objects)
        small = [record for record in table.have.values() if len(record.spans) * FULL_SHARE < 256]
        assert len(small) <= MAX_SMALL_PACKS + 1  # one of them in the other folder
    assert max(table.num_built.values()) <= 1 + 256 // FULL_SHARE // MAX_SMALL_PACKS
    assert table.num_built["s3://raw/b/0.jsonl"] == 1
    assert len(table.have) < 400 * FULL_SHARE / 256 + MAX_SMALL_PACKS + 4


def test_a_small_folder_is_not_rewritten_every_night() -> None:
    table, objects = Nights(), items(5)
    table.refresh(objects)
    for night in range(MAX_SMALL_PACKS):
        objects.append(item(f"a/new{night:05d}.jsonl"))
        table.refresh(objects)
        is_last = night == MAX_SMALL_PACKS - 1
        assert table.num_built[objects[0].uri] == 1 + is_last
    assert len(table.have) == 1


def test_packs_are_merged_only_in_a_folder_that_gets_a_pack() -> None:
    table, objects = Nights(), [item("b/0.jsonl")]
    for night in range(MAX_SMALL_PACKS + 4):
        objects.append(item(f"a/new{night:05d}.jsonl"))
        table.have = {one.fingerprint: record_of(one) for one in table.plan(objects, merges=False)}
    assert len(table.have) == MAX_SMALL_PACKS + 4 + 1
    assert table.refresh(objects) == []
    assert names_of(table.refresh([*objects, item("b/1.jsonl")])) == [{"b/1.jsonl"}]
    assert len(table.refresh([*objects, item("a/z.jsonl")])) == 1
    assert len(table.have) == 2


def test_a_backfill_merges_nothing() -> None:
    table, objects = Nights(), items(1)
    table.refresh(objects)
    for night in range(MAX_SMALL_PACKS):
        objects.append(item(f"a/new{night:05d}.jsonl"))
        kept = set(table.have)
        planned = table.plan(objects, merges=False)
        assert kept < {one.fingerprint for one in planned}
        table.have = {one.fingerprint: record_of(one) for one in planned}
    assert len(table.have) == MAX_SMALL_PACKS + 1


def test_another_encoder_packs_everything_by_the_rule() -> None:
    table, objects = Nights(), items(300)
    for night in range(5):
        objects.append(item(f"a/new{night:05d}.jsonl"))
        table.refresh(objects)
    table.rows = OTHER_ROWS
    built = {str(split.identity()) for split in table.refresh(objects)}
    assert built == {str(split.identity()) for split in make_splits(objects, table.splits)}


@pytest.mark.parametrize("span", [{"start": 0, "stop": 500}, {"max_rows": 3}])
def test_slices_and_first_rows_are_no_packs(span: dict[str, int]) -> None:
    table, objects = Nights(), items(3)
    whole = make_splits(objects[:1], table.splits)[0].spans[0]
    cut = plan_split(Split(spans=(replace(whole, **span),), name="cut"), ROWS)
    table.have = {cut.fingerprint: record_of(cut)}
    assert names_of(table.refresh(objects)) == [{"a/00000.jsonl", "a/00001.jsonl", "a/00002.jsonl"}]


def test_an_object_that_is_no_longer_tiny_leaves_its_pack() -> None:
    table, objects = Nights(), items(6)
    objects[5] = item("a/00005.jsonl", num_bytes=100_000)
    table.refresh(objects)
    table.splits = SplitSettings(pack_below_bytes=50_000)
    built = table.refresh(objects)
    assert names_of(built) == [{f"a/0000{at}.jsonl" for at in range(5)}, {"a/00005.jsonl"}]
    table.splits = SplitSettings(pack_below_bytes=1)
    assert len(table.refresh(objects)) == 5  # the large object stays as it is


FOLDERS = ("a", "b", "b/c")
EDITS = st.lists(
    st.tuples(
        st.sampled_from(["add", "change", "remove", "grow"]),
        st.sampled_from(FOLDERS),
        st.integers(0, 30),
        st.integers(1, 12),
    ),
    max_size=3,
)
SIZES = st.sampled_from(
    [
        SplitSettings(pack_objects=16),
        SplitSettings(pack_objects=64, pack_bytes=20_000),
        SplitSettings(pack_objects=1),
        SplitSettings(pack_below_bytes=0),
        SplitSettings(pack_below_bytes=2_000, split_bytes=3_000),
    ]
)


@settings(max_examples=150, deadline=None)
@given(st.lists(st.tuples(EDITS, st.none() | SIZES, st.booleans(), st.randoms()), min_size=1, max_size=25))
def test_after_any_history_every_object_is_once_in_the_table(history: list[Any]) -> None:
    table, objects = Nights(SplitSettings(pack_objects=16)), {one.uri: one for one in items(40)}
    number = 0
    for edits, sizes, switches, random in history:
        for kind, folder, first, count in edits:
            of_folder = sorted(uri for uri, one in objects.items() if folder_of(one) == f"s3://raw/{folder}")
            for at in range(count):
                number += 1
                if kind == "add":
                    new = item(f"{folder}/{number * 7_919 % 1_000}.jsonl", number)
                    objects[new.uri] = new
                elif first + at < len(of_folder) and kind == "remove":
                    del objects[of_folder[first + at]]
                elif first + at < len(of_folder):
                    size = 4_000 if kind == "grow" else 1_000
                    uri = of_folder[first + at]
                    objects[uri] = replace(objects[uri], version=str(number), num_bytes=size)
        table.splits = sizes or table.splits
        table.rows = OTHER_ROWS if switches and number % 5 == 0 else table.rows
        if not objects:
            continue
        listing = list(objects.values())
        wanted = table.plan(listing)
        random.shuffle(listing)
        table.have = dict(random.sample(sorted(table.have.items()), len(table.have)))
        assert table.plan(listing) == wanted
        spans = [span for planned in wanted for span in planned.split.spans]
        assert {span.object.uri: span.object for span in spans} == objects
        whole = Counter(span.object.uri for span in spans if span.start is None)
        assert set(whole.values()) <= {1}
        for planned in wanted:
            assert len({folder_of(span.object) for span in planned.split.spans}) == 1
            assert len(planned.split.spans) == 1 or all(is_tiny(s.object, table.splits) for s in planned.split.spans)
        unchanged = {name for name, record in table.have.items() if is_kept(record, objects, table)}
        dropped = unchanged - {planned.fingerprint for planned in wanted}
        assert not any(
            len(table.have[name].spans) * FULL_SHARE >= table.splits.pack_objects for name in dropped
        )  # only packs that are not full are packed anew
        table.refresh(listing)
        assert table.refresh(listing) == []
        if dropped:
            num_small = Counter(
                folder_of(planned.split.spans[0].object)
                for planned in wanted
                if is_tiny(planned.split.spans[0].object, table.splits) and not is_full(planned.split, table.splits)
            )
            folders = {table.have[name].spans[0].uri.rpartition("/")[0] for name in dropped & table.have.keys()}
            assert all(num_small[folder] <= MAX_SMALL_PACKS for folder in folders)


def is_kept(record: SplitRecord, objects: dict[str, SourceObject], table: Nights) -> bool:
    """Return whether a split of the table is a pack whose objects are all as they were."""
    split = Split(
        spans=tuple(
            make_splits([objects[span.uri]], SplitSettings(split_bytes=10**9))[0].spans[0]
            for span in record.spans
            if span.uri in objects and is_tiny(objects[span.uri], table.splits)
        ),
        name="",
    )
    return len(split.spans) == len(record.spans) and plan_split(split, table.rows).fingerprint == record.fingerprint

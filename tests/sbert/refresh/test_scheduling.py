"""Groups of splits: every split once and in order, enough groups for the workers, large splits alone."""

from hypothesis import given
from hypothesis import strategies as st

from sbert.refresh.fingerprints import PlannedSplit
from sbert.refresh.scheduling import SplitGroup, group_splits
from sbert.source.objects import SourceObject, Span
from sbert.source.splits import Split


def planned(*sizes: int) -> list[PlannedSplit]:
    objects = [
        SourceObject(uri=f"/raw/{number}.jsonl", version="1", num_bytes=size, format="jsonl")
        for number, size in enumerate(sizes)
    ]
    return [
        PlannedSplit(split=Split(spans=(Span(object=item),), name=f"{number}.jsonl"), fingerprint=f"f{number}")
        for number, item in enumerate(objects)
    ]


def group(items: list[PlannedSplit], **options: int) -> list[SplitGroup]:
    defaults = {"num_workers": 2, "max_splits": 64, "max_bytes": 1_000_000}
    return group_splits(items, {}, **{**defaults, **options})


def test_groups_shrink_towards_the_end_and_few_splits_travel_alone() -> None:
    assert [len(item.splits) for item in group(planned(*[100] * 4))] == [1] * 4
    # Two workers, half of a fair share of what is left: 16/4, 12/4, 9/4 up, 6/4 up, 4/4, 3/4 up, ...
    assert [len(item.splits) for item in group(planned(*[100] * 16))] == [4, 3, 3, 2, 1, 1, 1, 1]


def test_many_splits_are_few_groups() -> None:
    many = group(planned(*[100] * 10_000), num_workers=8)
    assert len(many) < 250
    assert max(len(item.splits) for item in many) == 64
    assert len(many[-1].splits) == 1


def test_a_large_split_does_not_hold_up_others() -> None:
    items = planned(*[100] * 80, 50_000, *[100] * 80)
    sizes = [len(item.splits) for item in group(items, max_bytes=10_000) if items[80] in item.splits]
    assert sizes == [1]


def test_names_and_excluded_ids_belong_to_the_splits_of_the_group() -> None:
    items = planned(*[100] * 32)
    groups = group_splits(items, {"f3": frozenset({"a"})}, num_workers=2, max_splits=2, max_bytes=10**6)
    assert groups[1].name == "2.jsonl and 1 more"
    assert [item.excluded_ids for item in groups[:3]] == [{}, {"f3": frozenset({"a"})}, {}]


@given(st.lists(st.integers(0, 5_000), max_size=200), st.integers(1, 9), st.integers(1, 40), st.integers(1, 20_000))
def test_every_split_once_in_order_and_within_bounds(
    sizes: list[int], num_workers: int, max_splits: int, max_bytes: int
) -> None:
    items = planned(*sizes)
    groups = group(items, num_workers=num_workers, max_splits=max_splits, max_bytes=max_bytes)
    assert [item for part in groups for item in part.splits] == items
    for part in groups:
        assert 1 <= len(part.splits) <= max_splits
        assert len(part.splits) == 1 or sum(item.split.num_bytes for item in part.splits) <= max_bytes

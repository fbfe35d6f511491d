"""Events are checked, and items are ranked by what each user did."""

import datetime as dt
from pathlib import Path

import numpy as np
import polars as pl
import pytest

from sbert.apply.recommendation.events import Events, check_events, read_events, split_by_time
from sbert.apply.recommendation.ranking import fit_ranker
from sbert.apply.recommendation.settings import EventColumns, RankingSettings
from sbert.errors import ColumnError, TooFewLabelsError
from sbert.vectors.precision import Float32

NOW = dt.datetime(2026, 1, 1, tzinfo=dt.UTC)
NAMES = EventColumns()
SETTINGS = RankingSettings(num_factors=4, num_rounds=3)
NUM_ITEMS = 40
ITEMS = [str(number) for number in range(NUM_ITEMS)]


def two_tastes() -> tuple[Events, Float32]:
    """Return events of 20 users who like items of their own half, and vectors in which the halves lie apart.

    Items 0 and 39 have no events.
    """
    random = np.random.default_rng(0)
    half = NUM_ITEMS // 2
    vectors = random.normal(0, 0.3, (NUM_ITEMS, 4)).astype(np.float32)
    vectors[:half, 0] += 2
    vectors[half:, 1] += 2
    rows = [
        {"user": f"u{user:02}", "item": str(item), "time": str(1_700_000_000 + place), "type": "click"}
        for user in range(20)
        for place, item in enumerate(random.permutation(np.arange(1, half) if user % 2 else np.arange(half, 39))[:10])
    ]
    return check_events(pl.DataFrame(rows), ITEMS, NAMES, NOW), vectors


@pytest.mark.parametrize(
    ("change", "reason"),
    [
        ({"user": ""}, "no user"),
        ({"item": "99"}, "unknown item"),
        ({"time": "soon"}, "no time"),
        ({"time": "2027-01-01"}, "time in the future"),
        ({"type": "stare"}, "no weight"),
    ],
)
def test_a_bad_event_is_rejected_with_its_reason(change: dict[str, str], reason: str) -> None:
    good = {"user": "u", "item": "1", "time": "2025-01-01", "type": "view"}
    events = check_events(pl.DataFrame([good, good | change]), ITEMS, NAMES, NOW)
    assert events.rejected == {reason: 1}
    assert len(events.rows) == 1


def test_a_type_gives_its_weight_and_events_are_in_the_order_of_time(tmp_path: Path) -> None:
    (tmp_path / "a.csv").write_text("user,item,time,type\nu,2,2025-01-02T00:00:00Z,purchase\nu,1,1700000000,view\n")
    events = read_events(str(tmp_path), ITEMS, NAMES, NOW)
    assert events.rows.select("item", "weight").rows() == [(1, 1.0), (2, 5.0)]


def test_a_missing_column_is_named() -> None:
    with pytest.raises(ColumnError, match="'time'"):
        check_events(pl.DataFrame([{"user": "u", "item": "1"}]), ITEMS, NAMES, NOW)


def test_no_events_are_no_error_until_something_is_to_be_learned() -> None:
    events = check_events(pl.DataFrame(), ITEMS, NAMES, NOW)
    with pytest.raises(TooFewLabelsError, match="0 later events"):
        fit_ranker(events.rows, 0, np.ones((NUM_ITEMS, 4), np.float32), SETTINGS)


def test_no_later_event_is_before_an_earlier_one_of_the_same_user() -> None:
    events, _ = two_tastes()
    earlier, later = split_by_time(events.rows, 0.2)
    last = earlier.group_by("user").agg(last=pl.col("moment").max())
    assert len(later) == 40
    assert later.join(last, on="user").filter(pl.col("moment") < pl.col("last")).is_empty()


def test_a_user_gets_unseen_items_of_the_own_taste_with_a_reason_from_the_own_history() -> None:
    events, vectors = two_tastes()
    ranker = fit_ranker(events.rows, len(events.users), vectors, SETTINGS)
    history = set(ranker.signals.seen_UN[1].indices.tolist())
    found = ranker.recommend(1, 5)
    assert {one.item < NUM_ITEMS // 2 for one in found} == {True}
    assert not history & {one.item for one in found}
    assert {one.because for one in found} <= history


def test_an_item_without_events_stands_before_other_such_items_by_its_vector() -> None:
    events, vectors = two_tastes()
    ranker = fit_ranker(events.rows, len(events.users), vectors, SETTINGS)
    assert ranker.scores(1)[0] > ranker.scores(1)[39]
    assert ranker.scores(0)[39] > ranker.scores(0)[0]


def test_the_same_events_give_the_same_scores() -> None:
    events, vectors = two_tastes()
    first, second = (fit_ranker(events.rows, len(events.users), vectors, SETTINGS).scores(3) for _ in range(2))
    np.testing.assert_array_equal(first, second)

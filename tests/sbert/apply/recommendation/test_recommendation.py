"""Events are checked, and items are ranked by what each user did."""

from pathlib import Path

import numpy as np
import polars as pl
import pytest
import scipy.sparse as sp

from sbert.apply.recommendation.events import Events, check_events, history_hashes, read_events, split_by_time
from sbert.apply.recommendation.factors import solve_factors
from sbert.apply.recommendation.item_pairs import taken_next, taken_together
from sbert.apply.recommendation.items import Items
from sbert.apply.recommendation.ranker import FIXED_WEIGHTS, Ranker, fit_ranker
from sbert.apply.recommendation.settings import EventColumns, RankingSettings
from sbert.apply.recommendation.signals import SIGNALS, Signals, UserHistories
from sbert.errors import ColumnError
from sbert.vectors.precision import Float32
from tests.sbert.apply.recommendation.made_events import HALF, NOW, NUM_ITEMS, event, made_events, made_items

NAMES = EventColumns()
SETTINGS = RankingSettings(num_factors=4, num_rounds=3)


def events_of(rows: list[dict[str, str]]) -> Events:
    return check_events(pl.DataFrame(rows), made_items(), NAMES, NOW)


def scores_of(ranker: Ranker, events: Events, user: int) -> Float32:
    items = made_items()
    users = UserHistories(events.rows, len(events.users), len(items), SETTINGS)
    return ranker.scores(Signals(ranker.statistics, items, SETTINGS), users, np.array([user]))[0]


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
    good = {"user": "u", "item": "01", "time": "2025-01-01", "type": "view"}
    events = events_of([good, good | change])
    assert events.rejected == {reason: 1}
    assert len(events.rows) == 1


def test_an_id_of_two_sources_names_no_item() -> None:
    keys = pl.DataFrame({"source": ["a", "b"], "id": ["1", "1"], "text_hash": [b"x" * 16, b"y" * 16]})
    rows = pl.DataFrame([{"user": "u", "item": "1", "time": "2025-01-01"}])
    assert check_events(rows, Items(keys), NAMES, NOW).rejected == {"item in several sources": 1}


def test_a_type_gives_its_weight_and_events_are_in_the_order_of_time(tmp_path: Path) -> None:
    (tmp_path / "a.csv").write_text("user,item,time,type\nu,02,2025-01-02T00:00:00Z,purchase\nu,01,1700000000,view\n")
    events = read_events(str(tmp_path), made_items(), NAMES, NOW)
    assert events.rows.select("item", "weight").rows() == [(1, 1.0), (2, 5.0)]


def test_files_of_several_formats_are_read_and_broken_records_are_counted(tmp_path: Path) -> None:
    (tmp_path / "a.csv").write_text("user,item,time\nu,02,2025-01-02\nv,01\n")
    (tmp_path / "b.jsonl").write_text('{"user": "u", "item": "03", "time": 1700000000}\n{"user": \n')
    (tmp_path / "c.csv").write_text("")
    events = read_events(str(tmp_path), made_items(), NAMES, NOW)
    assert events.rows.select("item", "weight").rows() == [(3, 1.0), (2, 1.0)]
    assert events.rejected == {"broken row": 2}


def test_a_missing_column_is_named() -> None:
    with pytest.raises(ColumnError, match="'time'"):
        events_of([{"user": "u", "item": "01"}])


def test_a_shown_item_is_no_taken_one() -> None:
    events = events_of([event("u", 1, 0), event("u", 2, 1, "impression")])
    assert len(events.rows) == 2
    assert len(events.taken) == 1
    users = UserHistories(events.rows, 1, NUM_ITEMS, SETTINGS)
    assert users.taken_UN.indices.tolist() == [1]
    assert users.shown_UN.indices.tolist() == [2]


def test_the_hash_of_a_history_changes_with_its_events_and_the_texts_of_its_items() -> None:
    rows = [event("u", 1, 0), event("u", 2, 1), event("v", 3, 0)]
    items = made_items()
    before = history_hashes(events_of(rows), items)
    after = history_hashes(events_of([*rows, event("v", 4, 5)]), items)
    assert before[0] == after[0]
    assert before[1] != after[1]
    other = Items(
        items.keys.with_columns(text_hash=pl.when(pl.col("id") == "01").then(b"0" * 16).otherwise("text_hash"))
    )
    changed = history_hashes(events_of(rows), other)
    assert changed[0] != before[0]
    assert changed[1] == before[1]


def test_no_later_event_is_before_an_earlier_one_of_the_same_user() -> None:
    earlier, later = split_by_time(events_of(made_events()).taken, 0.2)
    last = earlier.group_by("user").agg(last=pl.col("moment").max())
    assert len(later) == 40
    assert later.join(last, on="user").filter(pl.col("moment") < pl.col("last")).is_empty()


def test_items_of_the_own_taste_stand_first_and_taken_ones_are_left_out() -> None:
    events = events_of(made_events())
    ranker = fit_ranker(events, made_items(), SETTINGS)
    scores = scores_of(ranker, events, 1)
    taken = events.taken.filter(pl.col("user") == 1)["item"].to_list()
    assert set(np.flatnonzero(np.isinf(scores))) == set(taken)
    best = np.argsort(-scores)[:5]
    assert (best < HALF).all()


def test_an_item_without_events_stands_before_other_such_items_by_its_vector() -> None:
    events = events_of(made_events())
    ranker = fit_ranker(events, made_items(), SETTINGS)
    odd, even = scores_of(ranker, events, 1), scores_of(ranker, events, 0)
    assert odd[0] > odd[39]
    assert even[39] > even[0]


def test_items_shown_and_not_taken_are_learned_to_be_unwanted() -> None:
    rows = made_events()
    shown = [
        event(f"u{user:02}", item, at, "impression")
        for user in range(20)
        for item in ((5, 6) if user % 2 else (25, 26))
        for at in (0, 9)
    ]
    events = events_of([*rows, *shown])
    ranker = fit_ranker(events, made_items(), SETTINGS)
    assert ranker.weights_S[SIGNALS.index("shown")] < 0
    without = fit_ranker(events_of(rows), made_items(), SETTINGS)
    assert without.weights_S[SIGNALS.index("shown")] == 0


def test_the_same_events_give_the_same_scores() -> None:
    events = events_of(made_events())
    first, second = (scores_of(fit_ranker(events, made_items(), SETTINGS), events, 3) for _ in range(2))
    np.testing.assert_array_equal(first, second)


def test_one_user_with_few_events_is_ranked_by_fixed_weights() -> None:
    events = events_of([event("u", 1, 0), event("u", 2, 1)])
    ranker = fit_ranker(events, made_items(), SETTINGS)
    assert ranker.num_later_events == 0
    np.testing.assert_array_equal(ranker.weights_S, np.array(FIXED_WEIGHTS, np.float32))
    assert np.argmax(scores_of(ranker, events, 0)) < HALF


def test_items_taken_soon_after_one_another_are_counted_nearer_ones_more() -> None:
    after = taken_next(np.array([0, 0, 0, 1, 1]), np.array([0, 1, 2, 1, 2]), 3, 2)
    half = 0.5 ** (1 / 7)
    np.testing.assert_allclose(after.toarray(), [[0, 1, half], [0, 0, 2], [0, 0, 0]], rtol=1e-6)


def test_items_of_the_same_users_are_similar_by_the_cosine_with_shrinkage() -> None:
    taken = sp.csr_matrix(np.array([[1, 1, 0], [1, 1, 0], [5, 0, 1]], np.float32))
    common = taken_together(taken, 2, 1.0).toarray()
    one, two = 2 / (6**0.5 + 1), 1 / (3**0.5 + 1)  # 3, 2 and 1 users; 2 and 1 in common
    np.testing.assert_allclose(common, [[0, one, two], [one, 0, 0], [two, 0, 0]], rtol=1e-6)
    assert taken_together(taken, 1, 1.0).nnz == 3


def test_a_score_of_some_items_is_that_of_all() -> None:
    events = events_of(made_events())
    items = made_items()
    ranker = fit_ranker(events, items, SETTINGS)
    users = UserHistories(events.rows, len(events.users), len(items), SETTINGS)
    signals = Signals(ranker.statistics, items, SETTINGS)
    some, of_items = np.array([3, 7]), np.array([0, 12, 39])
    every = ranker.scores(signals, users, some)
    np.testing.assert_allclose(ranker.scores(signals, users, some, of_items), every[:, of_items], rtol=1e-5)


def test_factors_solve_the_weighted_least_squares_of_each_row() -> None:
    random = np.random.default_rng(0)
    other = random.normal(size=(30, 4)).astype(np.float32)
    weights = sp.random(12, 30, 0.2, "csr", np.float32, random)
    solved = solve_factors(weights, other, 0.5, 2.0)
    for row, factors in zip(weights.toarray(), solved, strict=True):
        confidence, wanted = 1 + 2.0 * row, (row > 0).astype(np.float64)
        left = other.T @ (confidence[:, None] * other) + 0.5 * np.eye(4)  # Hu, Koren, Volinsky: equation 4
        np.testing.assert_allclose(factors, np.linalg.solve(left, other.T @ (confidence * wanted)), atol=1e-4)

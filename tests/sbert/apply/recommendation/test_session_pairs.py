"""Pairs of items of one session: which count, that a run adds new ones only, and that retraining reads them."""

import json
from pathlib import Path

import polars as pl
import pytest

from sbert.apply.recommendation.events import Events, check_events
from sbert.apply.recommendation.run import recommend
from sbert.apply.recommendation.session_pairs import add_pairs, known_pairs, session_pairs
from sbert.apply.recommendation.settings import (
    EventColumns,
    RankingSettings,
    RecommendationSettings,
    SessionSettings,
)
from sbert.errors import ColumnError, LabelError, SettingsError
from sbert.labels.label_kinds import LabelKind
from sbert.labels.load import load_labels
from tests.sbert.apply.recommendation.made_events import (
    NOW,
    NUM_ITEMS,
    event,
    item_rows,
    made_items,
    write_events,
    write_items,
)
from tests.support.made_tables import make_version

MINUTE = 60
EVERY = SessionSettings(min_users=2, window=5)
TEXTS = pl.Series([f"text {number}" for number in range(NUM_ITEMS)])


def events_of(rows: list[dict[str, str]]) -> Events:
    return check_events(pl.DataFrame(rows), made_items(), EventColumns(), NOW)


def pairs_of(
    rows: list[dict[str, str]], settings: SessionSettings = EVERY, texts: pl.Series = TEXTS
) -> list[tuple[str, str, int]]:
    pairs = session_pairs(events_of(rows), made_items(), texts, settings)
    return pairs.select("anchor", "positive", "num_users").rows()


def visit(user: str, *items: int, at: int = 0) -> list[dict[str, str]]:
    """Return events one minute apart."""
    return [event(user, item, at + MINUTE * place) for place, item in enumerate(items)]


def test_items_that_users_take_in_one_session_are_a_pair_and_the_first_one_is_the_anchor() -> None:
    rows = [*visit("a", 3, 5), *visit("b", 3, 5), *visit("c", 5, 3), *visit("d", 7, 8)]
    assert pairs_of(rows) == [("text 3", "text 5", 3)]


def test_a_long_pause_ends_a_session() -> None:
    near = [*visit("a", 3), *visit("a", 5, at=30 * MINUTE), *visit("b", 3), *visit("b", 5, at=30 * MINUTE)]
    far = [*visit("a", 3), *visit("a", 5, at=31 * MINUTE), *visit("b", 3), *visit("b", 5, at=31 * MINUTE)]
    assert pairs_of(near) == [("text 3", "text 5", 2)]
    assert pairs_of(far) == []
    assert pairs_of(far, EVERY.model_copy(update={"gap_minutes": 31.0})) == [("text 3", "text 5", 2)]


def test_a_user_counts_once_and_one_user_is_not_enough() -> None:
    often = [row for day in range(5) for row in visit("a", 3, 5, at=day * 86_400)]
    assert pairs_of(often) == []
    assert pairs_of([*often, *visit("b", 5, 3)]) == [("text 3", "text 5", 2)]


def test_an_item_is_paired_with_the_items_of_the_window_and_a_repeat_takes_no_place() -> None:
    rows = [*visit("a", 3, 3, 5, 3, 7), *visit("b", 3, 5, 5, 7)]
    narrow = EVERY.model_copy(update={"window": 1})
    assert pairs_of(rows, narrow) == [("text 3", "text 5", 2), ("text 5", "text 7", 2)]
    assert ("text 3", "text 7", 2) in pairs_of(rows)


def test_the_last_item_of_a_user_makes_no_pair_with_the_first_of_the_next() -> None:
    assert pairs_of([*visit("a", 3), *visit("b", 5), *visit("c", 3), *visit("d", 5)]) == []


def test_items_that_were_only_shown_make_no_pair() -> None:
    shown = [event(user, 5, MINUTE, "impression") for user in "ab"]
    assert pairs_of([*visit("a", 3), *visit("b", 3), *shown]) == []


def test_of_each_item_the_best_pairs_stay() -> None:
    # Everyone takes 1. Users who take 3 and 5 take 1 too, but 1 is no more than the second best of both.
    rows = [row for user in range(12) for row in visit(f"u{user}", 1, 10 + user % 6)]
    rows += [row for user in "abcd" for row in visit(user, 3, 5, 1)]
    best = pairs_of(rows, SessionSettings(min_users=2, max_pairs=1))
    assert ("text 3", "text 5", 4) in best
    assert ("text 5", "text 1", 4) not in best
    assert ("text 5", "text 1", 4) in pairs_of(rows, SessionSettings(min_users=2, max_pairs=2))
    assert ("text 1", "text 10", 2) in best  # the only one of 10


def test_texts_that_are_empty_or_equal_make_no_pair() -> None:
    rows = [*visit("a", 3, 5, 7), *visit("b", 3, 5, 7)]
    texts = TEXTS.to_list()
    texts[5], texts[7] = "", "text 3"
    assert pairs_of(rows, texts=pl.Series(texts)) == []


def test_a_run_adds_only_pairs_that_the_labels_lack(tmp_path: Path) -> None:
    labels = str(tmp_path / "labels")
    first = session_pairs(events_of([*visit("a", 3, 5), *visit("b", 3, 5)]), made_items(), TEXTS, EVERY)
    file, count = add_pairs(first, labels)
    assert count == 1
    assert json.loads(Path(file).read_text())["anchor"] == "text 3"
    assert add_pairs(first, labels) == ("", 0)
    turned = first.rename({"anchor": "positive", "positive": "anchor"})
    assert add_pairs(turned, labels) == ("", 0)  # the order of a pair says nothing
    rows = [*visit("a", 3, 5, 7), *visit("b", 3, 5, 7)]
    _, count = add_pairs(session_pairs(events_of(rows), made_items(), TEXTS, EVERY), labels)
    assert count == 2
    assert len(list(Path(labels).iterdir())) == 2
    by_hand = pl.DataFrame({"query": ["text 8"], "answer": ["text 9"]})
    by_hand.write_ndjson(Path(labels) / "people.jsonl")
    with pytest.raises(LabelError, match=r"people\.jsonl: has the columns query, answer, not anchor and positive"):
        add_pairs(first, labels)


@pytest.mark.parametrize(
    ("name", "what"), [("people.jsonl", "a file"), ("notes", "a file"), ("new.csv", "a file"), ("*.jsonl", "a pattern")]
)
def test_pairs_go_to_a_folder_and_anything_else_is_refused_before_any_work(
    tmp_path: Path, name: str, what: str
) -> None:
    folder = tmp_path / "labels.d"
    folder.mkdir()
    pl.DataFrame({"anchor": ["a"], "positive": ["b"]}).write_ndjson(folder / "people.jsonl")
    (folder / "notes").write_text("hello")
    write_items(tmp_path / "items", item_rows())
    write_events(tmp_path / "events", [event("u", "1", 0)])
    places = [str(tmp_path / place) for place in ("items", "events", "out")]
    expected = rf"this names {what}, but new pairs are written as a new file: name a folder, such as {folder}$"
    with pytest.raises(SettingsError, match=expected):
        recommend(*places, pairs_uri=str(folder / name), now=NOW)
    assert not (tmp_path / "out").exists()
    assert known_pairs(str(folder)).height == 1  # a folder may have an ending
    assert known_pairs(str(folder / "new")).height == 0


def test_a_run_of_recommendations_writes_pairs_that_retraining_reads(tmp_path: Path) -> None:
    write_items(tmp_path / "items", item_rows())
    rows = [row for user in range(6) for row in visit(f"u{user}", *range(1 + user % 2, 30, 2))]
    write_events(tmp_path / "events", rows)
    places = [str(tmp_path / name) for name in ("items", "events", "out")]
    settings = RecommendationSettings(ranking=RankingSettings(num_factors=4, num_rounds=2))
    labels = str(tmp_path / "labels")
    report = recommend(*places, settings, pairs_uri=labels, now=NOW)
    assert report.num_pairs_new > 20
    assert report.pairs_uri == labels
    assert Path(report.pairs_file).parent == Path(labels)
    read = load_labels(labels)
    assert read.kind is LabelKind.PAIRS
    assert read.num_rows_read == report.num_pairs_new
    assert read.train.height > 0
    again = recommend(*places, settings, pairs_uri=labels, now=NOW)
    assert again.num_pairs_new == 0
    assert again.pairs_file == ""
    assert again.num_shards_built == 0
    assert recommend(*places, settings, now=NOW).pairs_uri is None


def test_labels_of_another_kind_and_a_table_without_texts_are_refused_before_any_work(tmp_path: Path) -> None:
    make_version(str(tmp_path / "items"), {"a": {"1": 1, "2": 2}})
    write_events(tmp_path / "events", [event("u", "1", 0)])
    with pytest.raises(ColumnError, match="no kept column holds the encoded text"):
        recommend(*(str(tmp_path / name) for name in ("items", "events", "out")), pairs_uri=str(tmp_path / "labels"))
    write_items(tmp_path / "with texts", item_rows())
    (tmp_path / "labels").mkdir()
    pl.DataFrame({"text": ["a"], "label": ["b"]}).write_ndjson(tmp_path / "labels/classes.jsonl")
    with pytest.raises(LabelError, match=r"classes\.jsonl: has the columns text, label, not anchor and positive"):
        recommend(
            *(str(tmp_path / name) for name in ("with texts", "events", "out")), pairs_uri=str(tmp_path / "labels")
        )
    assert not (tmp_path / "out").exists()

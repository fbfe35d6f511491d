"""Topics: stable numbers, words, outliers, new topics, counts over time."""

from pathlib import Path

import numpy as np
import polars as pl
import pytest
from pydantic import ValidationError

from sbert.apply.topics.fit import _parents
from sbert.apply.topics.run import find_topics
from sbert.apply.topics.settings import FitSettings, TopicSettings
from sbert.derived.any_table import verify_any
from sbert.derived.derived_table import DerivedTable
from sbert.errors import ColumnError
from sbert.storage.files import read_bytes
from sbert.vectors.unit import unit_rows
from tests.support.made_texts import Row, make_text_version

DIM = 6
WORDS = ["lost card", "exchange rate", "top up", "new passcode"]
THREE = TopicSettings(fit=FitSettings(num_topics=3, outlier_share=0.0, min_topic_rows=3), min_new_rows=10)


def rows_about(subject: int, num: int, first: int = 0) -> list[Row]:
    """Return rows near one axis."""
    noise = np.random.default_rng([subject, first]).normal(scale=0.05, size=(num, DIM))
    return [
        (
            f"{subject}-{first + n}",
            f"about the {WORDS[subject]} {first + n}",
            (np.eye(DIM)[subject] + noise[n]).tolist(),
        )
        for n in range(num)
    ]


def test_a_share_of_outliers_that_every_fit_exceeds_is_refused() -> None:
    with pytest.raises(
        ValidationError, match=r"outlier_share is 0\.2 and refit_share 0.15.*choose a larger refit_share"
    ):
        TopicSettings(fit=FitSettings(outlier_share=0.2))


def topics_of(out: str) -> dict[str, int]:
    return dict(DerivedTable.open(out).scan().select("id", "topic").collect().iter_rows())


@pytest.fixture
def places(tmp_path: Path) -> tuple[str, str]:
    table = str(tmp_path / "table")
    make_text_version(table, {str(subject): rows_about(subject, 30 + 10 * subject) for subject in range(3)})
    return table, str(tmp_path / "out")


def test_topics_have_words_texts_and_two_levels(places: tuple[str, str]) -> None:
    report = find_topics(*places, THREE)
    assert [topic.num_rows for topic in report.topics] == [50, 40, 30]
    assert [set(topic.words) for topic in report.topics] == [{"top"}, {"exchange", "rate"}, {"lost", "card"}]
    assert all(topic.texts[0].startswith("about the top up") for topic in report.topics[:1])
    assert report.refitted == "first run"
    rows = DerivedTable.open(places[1]).scan().collect()
    assert rows["parent"].n_unique() == 2
    assert rows.group_by("topic").agg(pl.col("parent").n_unique())["parent"].to_list() == [1, 1, 1]
    assert verify_any(places[1]).findings == []
    assert b"exchange, rate" in read_bytes(report.report_uri)


def test_a_night_assigns_only_new_rows_and_keeps_the_numbers(places: tuple[str, str]) -> None:
    table, out = places
    find_topics(table, out, THREE)
    before = topics_of(out)
    old = {str(subject): rows_about(subject, 30 + 10 * subject) for subject in range(3)}
    make_text_version(table, {**old, "new": rows_about(1, 5, first=900)})
    report = find_topics(table, out, THREE)
    after = topics_of(out)
    assert report.refitted == ""
    assert report.new_topics == ()
    assert report.num_rows_built == 5
    assert {key: after[key] for key in before} == before
    assert {after[f"1-{900 + n}"] for n in range(5)} == {before["1-0"]}
    assert find_topics(table, out, THREE).num_rows_built == 0


def test_a_new_fit_keeps_the_numbers_of_topics_that_stay(places: tuple[str, str]) -> None:
    table, out = places
    find_topics(table, out, THREE)
    before = topics_of(out)
    again = THREE.model_copy(update={"fit": THREE.fit.model_copy(update={"seed": 5})})
    report = find_topics(table, out, again)
    assert report.refitted == "other settings"
    assert report.new_topics == ()
    assert report.ended_topics == ()
    assert topics_of(out) == before
    fewer = THREE.model_copy(update={"fit": THREE.fit.model_copy(update={"num_topics": 2})})
    report = find_topics(table, out, fewer)
    assert len(report.ended_topics) == 1
    assert {topic.topic for topic in report.topics} <= set(before.values())


def test_outliers_that_resemble_each_other_become_a_new_topic(places: tuple[str, str]) -> None:
    table, out = places
    settings = THREE.model_copy(update={"fit": THREE.fit.model_copy(update={"outlier_share": 0.01})})
    find_topics(table, out, settings)
    before = topics_of(out)
    old = {str(subject): rows_about(subject, 30 + 10 * subject) for subject in range(3)}
    make_text_version(table, {**old, "new": rows_about(3, 15)})
    report = find_topics(table, out, settings)
    (new,) = report.new_topics
    assert new == 3
    assert report.refitted == ""
    assert next(topic for topic in report.topics if topic.topic == new).words[:2] in {
        ("new", "passcode"),
        ("passcode", "new"),
    }
    after = topics_of(out)
    assert {after[f"3-{n}"] for n in range(15)} == {new}
    assert {key: after[key] for key in before} == before
    assert find_topics(table, out, settings).new_topics == ()


def test_topics_are_fitted_anew_when_too_many_rows_are_outliers(places: tuple[str, str]) -> None:
    table, out = places
    settings = THREE.model_copy(update={"refit_share": 0.1, "min_new_rows": 1_000})
    settings = settings.model_copy(
        update={"fit": THREE.fit.model_copy(update={"num_topics": None, "outlier_share": 0.01})}
    )
    find_topics(table, out, settings)
    old = {str(subject): rows_about(subject, 30 + 10 * subject) for subject in range(3)}
    make_text_version(table, {**old, "new": rows_about(3, 60)})
    assert "of the rows are outliers, above 10.0%" in find_topics(table, out, settings).refitted


def test_rows_are_counted_in_each_period(tmp_path: Path) -> None:
    table, out = str(tmp_path / "table"), str(tmp_path / "out")
    rows = rows_about(0, 20)
    days = {row: f"2026-11-{2 + (n % 2) * 7:02d}T10:00:00Z" for n, (row, _, _) in enumerate(rows)}
    make_text_version(table, {"a": rows}, kept={"at": days})
    settings = TopicSettings(fit=FitSettings(num_topics=1, outlier_share=0.0), time_column="at")
    report = find_topics(table, out, settings)
    assert report.over_time == (
        {"period": "2026-11-02", "topic": 0, "rows": 10},
        {"period": "2026-11-09", "topic": 0, "rows": 10},
    )
    assert b"Rows of the largest topics" in read_bytes(report.report_uri)
    assert report.num_without_time == 0
    with pytest.raises(ColumnError, match="no kept column 'when'"):
        find_topics(table, out, settings.model_copy(update={"time_column": "when"}))


def test_a_text_column_without_dates_is_refused_and_holes_are_counted(tmp_path: Path) -> None:
    table, out = str(tmp_path / "table"), str(tmp_path / "out")
    rows = rows_about(0, 20)
    days = {row: "2026-11-02" if n < 15 else "soon" for n, (row, _, _) in enumerate(rows)}
    make_text_version(table, {"a": rows}, kept={"at": days, "kind": {row: "method" for row, _, _ in rows}})
    settings = TopicSettings(fit=FitSettings(num_topics=1, outlier_share=0.0), time_column="kind")
    with pytest.raises(
        ColumnError, match=r"none of the 20 values of the kept column 'kind' is a time \(for example 'me"
    ):
        find_topics(table, out, settings)
    assert not Path(out).exists()
    report = find_topics(table, out, settings.model_copy(update={"time_column": "at"}))
    assert report.num_without_time == 5
    assert sum(int(item["rows"]) for item in report.over_time) == 15
    assert b"5 rows, in no period" in read_bytes(report.report_uri)


def test_texts_that_are_all_alike_are_one_topic(tmp_path: Path) -> None:
    table, out = str(tmp_path / "table"), str(tmp_path / "out")
    make_text_version(table, {"a": [(str(n), "the same", [1.0, 0.0, 0.0]) for n in range(40)]})
    report = find_topics(table, out)
    assert report.num_topics == 1
    assert report.num_outliers == 0


def test_the_middle_of_a_corpus_does_not_attract_all_topics_into_one_group() -> None:
    """All texts of a corpus have a direction in common; average linkage by cosine put 30 of these 40 topics into one group."""
    random = np.random.default_rng(0)
    own = unit_rows(random.normal(size=(40, 30)).astype(np.float32)) * np.linspace(0.3, 1.5, 40)[:, None]
    groups = _parents(unit_rows((np.eye(30)[0] + own).astype(np.float32)), np.full(40, 50), 6)
    sizes = np.bincount(groups)
    assert len(sizes) == 6
    assert sizes.sum() == 40
    assert sizes.max() <= 12

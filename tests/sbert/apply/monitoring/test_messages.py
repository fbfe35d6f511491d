"""What a run of the monitoring says: withdrawn alerts, another model, rows that are left out, and how much was tested."""

import datetime as dt
import html
import json
from pathlib import Path
from typing import Any

import polars as pl
import pytest

from sbert.apply.monitoring.report import left_out, model_sentence, withdrawn_sentences
from sbert.apply.monitoring.run import monitor
from sbert.table.delta import Table
from tests.sbert.apply.monitoring.test_monitor import CALM, NOW, SETTINGS, classify, hours
from tests.support.made_tables import kept_value, make_version


@pytest.fixture
def places(tmp_path: Path) -> tuple[str, Path, Path]:
    return str(tmp_path / "table"), tmp_path / "classes", tmp_path / "opinion"


def test_a_withdrawn_alert_stands_on_the_page_with_its_reason(places: tuple[str, Path, Path]) -> None:
    table, classes, out = places
    settings = SETTINGS.model_copy(update={"min_volume": 10})
    make_version(table, {"a": hours([*CALM, 0.9])})
    classify(table, classes)
    (alert,) = monitor(str(classes), str(out), settings, now=NOW).new_alerts
    make_version(table, {"a": hours(CALM)})
    classify(table, classes)
    report = monitor(str(classes), str(out), settings, now=NOW)
    page = Path(report.page_uri).read_text()
    assert "No alert is open. 1 alert of the run before was withdrawn." in page
    assert f"{alert.sentence}</td>" in page
    assert "rows of this topic were deleted, changed or added" in page
    assert page.count("gives the share of rows that the classifier named, which is not corrected") == 1


@pytest.mark.parametrize("head", ["h", "g"])  # the same model, and another one
def test_a_withdrawn_alert_of_a_topic_without_rows_is_counted_and_not_named(
    places: tuple[str, Path, Path], head: str
) -> None:
    """An erasure may have removed the topic, so nothing writes its name again."""
    table, classes, out = places
    settings = SETTINGS.model_copy(update={"topic_column": "kind", "min_volume": 1})
    rows = hours([*[0.0] * 10, 0.9])
    make_version(table, {"a": rows})
    classify(table, classes)
    alerts = monitor(str(classes), str(out), settings, now=NOW).alerts
    topic = alerts[0].topic
    assert alerts
    kinds = Table.open(table).scan().select("id", "kind").collect()
    assert isinstance(kinds, pl.DataFrame)
    left = set(kinds.filter(pl.col("kind") != topic)["id"])
    make_version(table, {"a": {row: number for row, number in rows.items() if row in left}})
    classify(table, classes, head * 32)
    report = monitor(str(classes), str(out), settings, now=NOW)
    assert report.num_withdrawn_with_topic == sum(alert.topic == topic for alert in alerts)
    assert report.withdrawn_alerts == []
    assert report.gone_with_model == []
    assert report.is_new_model == (head == "g")
    assert json.dumps(topic, ensure_ascii=False)[1:-1] not in report.model_dump_json()
    page = Path(report.page_uri).read_text()
    assert topic not in html.unescape(page)
    assert "no rows any more" in page
    assert ("although the classes are of the same model" in page) == (head == "h")


def test_another_topic_column_withdraws_alerts_because_of_the_settings(places: tuple[str, Path, Path]) -> None:
    table, classes, out = places
    settings = SETTINGS.model_copy(update={"topic_column": "kind", "min_volume": 1})
    make_version(table, {"a": hours([*[0.0] * 10, 0.9])})
    classify(table, classes)
    alerts = monitor(str(classes), str(out), settings, now=NOW).alerts
    report = monitor(str(classes), str(out), settings.model_copy(update={"topic_column": None}), now=NOW)
    assert withdrawn_sentences(report) == [(f"{len(alerts)} alerts", "the settings were changed")]


@pytest.mark.parametrize("update", [{"time_zone": "Europe/Berlin"}, {"bucket": "2h"}])
def test_settings_that_keep_an_event_withdraw_nothing(places: tuple[str, Path, Path], update: dict[str, str]) -> None:
    table, classes, out = places
    settings = SETTINGS.model_copy(update={"min_volume": 10})
    make_version(table, {"a": hours([*CALM, 0.2, 0.2, 0.2, 0.9, 0.9])})
    classify(table, classes)
    first = monitor(str(classes), str(out), settings, now=NOW)
    assert first.num_open == 1
    report = monitor(str(classes), str(out), settings.model_validate({**settings.model_dump(), **update}), now=NOW)
    assert report.num_open == 1
    assert report.alerts[0].key != first.alerts[0].key
    assert withdrawn_sentences(report) == []
    assert report.new_alerts == []


def test_late_rows_that_make_an_event_begin_earlier_withdraw_nothing_and_tell_nothing(
    places: tuple[str, Path, Path],
) -> None:
    table, classes, out = places
    settings = SETTINGS.model_copy(update={"min_volume": 10})
    make_version(table, {"a": hours([*CALM, 0.2, 0.9, 0.9])})
    classify(table, classes)
    (told,) = monitor(str(classes), str(out), settings, now=NOW).new_alerts
    make_version(table, {"a": hours([*CALM, 0.9, 0.9, 0.9])})
    classify(table, classes)
    report = monitor(str(classes), str(out), settings, now=NOW)
    assert [alert.opened for alert in report.alerts] == [told.opened - dt.timedelta(hours=1)]
    assert withdrawn_sentences(report) == []
    assert report.new_alerts == []


def test_a_switch_tells_an_event_that_begins_after_the_open_one_ended(places: tuple[str, Path, Path]) -> None:
    table, classes, out = places
    settings = SETTINGS.model_copy(update={"min_volume": 10, "close_after": 2})
    make_version(table, {"a": hours([*CALM, 0.9, 0.9, 0.2])})
    classify(table, classes)
    assert monitor(str(classes), str(out), settings, now=NOW).num_open == 1
    make_version(table, {"a": hours([*CALM, 0.9, 0.9, 0.2, 0.2, 0.9])})
    classify(table, classes, "g" * 32)
    report = monitor(str(classes), str(out), settings, now=NOW)
    assert report.is_new_model
    assert [alert.closed is None for alert in report.alerts] == [True, False]
    assert report.new_alerts == report.alerts[:1]


def test_a_model_that_sees_the_same_past_is_no_word_worth(places: tuple[str, Path, Path]) -> None:
    table, classes, out = places
    make_version(table, {"a": hours([*CALM, 0.9])})
    classify(table, classes)
    monitor(str(classes), str(out), SETTINGS, now=NOW)
    classify(table, classes, "g" * 32)  # another head, the same classes
    after = monitor(str(classes), str(out), SETTINGS, now=NOW)
    assert after.is_new_model
    assert model_sentence(after) == ""
    assert "Another model" not in Path(after.page_uri).read_text()


def test_one_bucket_is_said_in_the_singular(places: tuple[str, Path, Path], caplog: pytest.LogCaptureFixture) -> None:
    table, classes, out = places
    make_version(table, {"a": hours([0.2])})
    classify(table, classes)
    monitor(str(classes), str(out), SETTINGS, now=NOW)
    assert "the rows lie in 1 bucket, but a test needs 3 earlier buckets (min_history)" in caplog.text
    report = monitor(str(classes), str(out), SETTINGS.model_copy(update={"min_volume": 500}), now=NOW)
    assert "1 of 1 cell has fewer than 500 rows" in report.tested


def test_times_that_cannot_be_read_are_counted_apart_with_an_example(
    places: tuple[str, Path, Path], monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    table, classes, out = places
    others = {901: "garbage", 902: "junk", 903: " ", 904: None}

    def kept(name: str, number: int) -> Any:
        return others.get(number, str(kept_value("at", number))) if name == "kind" else kept_value(name, number)

    monkeypatch.setattr("tests.support.made_tables.kept_value", kept)
    make_version(table, {"a": {**hours(CALM), "x": 901, "y": 902, "z": 903, "null": 904}})
    classify(table, classes)
    settings = SETTINGS.model_copy(update={"time_column": "kind"})
    report = monitor(str(classes), str(out), settings, now=NOW)
    assert (report.num_without_time, report.num_unreadable_time, report.num_in_future) == (2, 2, 0)
    assert report.unreadable_time == "'garbage'"
    said = ["2 without a time", "2 with a time that cannot be read, for example 'garbage'"]
    assert left_out(report) == said
    page = Path(report.page_uri).read_text()
    assert html.unescape(page).count(f"204; {', '.join(said)}") == 1
    monitor(str(classes), str(out), settings, now=dt.datetime(1990, 1, 1, tzinfo=dt.UTC))
    assert f"of 204 rows none has a time that can be used ({', '.join(said)}, 200 in the future)" in caplog.text


@pytest.mark.parametrize("wrong", [2**62, -(2**62), -(2**40) * 1000])
def test_one_wrong_number_among_the_times_is_counted_and_shown(
    places: tuple[str, Path, Path], monkeypatch: pytest.MonkeyPatch, wrong: int
) -> None:
    table, classes, out = places

    def kept(name: str, number: int) -> Any:
        if name != "count":
            return kept_value(name, number)
        return wrong if number == 901 else int(kept_value("at", number).timestamp())

    monkeypatch.setattr("tests.support.made_tables.kept_value", kept)
    make_version(table, {"a": {**hours(CALM), "x": 901}})
    classify(table, classes)
    report = monitor(str(classes), str(out), SETTINGS.model_copy(update={"time_column": "count"}), now=NOW)
    assert (report.num_rows, report.num_without_time, report.num_unreadable_time, report.num_in_future) == (
        201,
        0,
        1,
        0,
    )
    assert report.unreadable_time == f"'{wrong}'"


@pytest.mark.parametrize(
    ("settings", "hours_of_rows", "said"),
    [
        ({"min_volume": 500}, CALM, "10 of 10 cells have fewer than 500 rows (min_volume)"),
        ({"min_volume": 10, "min_history": 40}, CALM, "needs 40 earlier buckets with rows (min_history)"),
    ],
)
def test_a_history_of_which_nothing_was_tested_is_no_good_news(
    places: tuple[str, Path, Path], settings: dict[str, int], hours_of_rows: list[float], said: str
) -> None:
    table, classes, out = places
    make_version(table, {"a": hours(hours_of_rows)})
    classify(table, classes)
    report = monitor(str(classes), str(out), SETTINGS.model_copy(update=settings), now=NOW)
    assert report.num_tested == 0
    assert report.num_open == 0
    assert report.tested.startswith("Nothing was tested: ")
    assert said in report.tested
    page = Path(report.page_uri).read_text()
    assert report.tested in page
    assert "No alert is open" not in page
    assert 'class="verdict good"' not in page


def test_times_in_the_future_alone_are_no_good_news(places: tuple[str, Path, Path]) -> None:
    table, classes, out = places
    make_version(table, {"a": hours(CALM)})
    classify(table, classes)
    report = monitor(str(classes), str(out), SETTINGS, now=dt.datetime(1990, 1, 1, tzinfo=dt.UTC))
    assert "of 200 rows none has a time" in report.tested

"""Monitoring from rows to alerts: cells follow the rows, and a change of model is no news."""

import datetime as dt
import re
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import polars as pl
import pytest

from sbert.apply.classification.head import Head, HeadRecord
from sbert.apply.classification.job import ClassificationJob, HeadName
from sbert.apply.monitoring.page import opinion_page
from sbert.apply.monitoring.report import model_sentence
from sbert.apply.monitoring.run import monitor
from sbert.apply.monitoring.settings import MonitoringSettings
from sbert.derived.any_table import vacuum_any, verify_any
from sbert.derived.derived_table import DerivedTable
from sbert.derived.run import derive
from sbert.erase.run import erase
from sbert.errors import ColumnError, EmbeddingsTableError, EncoderMismatchError, SettingsError, TableError
from sbert.table.commit_record import recorded_in
from sbert.table.delta import Table
from sbert.table.erased_keys import ErasedKeys
from sbert.table.followers import followers_of
from sbert.table.lease import Lease, active_leases
from tests.support.earlier_records import record_settings
from tests.support.made_tables import DIM, encoder_info, make_version, unit_vector

SETTINGS = MonitoringSettings(
    time_column="at", topic_column=None, bucket="1h", min_volume=20, min_history=3, text_column="kind"
)
NOW = dt.datetime(2030, 1, 1, tzinfo=dt.UTC)


def make_head(out: Path, name: str, direction: int, encoder_number: int = 0) -> HeadName:
    """Store a head that calls a vector bad whose first value has a sign."""
    weights = np.zeros((DIM, 2), np.float32)
    weights[0] = (-10 * direction, 10 * direction)
    Head(
        record=HeadRecord(
            fingerprint=name, encoder_fingerprint=encoder_info(encoder_number).fingerprint, labels_fingerprint="l", task="",
            kind="linear", strength=1.0, classes=["bad", "good"], confusion=[[95, 5], [5, 95]], temperature=1.0,
            abstain_below=0.0, set_scores=[0.5, 0.5], num_rows=200, chosen=[],
        ),
        mean_D=np.zeros(DIM, np.float32), landmarks_LD=np.zeros((0, DIM), np.float32), gamma=1.0, weights_FC=weights,
        bias_C=np.zeros(2, np.float32),
    ).save(str(out))  # fmt: skip
    return HeadName(task="", fingerprint=name)


def numbers(wanted: Callable[[int], bool], first: int, count: int) -> list[int]:
    """Return numbers of one hour whose vectors have a property; every fifth has no time and is left out."""
    matching = [number for number in range(first, first + 60) if number % 5 != 4 and wanted(number)]
    assert len(matching) >= count, len(matching)
    return matching[:count]


def is_bad(number: int) -> bool:
    return unit_vector(number)[0] < 0


def hours(shares: list[float], per_hour: int = 20) -> dict[str, int]:
    """Return rows: each hour has so many rows, and a share of them is bad. The time of a row follows from its number."""
    rows = {}
    for hour, share in enumerate(shares):
        bad = round(share * per_hour)
        first = 60 * hour + 1  # minute 0 of the made tables is 23:59
        drawn = numbers(is_bad, first, min(bad, 18)) + numbers(
            lambda number: not is_bad(number), first, min(per_hour - bad, 18)
        )
        rows |= {str(number): number for number in drawn}
    return rows


@pytest.fixture
def places(tmp_path: Path) -> tuple[str, Path, Path]:
    return str(tmp_path / "table"), tmp_path / "classes", tmp_path / "opinion"


CALM = [0.2, 0.25, 0.2, 0.15, 0.2, 0.25, 0.2, 0.2, 0.15, 0.25]


def classify(table: str, classes: Path, name: str = "h" * 32, direction: int = 1, encoder_number: int = 0) -> None:
    head = make_head(classes, name, direction, encoder_number)
    derive(ClassificationJob(heads=(head,), heads_uri=str(classes)), table, str(classes))


def test_a_surge_is_told_once_and_cells_follow_the_rows(places: tuple[str, Path, Path]) -> None:
    table, classes, out = places
    settings = SETTINGS.model_copy(update={"min_volume": 10})
    calm, surge = hours(CALM), hours([*CALM, 0.9])
    make_version(table, {"a": calm})
    classify(table, classes)
    first = monitor(str(classes), str(out), settings, now=NOW)
    assert first.num_topics == 1
    assert first.num_open == 0
    assert first.num_without_time == 0
    assert first.num_rows == len(calm)
    make_version(table, {"a": calm, "b": {key: number for key, number in surge.items() if key not in calm}})
    classify(table, classes)
    second = monitor(str(classes), str(out), settings, now=NOW)
    (alert,) = second.new_alerts
    assert alert.series == "bad"
    assert alert.closed is None
    assert alert.share is not None
    assert alert.share > 0.8
    assert alert.level == pytest.approx(0.3 / (3 * 720))  # two classes and the volume, 720 buckets in 30 days
    assert alert.p_value < alert.level
    beside = rf">{alert.p_value:.1e}</td>\s*<td[^>]*>{alert.level:.1e}</td>"
    assert re.search(beside, Path(second.page_uri).read_text())
    assert alert.texts  # of the kept text column, none twice
    assert len(set(alert.texts)) == len(alert.texts)
    again = monitor(str(classes), str(out), settings, now=NOW)
    assert again.new_alerts == []
    assert again.num_open == 1
    assert again.version == second.version
    cells = DerivedTable.open(str(out)).scan().collect()
    assert isinstance(cells, pl.DataFrame)
    volume = cells.filter(pl.col("series") == "volume")
    assert volume["num_rows"].sum() == len(surge)
    assert cells.filter("is_alert")["series"].to_list() == ["bad"]
    assert cells["level"].unique().to_list() == [alert.level]
    assert cells.filter(pl.col("series") != "volume")["share"].is_between(0, 1).all()
    make_version(table, {"a": calm})  # the rows of the surge are deleted
    classify(table, classes)
    calm_again = monitor(str(classes), str(out), settings, now=NOW)
    assert calm_again.num_open == 0
    assert calm_again.alerts == []
    assert [(gone.sentence, gone.reason) for gone in calm_again.withdrawn_alerts] == [(alert.sentence, "rows")]
    assert monitor(str(classes), str(out), settings, now=NOW).withdrawn_alerts == []  # said once
    assert verify_any(str(out)).findings == []
    vacuum_any(str(out), retention_hours=0.0, apply=True)
    assert verify_any(str(out)).findings == []
    page = Path(calm_again.page_uri).read_text()
    assert (
        "No alert is open. 7 of 10 cells (all rows in a bucket of 1h) had enough rows and history to be tested." in page
    )
    assert "verdict good" in page
    assert "Withdrawn" not in page
    assert "data:image/svg+xml" in page


def test_another_model_tells_history_again_and_is_no_news(places: tuple[str, Path, Path]) -> None:
    table, classes, out = places
    settings = SETTINGS.model_copy(update={"min_volume": 10})
    make_version(table, {"a": hours([*CALM, 0.9])})
    classify(table, classes)
    before = monitor(str(classes), str(out), settings, now=NOW)
    assert before.num_open == 1
    classify(table, classes, "g" * 32, direction=-1)  # what was bad is good now
    after = monitor(str(classes), str(out), settings, now=NOW)
    assert after.is_new_model
    assert after.new_alerts == []
    assert after.gone_with_model == [before.alerts[0].sentence]
    assert after.withdrawn_alerts == []
    assert len(after.found_with_model) == 1
    assert "are good" in after.found_with_model[0]
    assert model_sentence(after) == (
        "the model changed: it no longer sees 1 past alert, and sees 1 alert in the past that the model before did not see; "
        "this is no news"
    )
    assert model_sentence(after.model_copy(update={"found_with_model": []})) == (
        "the model changed: it no longer sees 1 past alert; this is no news"
    )
    assert "Another model" in Path(after.page_uri).read_text()
    make_version(table, {"a": hours([*CALM, 0.9])}, encoder_number=1)
    with pytest.raises(
        EncoderMismatchError, match=f"{'0' * 12}, but .* has {'0' * 12} now: run `sbert classify` again first"
    ):
        monitor(str(classes), str(out), settings, now=NOW)


def test_other_settings_tell_history_again_and_are_no_news(places: tuple[str, Path, Path]) -> None:
    table, classes, out = places
    make_version(table, {"a": hours([*CALM, 0.9, *CALM])})
    classify(table, classes)
    strict = SETTINGS.model_copy(update={"min_volume": 21})
    assert monitor(str(classes), str(out), strict, now=NOW).alerts == []
    lenient = SETTINGS.model_copy(update={"min_volume": 10})
    report = monitor(str(classes), str(out), lenient, now=NOW)
    assert len(report.alerts) == 1
    assert report.new_alerts == []
    again = monitor(str(classes), str(out), strict, now=NOW)
    assert [(gone.sentence, gone.reason) for gone in again.withdrawn_alerts] == [
        (report.alerts[0].sentence, "settings")
    ]


def test_an_erasure_removes_the_page_and_asks_for_the_classes_first(places: tuple[str, Path, Path]) -> None:
    table, classes, out = places
    rows = hours(CALM)
    make_version(table, {"a": rows})
    classify(table, classes)
    page = Path(monitor(str(classes), str(out), SETTINGS, now=NOW).page_uri)
    receipt = erase(table, ErasedKeys(ids=[next(iter(rows))]), derived=[str(classes), str(out)])
    assert receipt.is_complete, receipt.left
    assert not page.exists()
    with pytest.raises(TableError, match=r"cannot be read any more .*: run `sbert classify` again first"):
        monitor(str(classes), str(out), SETTINGS, now=NOW)
    classify(table, classes)
    assert monitor(str(classes), str(out), SETTINGS, now=NOW).num_rows == len(rows) - 1


def test_an_erasure_keeps_what_was_told_so_that_an_open_alert_is_no_news(places: tuple[str, Path, Path]) -> None:
    table, classes, out = places
    settings = SETTINGS.model_copy(update={"min_volume": 10})
    rows = hours([*CALM, 0.9])
    make_version(table, {"a": rows})
    classify(table, classes)
    (alert,) = monitor(str(classes), str(out), settings, now=NOW).new_alerts
    erased = next(row for row in rows if int(row) > 100)
    receipt = erase(table, ErasedKeys(ids=[erased]), derived=[str(classes), str(out)])
    (place,) = [
        place for place in receipt.places if place.place == "reports of a derived table" and "opinion" in place.location
    ]
    assert place.action == (
        "1 file removed; the next run of the job writes them; 1 record of alerts kept: no text, and none of the ids, is in it"
    )
    classify(table, classes)
    again = monitor(str(classes), str(out), settings, now=NOW)
    assert again.num_rows == len(rows) - 1
    assert [open_alert.key for open_alert in again.alerts] == [alert.key]
    assert again.new_alerts == []


def test_inspect_shows_the_output_among_the_consumers_and_a_run_at_work(
    places: tuple[str, Path, Path], monkeypatch: pytest.MonkeyPatch
) -> None:
    table, classes, out = places
    make_version(table, {"a": hours(CALM)})
    classify(table, classes)
    at_work: list[Lease] = []

    def seen(*given: Any, **named: Any) -> str:
        at_work.extend(active_leases(str(out)))
        return opinion_page(*given, **named)

    monkeypatch.setattr("sbert.apply.monitoring.run.opinion_page", seen)
    report = monitor(str(classes), str(out), SETTINGS, now=NOW)
    (lease,) = at_work
    assert lease.operation == "monitoring"
    assert active_leases(str(out)) == []
    (entry,) = DerivedTable.open(str(out)).history()
    assert recorded_in(entry)["run_id"] == lease.run_id
    (state,) = [state for state in followers_of(Table.open(table)) if state.kind == "monitoring"]
    assert state.name == str(out)
    assert state.version == 0
    assert state.lag_versions == 0
    assert state.coverage is None
    assert state.num_rows == DerivedTable.open(str(out)).num_rows > 0
    assert (
        monitor(str(classes), str(out), SETTINGS, now=NOW).version == report.version
    )  # another run alone is no change


def test_a_setting_that_a_release_added_is_no_change(tmp_path: Path) -> None:
    table, classes, out = str(tmp_path / "table"), tmp_path / "classes", str(tmp_path / "out")
    make_version(table, {"a": hours(CALM)})
    classify(table, classes)
    monitor(str(classes), out, SETTINGS, now=NOW)
    version = record_settings(out, lambda settings: {k: v for k, v in settings.items() if k != "first_alert_hours"})
    assert monitor(str(classes), out, SETTINGS, now=NOW).version == version
    more = SETTINGS.model_copy(update={"first_alert_hours": 1.0})
    assert monitor(str(classes), out, more, now=NOW).version == version + 1


def test_rows_without_a_time_or_in_the_future_are_counted_and_left_out(places: tuple[str, Path, Path]) -> None:
    table, classes, out = places
    make_version(table, {"a": {**hours(CALM), "without": 4, "also": 9}})
    classify(table, classes)
    begin = dt.datetime(1999, 12, 30, 23, 59, tzinfo=dt.UTC)  # minute 0 of the made tables is a day later
    report = monitor(str(classes), str(out), SETTINGS, now=begin + dt.timedelta(hours=5))
    assert report.num_without_time == 2
    assert report.num_in_future == sum(number > 300 for number in hours(CALM).values())
    assert report.last_bucket == dt.datetime(2000, 1, 1, 4, tzinfo=dt.UTC)


def test_topics_are_watched_apart_and_too_many_are_refused(places: tuple[str, Path, Path]) -> None:
    table, classes, out = places
    make_version(table, {"a": hours(CALM)})
    classify(table, classes)
    by_kind = SETTINGS.model_copy(update={"topic_column": "kind"})
    report = monitor(str(classes), str(out), by_kind, now=NOW)
    assert report.num_topics == 3  # three kinds; rows without one have no time either
    with pytest.raises(SettingsError, match="the column 'kind' has 3 values, but at most 2 topics are watched"):
        monitor(str(classes), str(out), by_kind.model_copy(update={"max_topics": 2}), now=NOW)


@pytest.mark.parametrize("field", ["time_column", "topic_column"])
def test_a_column_that_is_not_kept_is_named(places: tuple[str, Path, Path], field: str) -> None:
    table, classes, out = places
    make_version(table, {"a": hours(CALM[:2])})
    classify(table, classes)
    with pytest.raises(
        ColumnError, match=r"no kept column 'nothing' .* keep it with `sbert refresh --keep-columns kind,.*,nothing`"
    ):
        monitor(str(classes), str(out), SETTINGS.model_copy(update={field: "nothing"}), now=NOW)
    assert not out.exists()


def test_other_tables_and_tasks_are_refused(places: tuple[str, Path, Path], tmp_path: Path) -> None:
    table, classes, out = places
    make_version(table, {"a": hours(CALM[:2])})
    classify(table, classes)
    with pytest.raises(SettingsError, match="there is no task 'mood'"):
        monitor(str(classes), str(out), SETTINGS.model_copy(update={"task": "mood"}), now=NOW)
    with pytest.raises(
        SettingsError, match="series names 'angry', but the series are bad, good, volume: name some of these"
    ):
        monitor(str(classes), str(out), SETTINGS.model_copy(update={"series": ("angry", "volume")}), now=NOW)
    monitor(str(classes), str(out), SETTINGS, now=NOW)
    with pytest.raises(TableError, match="belongs to the job monitoring: name the output of `sbert classify`"):
        monitor(str(out), str(tmp_path / "other"), SETTINGS, now=NOW)
    with pytest.raises(TableError, match="belongs to the job classification, not to monitoring"):
        monitor(str(classes), str(classes), SETTINGS, now=NOW)


def test_embeddings_in_place_of_classes_are_named_with_the_command_that_makes_classes(
    places: tuple[str, Path, Path],
) -> None:
    table, _, out = places
    make_version(table, {"a": hours(CALM)})
    with pytest.raises(
        EmbeddingsTableError, match=r"this is an embeddings table, .* make them with `sbert classify .* LABELS CLASSES`"
    ):
        monitor(table, str(out), SETTINGS, now=NOW)


def test_a_column_that_holds_no_times_is_an_error(places: tuple[str, Path, Path]) -> None:
    table, classes, out = places
    make_version(table, {"a": hours(CALM)})
    classify(table, classes)
    with pytest.raises(ColumnError, match="values of the kept column 'kind' is a time"):
        monitor(str(classes), str(out), SETTINGS.model_copy(update={"time_column": "kind"}), now=NOW)
    assert not out.exists()


def test_a_table_without_classes_is_watched_by_its_volume(places: tuple[str, Path, Path]) -> None:
    table, _, out = places
    settings = SETTINGS.model_copy(update={"series": ("volume",)})
    calm = [rows for hour, count in enumerate([10, 11, 9, 10, 10, 11, 9, 10, 10, 10]) for rows in [(hour, count)]]
    rows = {str(number): number for hour, count in calm for number in numbers(lambda _: True, 60 * hour + 1, count)}
    make_version(table, {"a": rows})
    first = monitor(table, str(out), settings, now=NOW)
    assert first.num_rows == len(rows)
    assert first.alerts == []
    assert not first.is_new_model
    surge = {str(number): number for number in numbers(lambda _: True, 601, 40)}
    make_version(table, {"a": rows, "b": surge}, encoder_number=1)  # no class: the encoder does not matter
    second = monitor(table, str(out), settings, now=NOW)
    (alert,) = second.new_alerts
    assert alert.series == "volume"
    assert alert.num_rows == 40
    assert alert.share is None
    assert not second.is_new_model
    assert alert.texts
    cells = DerivedTable.open(str(out)).scan().collect()
    assert isinstance(cells, pl.DataFrame)
    assert cells["series"].unique().to_list() == ["volume"]
    assert cells["count"].sum() == len(rows) + 40
    assert verify_any(str(out)).findings == []
    assert "not corrected" not in Path(second.page_uri).read_text()
    assert "Shares of the classes" not in Path(second.page_uri).read_text()
    with pytest.raises(SettingsError, match="this table has no classes, but task is 'mood'"):
        monitor(table, str(out), settings.model_copy(update={"task": "mood"}), now=NOW)

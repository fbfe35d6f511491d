"""A backfill works on what was chosen; everything else keeps its rows."""

import datetime as dt
import os
from pathlib import Path

import numpy as np
import pytest
from pydantic import ValidationError

from sbert.errors import EmptySourceError, EncoderMismatchError, SettingsError, TableError
from sbert.refresh.backfill_selection import Selection
from sbert.refresh.job import RefreshJob, RefreshSettings
from sbert.refresh.plan import make_plan
from sbert.table.delta import Table
from sbert.table.split_records import read_record
from tests.support.refreshing import refreshed
from tests.support.tables import objects_apart, read, rows, write, write_objects
from tests.support.tiny_models import save_tiny

MODES = pytest.mark.parametrize("settings", [RefreshSettings(), objects_apart()], ids=["packed", "apart"])


@pytest.fixture
def raw(tmp_path: Path) -> Path:
    write_objects(tmp_path / "raw", 4, 10)
    return tmp_path / "raw"


def ids(table: object, version: int | None = None) -> list[int]:
    return sorted(map(int, read(table, version)["id"]))


@MODES
def test_only_chosen_objects_are_built_and_others_keep_their_rows(
    tmp_path: Path, raw: Path, model: str, settings: RefreshSettings
) -> None:
    table = tmp_path / "table"
    refreshed(raw, table, model=model, settings=settings)
    for number in range(3):
        write(raw / f"{number}.jsonl", rows(100 + number * 10, 8))  # all three changed
    (raw / "3.jsonl").unlink()  # and one is gone
    outcome = refreshed(
        raw, table, settings=settings, selection=Selection(include=("*.jsonl",), exclude=("2.*", "0.*"))
    )
    assert outcome.version == 1
    assert outcome.report.num_rows_read == outcome.report.num_rows_encoded == 8
    assert ids(table) == [*range(10), *range(20, 40), *range(110, 118)]
    again = refreshed(raw, table, settings=settings, selection=Selection(include=("1.jsonl",)))
    assert again.version == 1
    assert again.report.num_rows_read == 0
    night = refreshed(raw, table, settings=settings.allowing_drops(True))
    assert night.report.num_texts_encoded == 16
    assert ids(table) == [*range(100, 108), *range(110, 118), *range(120, 128)]


@MODES
def test_force_computes_the_chosen_anew_and_only_those(
    tmp_path: Path, raw: Path, model: str, settings: RefreshSettings
) -> None:
    table = tmp_path / "table"
    refreshed(raw, table, model=model, settings=settings)
    before = read(table)
    forced = refreshed(raw, table, settings=settings, selection=Selection(include=("[13].jsonl",)), force=True)
    assert forced.version == 1
    assert forced.report.num_rows_read == forced.report.num_texts_encoded == 20
    assert forced.report.num_rows_carried == 0
    after = read(table)
    assert after.drop("embedding").equals(before.drop("embedding"))
    np.testing.assert_allclose(after["embedding"].to_list(), before["embedding"].to_list(), atol=1e-5)
    night = refreshed(raw, table, settings=settings)
    assert night.report.num_texts_encoded == 0  # every text is known
    assert read(table).equals(after)
    assert refreshed(raw, table, settings=settings).version == night.version


def test_an_interrupted_forced_backfill_goes_on_and_a_finished_one_begins_anew(
    tmp_path: Path, raw: Path, model: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    table, settings = tmp_path / "table", objects_apart()
    refreshed(raw, table, model=model, settings=settings)
    with monkeypatch.context() as patch:
        patch.setattr("sbert.refresh.steps.publish", lambda *_: 1 / 0)
        with pytest.raises(ZeroDivisionError):
            refreshed(raw, table, settings=settings, selection=Selection(), force=True)
    resumed = refreshed(raw, table, settings=settings, selection=Selection(), force=True)
    assert resumed.version == 1
    assert resumed.report.num_splits_resumed == 4
    assert resumed.report.num_texts_encoded == 0
    anew = refreshed(raw, table, settings=settings, selection=Selection(), force=True)
    assert anew.version == 2
    assert anew.report.num_splits_resumed == 0
    assert anew.report.num_texts_encoded == 40
    assert ids(table) == list(range(40))


def test_a_date_range_is_on_the_day_of_modification(tmp_path: Path, raw: Path, model: str) -> None:
    for number in range(4):
        noon = dt.datetime(2026, 3, 1 + number, 12, tzinfo=dt.UTC).timestamp()
        os.utime(raw / f"{number}.jsonl", (noon, noon))
    selection = Selection(since=dt.date(2026, 3, 2), until=dt.date(2026, 3, 3))
    refreshed(raw, tmp_path / "table", model=model, selection=selection)
    assert ids(tmp_path / "table") == list(range(10, 30))


@MODES
def test_a_limit_takes_the_first_rows_of_a_new_table(
    tmp_path: Path, raw: Path, model: str, settings: RefreshSettings
) -> None:
    table, some = tmp_path / "table", Selection(limit=25)
    write(raw / "0.jsonl", [{"id": "bad", "text": None}, *rows(0, 9)])
    assert refreshed(raw, table, model=model, settings=settings, selection=some).report.num_rows_read == 25
    assert ids(table) == [*range(9), *range(10, 25)]  # the rejected row counts
    assert refreshed(raw, table, settings=settings, selection=some).version == 0
    refreshed(raw, table, settings=settings, selection=Selection(limit=28))
    assert ids(table) == [*range(9), *range(10, 28)]
    assert refreshed(raw, table, settings=settings).report.num_texts_encoded == 12
    assert ids(table) == [*range(9), *range(10, 40)]


def test_a_limit_that_would_cut_rows_of_the_table_is_refused(tmp_path: Path, raw: Path, model: str) -> None:
    settings = objects_apart()
    refreshed(raw, tmp_path / "table", model=model, settings=settings)
    write(raw / "1.jsonl", rows(100, 10))
    with pytest.raises(SettingsError, match=r"limit 15 would cut .*1\.jsonl, but the table has more rows"):
        refreshed(raw, tmp_path / "table", settings=settings, selection=Selection(limit=15))
    assert Table.open(str(tmp_path / "table")).version == 0
    refreshed(raw, tmp_path / "table", settings=settings, selection=Selection(limit=20))
    assert ids(tmp_path / "table") == [*range(10), *range(20, 40), *range(100, 110)]


def test_a_limit_may_end_within_an_object_that_is_cut_into_slices(tmp_path: Path, model: str) -> None:
    write(tmp_path / "raw/a.jsonl", rows(0, 60))
    settings = RefreshSettings.model_validate({"splits": {"pack_below_bytes": 0, "split_bytes": 1000}})
    refreshed(tmp_path / "raw", tmp_path / "table", model=model, settings=settings, selection=Selection(limit=37))
    assert ids(tmp_path / "table") == list(range(37))
    with pytest.raises(SettingsError, match="limit 20 would cut"):
        refreshed(tmp_path / "raw", tmp_path / "table", settings=settings, selection=Selection(limit=20))
    refreshed(tmp_path / "raw", tmp_path / "table", settings=settings)
    assert ids(tmp_path / "table") == list(range(60))


def test_combinations_that_cannot_work_are_refused(tmp_path: Path, raw: Path, model: str) -> None:
    with pytest.raises(ValidationError, match="since 2026-02-01 is after until 2026-01-01"):
        Selection(since=dt.date(2026, 2, 1), until=dt.date(2026, 1, 1))
    with pytest.raises(ValidationError, match="greater than or equal to 1"):
        Selection(limit=0)
    with pytest.raises(ValidationError, match="include has an empty glob"):
        Selection(include=("",))
    with pytest.raises(ValidationError, match="force with limit 5"):
        RefreshJob(raw_uri="raw", table_uri="table", selection=Selection(limit=5), force=True)
    refreshed(raw, tmp_path / "table", model=model)
    other = save_tiny(tmp_path / "other", seed=1)
    for options, error, message in (
        ({"model": other, "selection": Selection()}, EncoderMismatchError, "backfill to a new table, or switch"),
        ({"selection": Selection(include=("nothing*",))}, EmptySourceError, r"none of 4 objects.*0\.jsonl"),
        (
            {"selection": Selection(include=("a*",), since=dt.date(2100, 1, 1))},
            EmptySourceError,
            r"\(include a\*, modified since 2100-01-01\) .* modified \d{4}-\d\d-\d\d \d\d:\d\d:\d\d UTC: change the globs",
        ),
        (
            {"selection": Selection(include=("1*",)), "settings": RefreshSettings().with_source(keep_columns=["kind"])},
            SettingsError,
            r"source\.keep_columns: none → kind",
        ),
    ):
        with pytest.raises(error, match=message):
            make_plan(RefreshJob(raw_uri=str(raw), table_uri=str(tmp_path / "table"), **options))  # type: ignore[arg-type]
    assert Table.open(str(tmp_path / "table")).version == 0


def test_a_model_override_makes_a_new_table(tmp_path: Path, raw: Path, model: str) -> None:
    other = save_tiny(tmp_path / "other", seed=1)
    refreshed(raw, tmp_path / "table", model=model)
    refreshed(raw, tmp_path / "trial", model=other, selection=Selection(include=("2.jsonl",)))
    assert Table.open(str(tmp_path / "trial")).encoder.model == other
    assert ids(tmp_path / "trial") == list(range(20, 30))


def test_other_cleaning_for_a_part_is_refused_and_for_the_whole_is_the_tables_own(
    tmp_path: Path, raw: Path, model: str
) -> None:
    write(raw / "1.jsonl", [{"id": str(n), "text": f"mail me at a{n}@example.org"} for n in range(10, 20)])
    refreshed(raw, tmp_path / "table", model=model)
    masked = RefreshSettings.model_validate({"cleaning": {"mask_emails": True}})
    with pytest.raises(SettingsError, match=r"cleaning\.mask_emails: off → on"):
        refreshed(raw, tmp_path / "table", settings=masked, selection=Selection(include=("1.jsonl",)))
    report = refreshed(raw, tmp_path / "table", settings=masked, selection=Selection()).report
    assert report.num_texts_encoded == 1
    assert refreshed(raw, tmp_path / "table").plan.is_empty


def test_without_the_record_of_a_split_nothing_is_guessed(tmp_path: Path, raw: Path, model: str) -> None:
    (fingerprint,) = [record.fingerprint for record in refreshed(raw, tmp_path / "table", model=model).diff.built]
    assert read_record(str(tmp_path / "table"), fingerprint) is not None
    (tmp_path / f"table/_splits/{fingerprint}.json").unlink()
    write(raw / "1.jsonl", rows(100, 10))
    with pytest.raises(TableError, match="cannot tell whose rows"):
        refreshed(raw, tmp_path / "table", selection=Selection(include=("1.jsonl",)))


def test_a_forced_backfill_never_takes_up_what_was_not_forced(tmp_path: Path, raw: Path, model: str) -> None:
    refreshed(raw, tmp_path / "table", model=model)  # one pack
    refreshed(raw, tmp_path / "table", selection=Selection(include=("1.jsonl",)), force=True)  # the pack is taken apart
    report = refreshed(raw, tmp_path / "table", selection=Selection(), force=True).report
    assert report.num_splits_resumed == 0
    assert report.num_texts_encoded == 40


def test_an_object_is_chosen_by_its_name_even_if_the_name_looks_like_a_glob(
    tmp_path: Path, raw: Path, model: str
) -> None:
    write(raw / "e[1].jsonl", rows(90, 5))
    refreshed(raw, tmp_path / "table", model=model, selection=Selection(include=("e[1].jsonl",)))
    assert ids(tmp_path / "table") == list(range(90, 95))


def test_an_object_whose_name_looks_like_a_glob_can_be_left_out(tmp_path: Path, raw: Path, model: str) -> None:
    write(raw / "e[1].jsonl", rows(90, 5))
    refreshed(raw, tmp_path / "table", model=model, selection=Selection(exclude=(str(raw / "e[1].jsonl"),)))
    assert ids(tmp_path / "table") == list(range(40))

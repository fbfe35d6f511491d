"""A table's settings are its own: a run that names nothing changes nothing, and a run that names a change says so."""

import json
import logging
from pathlib import Path

import pytest

from sbert.encoder.engine.kernel_targets import NATIVE_VARIABLE
from sbert.errors import MassDeletionError, SettingsError
from sbert.refresh.backfill_selection import Selection
from sbert.refresh.job import RefreshJob, RefreshSettings
from sbert.refresh.plan import Plan, make_plan
from sbert.refresh.run import refresh
from sbert.table.commit_record import METADATA_KEY, RECORDED_SETTINGS
from sbert.table.compaction import compact_table
from sbert.table.delta import SETTINGS_KEY, Table
from sbert.table.rollback import roll_back
from sbert.table.shards import ShardSettings
from tests.support.tables import objects_apart, read, rows, update, write, write_objects
from tests.support.tiny_models import WIDE, save_tiny

DECIDED = {
    "source": {"text_column": "text", "id_column": "id", "keep_columns": ["kind", "text"]},
    "cleaning": {"mask_emails": True, "min_chars": 2, "drop_duplicate_texts": True},
    "encoding": {
        "truncation": "window",
        "windows": {"stride": 5},
        "max_seq_length": 24,
        "prompt": "passage: ",
        "precision": "int8",
        "output_dim": 16,
        "min_recall": 0,
    },
}
"""Settings of every kind that decide a table's rows, none of them the default."""


@pytest.fixture
def raw(tmp_path: Path) -> Path:
    write_objects(tmp_path / "raw", 3, 10)
    return tmp_path / "raw"


@pytest.fixture
def table(tmp_path: Path, raw: Path, model: str) -> Path:
    """A table that keeps `kind` and `text`."""
    update(raw, tmp_path / "table", model=model, settings={"source": {"keep_columns": ["kind", "text"]}})
    return tmp_path / "table"


def plan_of(raw: Path, table: Path, **job: object) -> Plan:
    return make_plan(RefreshJob.model_validate({"raw_uri": str(raw), "table_uri": str(table), **job}))


def changes_of(plan: Plan) -> list[str]:
    return [change.describe() for change in plan.changes]


def forget_settings(table: Path) -> None:
    """Make the table one of a release that recorded no settings."""
    for path in (table / "_delta_log").glob("*.json"):
        actions = [json.loads(line) for line in path.read_text().splitlines()]
        for action in actions:
            if METADATA_KEY in action.get("commitInfo", {}):
                recorded = json.loads(action["commitInfo"][METADATA_KEY])
                recorded.pop(RECORDED_SETTINGS, None)
                action["commitInfo"][METADATA_KEY] = json.dumps(recorded)
            if "metaData" in action:
                schema = json.loads(action["metaData"]["schemaString"])
                for field in schema["fields"]:
                    field["metadata"].pop(SETTINGS_KEY, None)
                action["metaData"]["schemaString"] = json.dumps(schema)
        path.write_text("".join(json.dumps(action) + "\n" for action in actions))
    assert Table.open(str(table)).recorded_settings is None


def test_a_run_that_names_nothing_takes_every_setting_of_the_table(tmp_path: Path, raw: Path, model: str) -> None:
    update(raw, tmp_path / "table", model=model, settings=DECIDED)
    before = read(tmp_path / "table")
    plan = plan_of(raw, tmp_path / "table")
    assert plan.is_empty
    assert not plan.changes
    write(raw / "3.jsonl", rows(30, 10))
    report = update(raw, tmp_path / "table").report
    after = Table.open(str(tmp_path / "table"))
    assert report.num_rows_encoded == 10
    assert after.encoder.prompt == "passage: "
    assert after.encoder.max_seq_length == 24
    assert list(after.kept_schema) == ["kind", "text"]
    assert read(tmp_path / "table").filter(read(tmp_path / "table")["id"].cast(int) < 30).equals(before)


@pytest.mark.parametrize("empty", [{}, {"keep_columns": []}, {"keep_columns": ()}])
def test_empty_kept_columns_are_the_tables_own(raw: Path, table: Path, empty: dict[str, object]) -> None:
    assert plan_of(raw, table, settings={"source": empty}).is_empty
    assert plan_of(raw, table, settings=RefreshSettings().with_source(keep_columns=[])).is_empty


def test_kept_columns_in_another_order_change_nothing(raw: Path, table: Path) -> None:
    plan = plan_of(raw, table, settings={"source": {"keep_columns": ["text", "kind"]}})
    assert plan.is_empty
    assert not plan.changes


def test_another_model_keeps_columns_cleaning_and_an_explicit_prompt(tmp_path: Path, raw: Path, model: str) -> None:
    update(
        raw, tmp_path / "table", model=model, settings={**DECIDED, "encoding": {"prompt": "p: ", "normalize": False}}
    )
    other = save_tiny(tmp_path / "other", seed=5)
    plan = plan_of(raw, tmp_path / "table", model=other)
    assert [change.name for change in plan.changes] == ["encoder.model"]
    assert plan.job.settings.source.keep_columns == ("kind", "text")
    update(raw, tmp_path / "table", model=other)
    switched = Table.open(str(tmp_path / "table"))
    assert list(switched.kept_schema) == ["kind", "text"]
    assert switched.encoder.prompt == "p: "
    assert not switched.encoder.normalized


def test_a_named_change_is_planned_logged_and_reported_by_name(
    raw: Path, table: Path, caplog: pytest.LogCaptureFixture
) -> None:
    for path in raw.iterdir():
        write(path, [{**json.loads(line), "size": 1} for line in path.read_text().splitlines()])
    job = {"settings": {"cleaning": {"mask_emails": True}, "source": {"keep_columns": ["kind", "text", "size"]}}}
    changes = ["source.keep_columns: kind, text → kind, text, size", "cleaning.mask_emails: off → on"]
    assert changes_of(plan_of(raw, table, **job)) == changes
    asked = RefreshJob.model_validate({"raw_uri": str(raw), "table_uri": str(table), **job})
    dry = refresh(asked, dry_run=True)
    assert [change.describe() for change in dry.changes] == changes
    with caplog.at_level(logging.WARNING, "sbert"):
        report = refresh(asked)
    assert [change.describe() for change in report.changes] == changes
    assert [line for line in changes if f"this run changes the table: {line}" in caplog.text] == changes
    assert not plan_of(raw, table).changes, "the change is the table's own now"
    assert plan_of(raw, table).is_empty


def test_the_default_value_counts_when_it_is_named(tmp_path: Path, raw: Path, model: str) -> None:
    update(raw, tmp_path / "table", model=model, settings={"cleaning": {"mask_emails": True}})
    assert not plan_of(raw, tmp_path / "table", settings={"cleaning": {}}).changes
    named = plan_of(raw, tmp_path / "table", settings={"cleaning": {"mask_emails": False}})
    assert changes_of(named) == ["cleaning.mask_emails: on → off"]


def test_a_change_that_rebuilds_nothing_is_kept_too(raw: Path, table: Path) -> None:
    done = update(raw, table, settings={"encoding": {"truncation": "fail", "max_truncated_share": 0.5}})
    assert done.report.num_splits_built == 0
    assert [change.name for change in done.plan.changes] == ["encoding.max_truncated_share", "encoding.truncation"]
    again = plan_of(raw, table, settings={"encoding": {"truncation": "fail"}})
    assert not again.changes
    assert again.job.settings.encoding.max_truncated_share == 0.5


@pytest.mark.parametrize(
    ("settings", "lost"),
    [({"source": {"keep_columns": ["kind"]}}, "text"), ({"keep_no_columns": True}, "kind, text")],
    ids=["named less", "none"],
)
def test_losing_a_kept_column_needs_allow_drop(raw: Path, table: Path, settings: dict[str, object], lost: str) -> None:
    named = RefreshSettings.model_validate(settings)
    with pytest.raises(MassDeletionError, match=rf"would drop the kept columns {lost} from every row.*--allow-drop"):
        update(raw, table, settings=named)
    assert list(read(table).columns[-2:]) == ["kind", "text"]
    update(raw, table, settings=named.allowing_drops(True))
    assert not set(lost.split(", ")) & set(read(table).columns)
    assert plan_of(raw, table).is_empty


def test_a_backfill_cannot_give_some_rows_other_settings(raw: Path, table: Path) -> None:
    with pytest.raises(SettingsError, match=r"cleaning\.mask_emails: off → on.*change the whole table"):
        plan_of(raw, table, settings={"cleaning": {"mask_emails": True}}, selection=Selection(include=("1.jsonl",)))


def test_compaction_and_rollback_keep_the_settings_of_their_version(tmp_path: Path, raw: Path, model: str) -> None:
    table = tmp_path / "table"
    first = objects_apart(source={"keep_columns": ["kind"]})
    update(raw, table, model=model, settings=first)
    compact_table(str(table), ShardSettings(shard_rows=1_000))
    assert plan_of(raw, table, settings=objects_apart()).job.settings.source.keep_columns == ("kind",)
    update(raw, table, settings=objects_apart(source={"keep_columns": ["kind", "text"]}))
    roll_back(str(table))
    plan = plan_of(raw, table, settings=objects_apart())
    assert plan.job.settings.source.keep_columns == ("kind",)
    assert plan.is_empty


def test_settings_of_a_table_that_recorded_none_are_inferred(tmp_path: Path, raw: Path, model: str) -> None:
    made = {**DECIDED, "cleaning": {"mask_emails": True, "drop_duplicate_texts": True}}
    update(raw, tmp_path / "table", model=model, settings=made)
    forget_settings(tmp_path / "table")
    plan = plan_of(raw, tmp_path / "table")
    assert plan.is_empty
    assert not plan.changes
    assert plan.job.settings.encoding.windows.stride == 5
    assert plan.job.settings.cleaning.mask_emails


def test_settings_that_cannot_be_inferred_must_be_named_once(tmp_path: Path, raw: Path, model: str) -> None:
    made = {"cleaning": {"min_chars": 7}, "source": {"keep_columns": ["kind"]}}
    update(raw, tmp_path / "table", model=model, settings=made)
    forget_settings(tmp_path / "table")
    with pytest.raises(SettingsError, match="an earlier release made this table with settings that it did not record"):
        plan_of(raw, tmp_path / "table")
    assert plan_of(raw, tmp_path / "table", settings={"cleaning": {"min_chars": 7}}).is_empty
    write(raw / "3.jsonl", rows(30, 10))
    update(raw, tmp_path / "table", settings={"cleaning": {"min_chars": 7}})
    assert plan_of(raw, tmp_path / "table").is_empty
    forget_settings(tmp_path / "table")
    plan_of(raw, tmp_path / "table", settings=RefreshSettings().allowing_drops(True))


def test_settings_of_a_newer_release_are_passed_over_with_a_warning(
    raw: Path, table: Path, caplog: pytest.LogCaptureFixture, monkeypatch: pytest.MonkeyPatch
) -> None:
    recorded = Table.open(str(table)).recorded_settings
    assert recorded is not None
    recorded["cleaning"]["from_the_future"] = 1
    monkeypatch.setattr(Table, "recorded_settings", property(lambda _: recorded))
    with caplog.at_level(logging.WARNING, "sbert"):
        assert plan_of(raw, table).is_empty
    assert "settings of a newer release are passed over: cleaning.from_the_future" in caplog.text


def test_a_table_in_integers_keeps_its_type_where_no_kernels_are(
    tmp_path: Path, raw: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Another machine computes the same type through torch: no row is encoded anew, and new rows have the same fingerprint."""
    model = save_tiny(tmp_path / "wide", hidden=WIDE)
    update(raw, tmp_path / "table", model=model, settings={"encoding": {"compute_dtype": "int8"}})
    made = Table.open(str(tmp_path / "table")).encoder
    assert made.compute_dtype == "int8"
    write(raw / "more.jsonl", rows(100, 2))
    monkeypatch.setenv(NATIVE_VARIABLE, "0")
    report = update(raw, tmp_path / "table").report
    assert report.num_rows_encoded == 2
    assert Table.open(str(tmp_path / "table")).encoder == made
    assert read(tmp_path / "table").height == 32

"""The backfill flow and its form."""

from pathlib import Path

import pytest
from typer.testing import CliRunner

from flows.backfill import backfill_embeddings
from flows.cli.commands import app
from flows.refresh import refresh_embeddings
from sbert.table.delta import Table
from tests.support.tables import read, write_objects


def test_the_form_of_the_backfill_has_dates_lists_and_bounds() -> None:
    fields = backfill_embeddings.parameters.model_dump()["properties"]
    assert fields["since"]["anyOf"][0]["format"] == "date"
    assert fields["include"]["items"] == {"type": "string"}
    assert fields["limit"]["anyOf"][0]["minimum"] == 1
    assert fields["force"]["type"] == "boolean"


@pytest.mark.usefixtures("prefect_server")
def test_a_backfill_with_the_empty_fields_of_its_form_keeps_the_tables_columns(tmp_path: Path, model: str) -> None:
    write_objects(tmp_path / "raw", 3, 10)
    raw, table = str(tmp_path / "raw"), str(tmp_path / "table")
    refresh_embeddings(raw, table, model=model, keep_columns=["kind", "text"])
    before = read(table)
    report = backfill_embeddings(
        raw,
        table,
        include=["1.jsonl"],
        force=True,
        settings={"source": {"keep_columns": []}},  # type: ignore[arg-type]
    )
    assert report.num_rows_encoded == 10
    assert read(table).columns == before.columns
    nightly = refresh_embeddings(raw, table)
    assert nightly.num_texts_encoded == 0
    assert read(table).equals(before)


@pytest.mark.usefixtures("prefect_server")
def test_the_command_builds_the_chosen_objects_anew_and_refuses_wrong_choices(tmp_path: Path, model: str) -> None:
    import json

    write_objects(tmp_path / "raw", 3, 10)
    raw, table = str(tmp_path / "raw"), str(tmp_path / "table")
    refresh_embeddings(raw, table, model=model)
    runner = CliRunner()
    done = runner.invoke(app, ["backfill", raw, table, "--include", "1.jsonl", "--force", "--json"])
    report = json.loads(done.stdout)
    assert done.exit_code == 0
    assert report["version"] == 1
    assert report["num_texts_encoded"] == 10
    assert report["num_rows"] == 30
    planned = runner.invoke(app, ["backfill", raw, table, "--force", "--dry-run", "--json"])
    plan = json.loads(planned.stdout)
    assert plan["dry_run"]
    assert plan["num_splits_resumed"] == 0
    assert plan["num_splits_built"] == 2  # the chosen object has a pack of its own since, and packs stay
    assert Table.open(table).version == 1
    for arguments, kind, reason in (
        (["--since", "2026-02-01", "--until", "2026-01-01"], "SettingsError", "since 2026-02-01 is after"),
        (["--force", "--limit", "3"], "SettingsError", "force with limit 3"),
        (["--include", "none"], "EmptySourceError", "none of 3 objects"),
    ):
        refused = runner.invoke(app, ["backfill", raw, table, *arguments, "--json"])
        error = json.loads(refused.stdout)["error"]
        assert refused.exit_code == 1
        assert error["kind"] == kind
        assert reason in error["message"]
    assert read(table).height == 30


@pytest.mark.usefixtures("prefect_server")
def test_the_deletion_limit_stops_with_the_plan_and_the_flag_lifts_it(tmp_path: Path, model: str) -> None:
    import json

    write_objects(tmp_path / "raw", 3, 10)
    raw, table = str(tmp_path / "raw"), str(tmp_path / "table")
    refresh_embeddings(raw, table, model=model)
    (tmp_path / "raw/0.jsonl").unlink()
    runner = CliRunner()
    stopped = runner.invoke(app, ["refresh", raw, table, "--json"])
    answer = json.loads(stopped.stdout)
    assert stopped.exit_code == 1
    assert answer["error"]["kind"] == "MassDeletionError"
    assert answer["plan"]["num_objects_lost"] == 1
    assert answer["plan"]["num_rows_lost"] == 10
    shown = runner.invoke(app, ["refresh", raw, table])
    assert "objects no longer there" in shown.stdout
    assert runner.invoke(app, ["refresh", raw, table, "--allow-drop", "--json"]).exit_code == 0
    assert read(table).height == 20

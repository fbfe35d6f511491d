"""A dry run says what the run will take, by the rates of the run before; the run then shows both."""

import json
from pathlib import Path

import pytest
from typer.testing import CliRunner

from flows.cli.commands import app
from flows.refresh import refresh_embeddings
from sbert.table.delta import Table
from tasks.refresh_artifacts import report_markdown
from tests.support.tables import objects_apart, rows, write, write_objects
from tests.support.tiny_models import save_tiny


@pytest.mark.usefixtures("prefect_server")
def test_the_estimate_stands_beside_the_actual_number(tmp_path: Path) -> None:
    model, raw, table = save_tiny(tmp_path / "model"), str(tmp_path / "raw"), str(tmp_path / "table")
    write_objects(tmp_path / "raw", 2, 50)
    first = refresh_embeddings(raw, table, model=model, settings=objects_apart())
    assert first.estimate is not None
    size = sum(path.stat().st_size for path in (tmp_path / "raw").iterdir())
    assert first.estimate.num_objects == 2
    assert first.estimate.num_bytes == size
    assert first.num_bytes_read == size
    assert first.estimate.num_rows is None
    assert first.estimate.measured_in is None  # no run before
    assert min(first.stage_seconds.model_dump().values()) > 0
    recorded = Table.open(table).last_commit()
    assert recorded["num_bytes_read"] == size
    assert set(recorded["stages"]) == {"plan", "build", "publish"}

    third = write(tmp_path / "raw/2.jsonl", rows(100, 50)).stat().st_size
    settings = objects_apart().model_dump_json()
    planned = CliRunner().invoke(app, ["refresh", raw, table, "--settings", settings, "--dry-run", "--json"])
    estimate = json.loads(planned.stdout)["estimate"]
    assert estimate["num_objects"] == 1
    assert estimate["num_bytes"] == third
    assert estimate["measured_in"] == 0
    assert estimate["num_rows"] == round(100 * third / size)
    per_text = recorded["num_tokens_encoded"] / recorded["num_texts_encoded"]
    assert estimate["num_tokens"] == round(estimate["num_rows"] * per_text)
    assert estimate["seconds"]["build"] == round(recorded["stages"]["build"] * third / size, 3)
    shown = CliRunner().invoke(app, ["refresh", raw, table, "--settings", settings, "--dry-run"])
    assert "estimate: rows to read" in shown.stdout
    assert [name for name, *_ in first.estimate_and_actual()] == ["MiB to read"]  # what was not known is not shown

    second = refresh_embeddings(raw, table, settings=objects_apart())
    assert second.estimate is not None
    assert abs(second.estimate.num_rows - second.num_rows_read) <= 2  # type: ignore[operator]
    report = report_markdown(second)
    assert f"| rows to read | {second.estimate.num_rows} | 50 |" in report
    assert "| figure | estimate | actual |" in report
    assert "(3 objects)" in report
    nothing = refresh_embeddings(raw, table, settings=objects_apart(), dry_run=True)
    assert nothing.estimate_and_actual() == []

"""Metrics of runs beside the table, and the page drawn from them."""

import datetime as dt
import re
from pathlib import Path

import numpy as np
import polars as pl
import pytest

from sbert.errors import MissingError
from sbert.refresh import run_metrics as metrics
from sbert.refresh.history_page import drift_of, trend_report
from sbert.refresh.refresh_report import RefreshReport
from sbert.refresh.run_metrics import directions, read_runs, record_run

HOSTILE = "<script>alert(1)</script> & $\\frac{1}{0}$"


def report(table: Path, **fields: object) -> RefreshReport:
    defaults = {
        "raw_uri": f"/raw/{HOSTILE}", "table_uri": str(table), "version": 0, "encoder": HOSTILE, "encoder_fingerprint": "a" * 64,
        "dim": 4, "num_objects": 3, "num_rows": 100, "num_rows_read": 100, "num_rows_encoded": 90, "num_rows_rejected": 10,
        "num_texts_encoded": 80, "rejects_by_reason": {HOSTILE: 10}, "seconds": 2.0,
    }  # fmt: skip
    return RefreshReport.model_validate({**defaults, **fields})


class SampledTable:
    """Stands in for a table whose vectors move by `shift`."""

    shift = 0.0

    @classmethod
    def open(cls, uri: str, version: int) -> "SampledTable":
        return cls()


@pytest.fixture
def table(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    def sample(_: object) -> metrics.TableSample:
        embeddings = np.random.default_rng(0).standard_normal((200, 4)).astype(np.float32) + SampledTable.shift
        return metrics.TableSample(embeddings, np.arange(1, 201, dtype=np.int32), np.arange(200) < 20)

    monkeypatch.setattr(metrics, "Table", SampledTable)
    monkeypatch.setattr(metrics, "sample_table", sample)
    return tmp_path / "table"


def record(table: Path, number: int, **fields: object) -> None:
    record_run(
        report(table, **fields), dt.datetime(2026, 1, 1 + number, tzinfo=dt.UTC), f"run-{number}", engine="local"
    )


def test_a_run_is_remembered(table: Path) -> None:
    record(table, 0)
    run = read_runs(str(table)).to_dicts()[0]
    assert (run["run_id"], run["num_rows_read"], run["engine"]) == ("run-0", 100, "local")
    assert run["rejects_by_reason"] == [{"reason": HOSTILE, "num_rows": 10}]
    assert (run["tokens_p50"], run["tokens_p100"], run["share_truncated"]) == (100.5, 200.0, pytest.approx(0.1))
    assert (len(run["mean_vector"]), len(run["seen_along"]), len(run["seen_along"][0])) == (4, 8, 200)
    files = list((table / "_runs").iterdir())
    assert [path.name for path in files] == ["20260101T000000-run-0.parquet"]
    assert files[0].stat().st_size < 50_000


def test_directions_are_unit_vectors_and_never_change() -> None:
    np.testing.assert_allclose(np.linalg.norm(directions(384), axis=1), 1, rtol=1e-6)
    np.testing.assert_array_equal(directions(384), directions(384))


def test_drift_is_measured_between_runs_with_one_encoder(table: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    record(table, 0)
    record(table, 1)
    monkeypatch.setattr(SampledTable, "shift", 3.0)
    record(table, 2)
    record(table, 3, encoder_fingerprint="b" * 64)
    first, same, moved, other = drift_of(read_runs(str(table)).to_dicts())
    assert first is None
    assert other is None
    assert same is not None
    assert moved is not None
    assert same["stability"] == pytest.approx(0)
    assert same["cosine"] == pytest.approx(1)
    assert moved["stability"] > 0.25
    assert moved["cosine"] < same["cosine"]
    assert moved["energy"] > same["energy"]


def test_the_page_has_every_plot_and_runs_nothing_that_came_from_data(table: Path) -> None:
    for number in range(3):
        record(table, number, num_rows_read=0 if number == 1 else 100)
    page = trend_report(str(table), price_per_hour=2.5)
    assert len(re.findall(r'<img alt="[^"]+" src="data:image/svg\+xml;base64,', page)) == 6
    assert "<script" not in page
    assert "&lt;script&gt;alert(1)&lt;/script&gt;" in page
    assert "default-src 'none'" in page
    assert "2026-01-03 00:00:00" in page
    assert "money, at 2.5 per hour" in page


def test_runs_of_other_versions_of_this_program_are_read_too(table: Path) -> None:
    record(table, 0)
    earlier = {
        "run_id": "old",
        "started": [dt.datetime(2025, 1, 1, tzinfo=dt.UTC)],
        "num_rows_read": 5,
        "encoder_fingerprint": "c",
    }
    pl.DataFrame(earlier).write_parquet(table / "_runs/20250101T000000-old.parquet")
    (table / "_runs/20250102T000000-broken.parquet").write_bytes(b"half a file")
    assert read_runs(str(table))["run_id"].to_list() == ["old", "run-0"]
    assert "2025-01-01" in trend_report(str(table))


def test_a_table_without_runs_is_named(tmp_path: Path) -> None:
    with pytest.raises(MissingError, match=r"no run has left metrics in _runs/ yet"):
        trend_report(str(tmp_path))

"""The page of a table's history: complete, escaped, and free of what a reader could mistake."""

import base64
import datetime as dt
import re
import warnings
from pathlib import Path
from typing import Any

import numpy as np
import polars as pl
import pytest

from sbert.errors import MissingError
from sbert.refresh.history_page import history_page
from sbert.refresh.history_plots import Drift, compact_number, drift_of
from sbert.refresh.run_metrics import SAMPLE_BY_HASH
from sbert.table.followers import Follower, note_follower
from tests.support.made_tables import make_version

HOSTILE = "<script>alert(1)</script> & $\\frac{1}{0}$"


def run(number: int, shift: float = 0.0, **fields: object) -> dict[str, Any]:
    vectors = np.random.default_rng(0).standard_normal((200, 8)) + shift
    return {
        "run_id": f"run-{number}", "operation": "refresh", "started": dt.datetime(2026, 1, 1 + number, tzinfo=dt.UTC),
        "raw_uri": f"/raw/{HOSTILE}", "encoder": HOSTILE, "encoder_fingerprint": "a" * 64, "dim": 8, "version": number,
        "num_rows": 100, "num_rows_read": 100, "num_rows_encoded": 90, "num_rows_carried": 0, "num_rows_rejected": 10,
        "num_texts_encoded": 80, "rejects_by_reason": [{"reason": HOSTILE, "num_rows": 10}], "seconds": 2.0,
        "sampled_by": SAMPLE_BY_HASH, "mean_vector": vectors.mean(axis=0).tolist(), "seen_along": vectors.T.tolist(),
        "tokens_p10": 3.0, "tokens_p50": 9.0, "tokens_p90": 30.0, "tokens_p99": 60.0, "tokens_p100": 400.0,
        "max_seq_length": 128,
        **fields,
    }  # fmt: skip


def page_of(folder: Path, runs: list[dict[str, Any]], **options: Any) -> str:
    (folder / "_runs").mkdir()
    for number, record in enumerate(runs):
        pl.DataFrame([record], infer_schema_length=None).write_parquet(folder / f"_runs/{number:03d}.parquet")
    return history_page(str(folder), **options)


def pictures(page: str) -> list[str]:
    return [base64.b64decode(picture).decode() for picture in re.findall(r"svg\+xml;base64,([^\"]+)", page)]


def test_the_page_has_every_plot_and_runs_nothing_that_came_from_data(tmp_path: Path) -> None:
    page = page_of(tmp_path, [run(number) for number in range(3)], price_per_hour=2.5)
    assert len(pictures(page)) == 15
    assert "<script" not in page
    assert "&lt;script&gt;alert(1)&lt;/script&gt;" in page
    assert "default-src 'none'" in page
    assert "2026-01-03 00:00:00" in page
    assert "Cost of a run, money, at 2.5 per machine hour ↓" in page


@pytest.mark.parametrize("price", [0.0, None])
def test_a_price_of_zero_and_runs_that_did_nothing_draw_without_a_warning(tmp_path: Path, price: float | None) -> None:
    nothing = run(1, num_rows_read=0, num_rows_encoded=0, num_texts_encoded=0, rejects_by_reason=[], seconds=0.0)
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        assert len(pictures(page_of(tmp_path, [run(0), nothing], price_per_hour=price))) == 15


def test_backfills_are_named_in_the_table_of_runs_and_counted(tmp_path: Path) -> None:
    page = page_of(tmp_path, [run(0), run(1, operation="backfill")])
    assert page.count('<td class="text short" data-name="kind">backfill</td>') == 1
    assert "2 from 1 Jan 2026 00:00 to 2 Jan 2026 00:00 UTC, 1 backfill among them" in page


def test_every_cell_names_its_column_so_that_a_narrow_screen_can_stack_them(tmp_path: Path) -> None:
    page = page_of(tmp_path, [run(0)])
    assert (
        len(re.findall(r"<td(?: class=[^>]*?)? data-name=\"[^\"]+\"", page))
        == page.count("<td")
        == len(re.findall(r"<th[ >]", page))
    )
    assert "width=device-width" in page


def test_only_the_newest_runs_are_listed(tmp_path: Path) -> None:
    page = page_of(tmp_path, [run(0, started=dt.datetime(2026, 1, 1, 0, at, tzinfo=dt.UTC)) for at in range(53)])
    assert "The newest 50 of 53 runs." in page


def test_records_without_a_sample_or_a_kind_are_drawn_too(tmp_path: Path) -> None:
    early = {
        "run_id": "old",
        "started": dt.datetime(2025, 1, 1, tzinfo=dt.UTC),
        "encoder_fingerprint": "c",
        "num_rows_read": 5,
    }
    page = page_of(tmp_path, [early, run(0)])
    assert "2025-01-01" in page


def test_drift_is_measured_between_runs_with_one_encoder_and_one_way_of_sampling() -> None:
    runs = [run(0, sampled_by=None), run(1), run(2), run(3, shift=3.0), run(4, encoder_fingerprint="b" * 64)]
    other_sample, first, same, moved, other_encoder = drift_of(runs)
    assert first is None
    assert other_sample is None
    assert other_encoder is None
    assert same == Drift(cosine=pytest.approx(1), stability=0.0, energy=0.0)
    assert moved is not None
    assert moved.stability > 0.25
    assert moved.energy > 1


def test_numbers_on_axes_are_short() -> None:
    assert [compact_number(value) for value in (0, 0.25, 950, 1_200, 12_500, 3e6, 2e9)] == [
        "0", "0.25", "950", "1,200", "12.5k", "3M", "2G",
    ]  # fmt: skip


def test_dates_say_the_year_or_the_time_only_where_they_differ() -> None:
    from sbert.refresh.history_plots import _date_labels

    days = [run(number) for number in range(3)]
    assert list(_date_labels(days).values()) == ["1 Jan", "2 Jan", "3 Jan"]
    hours = [run(0, started=dt.datetime(2026, 1, 1, hour, tzinfo=dt.UTC)) for hour in (1, 2)]
    assert list(_date_labels(hours).values()) == ["1 Jan\n01:00", "1 Jan\n02:00"]
    years = [run(0, started=dt.datetime(year, 1, 1, tzinfo=dt.UTC)) for year in (2025, 2026)]
    assert list(_date_labels(years).values()) == ["1 Jan 2025", "1 Jan 2026"]


def test_a_table_without_runs_is_named(tmp_path: Path) -> None:
    with pytest.raises(MissingError, match=r"no run has left metrics in _runs/ yet"):
        history_page(str(tmp_path))


def test_the_page_lists_the_consumers_of_the_table(tmp_path: Path) -> None:
    make_version(str(tmp_path), {"a": {str(row): row for row in range(20)}})
    assert "Consumers" not in page_of(tmp_path, [run(0)])
    note_follower(
        str(tmp_path),
        Follower(
            name=f"postgresql://host/db#{HOSTILE}",
            kind="postgresql",
            version=0,
            num_rows=15,
            followed_at=dt.datetime(2026, 1, 1, tzinfo=dt.UTC),
            proven_version=0,
            proven_at=dt.datetime(2026, 1, 1, 6, 30, tzinfo=dt.UTC),
            is_equal=True,
        ),
    )
    page = history_page(str(tmp_path))
    assert "75.0%" in page
    assert "version 0 on 2026-01-01 06:30" in page
    assert "<script" not in page

"""A run is recorded beside the table, with a sample that depends on the texts alone."""

import datetime as dt
import shutil
from pathlib import Path
from typing import Any

import numpy as np
import polars as pl
import pytest
from deltalake import DeltaTable

from sbert.refresh.backfill_selection import Selection
from sbert.refresh.history_plots import Drift, drift_of
from sbert.refresh.refresh_report import RefreshReport
from sbert.refresh.run_metrics import SAMPLE_NAME, directions, read_runs, record_run
from sbert.table import drift_sample
from sbert.table.compaction import compact_table
from sbert.table.delta import Table
from sbert.table.drift_sample import SAMPLE_ROWS, DriftSample, sample_rows
from sbert.table.followers import Follower, note_follower
from tests.support.tables import objects_apart, rows, update, write, write_objects

APART = objects_apart().allowing_drops(True)
NO_DRIFT = Drift(cosine=pytest.approx(1), stability=0, energy=0)


@pytest.fixture
def table(tmp_path: Path, model: str) -> Path:
    write_objects(tmp_path / "raw", 4, 30)
    update(tmp_path / "raw", tmp_path / "table", model=model, settings=APART)
    return tmp_path / "table"


def remember(table: Path, number: int) -> None:
    """Record a run that left the table as it is now."""
    now = Table.open(str(table))
    report = RefreshReport(
        raw_uri="raw", table_uri=str(table), version=now.version, encoder="m", dim=32, num_objects=1,
        encoder_fingerprint=now.encoder.fingerprint, rejects_by_reason={"empty": 10},
    )  # fmt: skip
    record_run(report, dt.datetime(2027, 1, 1 + number, tzinfo=dt.UTC), f"run-{number}", engine="local")


def last_drift(table: Path) -> Drift:
    drift = drift_of(read_runs(str(table)).to_dicts())[-1]
    assert drift is not None
    return drift


def test_a_run_is_recorded_with_its_counts_and_a_summary_of_the_table(table: Path) -> None:
    remember(table, 0)
    run = read_runs(str(table)).to_dicts()[-1]
    assert run["run_id"] == "run-0"
    assert run["engine"] == "local"
    assert run["rejects_by_reason"] == [{"reason": "empty", "num_rows": 10}]
    tokens = Table.open(str(table)).scan().select("num_tokens").collect()["num_tokens"]
    assert run["num_rows_sampled"] == 120
    assert run["tokens_p50"] == tokens.median()
    assert run["tokens_p100"] == tokens.max()
    assert len(run["mean_vector"]) == 32
    assert len(run["seen_along"]) == 8
    assert len(run["seen_along"][0]) == 120
    assert (table / "_runs/20270101T000000-run-0.parquet").stat().st_size < 50_000


def test_a_run_records_how_far_the_consumers_of_the_table_are(table: Path) -> None:
    remember(table, 0)
    note_follower(
        str(table),
        Follower(name="store", kind="lancedb", version=0, num_rows=60, followed_at=dt.datetime.now(dt.UTC)),
    )
    remember(table, 1)
    before, after = read_runs(str(table))["followers"].to_list()[-2:]
    assert before == []
    assert after[0]["name"] == "store"
    assert after[0]["coverage"] == 0.5
    assert after[0]["lag_versions"] == 0


def test_drift_is_flat_after_a_forced_backfill_of_half_the_table(tmp_path: Path, table: Path) -> None:
    remember(table, 0)
    update(tmp_path / "raw", table, settings=APART, selection=Selection(include=("[01].jsonl",)), force=True)
    remember(table, 1)
    drift = last_drift(table)
    assert drift.stability == 0
    assert drift.energy == pytest.approx(0, abs=1e-4)
    assert drift.cosine == pytest.approx(1, abs=1e-6)


def test_drift_is_flat_after_compaction_and_after_renaming_objects(tmp_path: Path, table: Path) -> None:
    remember(table, 0)
    compact_table(str(table))
    remember(table, 1)
    assert last_drift(table) == NO_DRIFT
    for number in range(4):
        (tmp_path / f"raw/{number}.jsonl").rename(tmp_path / f"raw/renamed-{number}.jsonl")
    assert update(tmp_path / "raw", table, settings=APART).report.num_texts_encoded == 0
    remember(table, 2)
    assert last_drift(table) == NO_DRIFT


def test_drift_shows_when_half_of_the_texts_are_others(tmp_path: Path, table: Path) -> None:
    remember(table, 0)
    for number in (0, 1):
        write(tmp_path / f"raw/{number}.jsonl", [{"id": str(at), "text": f"cat {at}"} for at in range(30)])
    update(tmp_path / "raw", table, settings=APART)
    remember(table, 1)
    drift = last_drift(table)
    assert drift.stability > 0.1
    assert drift.energy > 0.01


def test_the_sample_is_the_texts_with_the_least_hashes_in_any_layout(table: Path) -> None:
    sample = sample_rows(Table.open(str(table)))
    hashes = sorted(Table.open(str(table)).scan().select("text_hash").unique().collect()["text_hash"])
    assert [row.tobytes() for row in sample.hashes] == hashes[:SAMPLE_ROWS]
    compact_table(str(table))
    after = sample_rows(Table.open(str(table)))
    np.testing.assert_array_equal(after.hashes, sample.hashes)
    np.testing.assert_array_equal(after.embeddings, sample.embeddings)
    np.testing.assert_array_equal(after.num_tokens, sample.num_tokens)


def test_an_earlier_sample_gives_the_same_rows_and_reads_changed_shards_only(tmp_path: Path, table: Path) -> None:
    earlier = sample_rows(Table.open(str(table)))
    assert sample_rows(Table.open(str(table)), earlier) is earlier
    write(tmp_path / "raw/1.jsonl", rows(200, 30))
    update(tmp_path / "raw", table, settings=APART)
    marked = DriftSample(**{**vars(earlier), "num_tokens": earlier.num_tokens + 1000})
    anew, reused = sample_rows(Table.open(str(table))), sample_rows(Table.open(str(table)), marked)
    np.testing.assert_array_equal(reused.hashes, anew.hashes)
    np.testing.assert_array_equal(reused.embeddings, anew.embeddings)
    assert np.count_nonzero(reused.num_tokens > 1000) == 90


def test_an_earlier_sample_spares_the_shards_that_it_was_made_of(
    tmp_path: Path, table: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    earlier = sample_rows(Table.open(str(table)))
    before = {shard.name for shard in Table.open(str(table)).shards()}
    write(tmp_path / "raw/new.jsonl", rows(300, 20))
    update(tmp_path / "raw", table, settings=APART)
    anew = sample_rows(Table.open(str(table)))
    read, real = [], drift_sample._least_hashes

    def noted(table: Table, name: str) -> Any:
        read.append(name)
        return real(table, name)

    monkeypatch.setattr(drift_sample, "_least_hashes", noted)
    reused = sample_rows(Table.open(str(table)), earlier)
    assert len(read) == 1
    assert read[0] not in before
    assert_same_rows(reused, anew)


@pytest.mark.parametrize("loss", ["an object", "a commit of the log"])
def test_a_sample_is_made_anew_where_the_earlier_one_cannot_tell(tmp_path: Path, table: Path, loss: str) -> None:
    earlier = sample_rows(Table.open(str(table)))
    write(tmp_path / "raw/new.jsonl", rows(300, 20))
    if loss == "an object":
        (tmp_path / "raw/0.jsonl").unlink()
    update(tmp_path / "raw", table, settings=APART)
    if loss != "an object":
        DeltaTable(str(table)).create_checkpoint()
        (table / "_delta_log" / f"{1:020}.json").unlink()
    assert_same_rows(sample_rows(Table.open(str(table)), earlier), sample_rows(Table.open(str(table))))


def test_a_sample_of_another_table_in_the_same_folder_is_not_used(tmp_path: Path, table: Path, model: str) -> None:
    earlier = sample_rows(Table.open(str(table)))
    shutil.rmtree(table)
    write_objects(tmp_path / "other", 2, 20)
    update(tmp_path / "other", table, model=model, settings=APART)
    opened = Table.open(str(table))
    assert opened.version == earlier.version
    assert_same_rows(sample_rows(opened, earlier), sample_rows(opened))


def test_after_a_compaction_no_vector_is_read_again(table: Path) -> None:
    earlier = sample_rows(Table.open(str(table)))
    marked = DriftSample(**{**vars(earlier), "num_tokens": earlier.num_tokens + 1000})
    compact_table(str(table))
    reused = sample_rows(Table.open(str(table)), marked)
    np.testing.assert_array_equal(reused.num_tokens, marked.num_tokens)
    np.testing.assert_array_equal(reused.embeddings, earlier.embeddings)
    assert set(reused.shards) == {shard.name for shard in Table.open(str(table)).shards()}


def assert_same_rows(one: DriftSample, other: DriftSample) -> None:
    """Assert that two samples hold the same texts with the same values."""
    np.testing.assert_array_equal(one.hashes, other.hashes)
    np.testing.assert_array_equal(one.embeddings, other.embeddings)
    np.testing.assert_array_equal(one.num_tokens, other.num_tokens)


def test_a_sample_survives_writing_and_other_files_are_no_samples(table: Path) -> None:
    sample = sample_rows(Table.open(str(table)))
    back = DriftSample.from_bytes(sample.to_bytes())
    assert back is not None
    assert back.version == 0
    assert back.encoder_fingerprint == sample.encoder_fingerprint
    assert back.shards == sample.shards
    np.testing.assert_array_equal(back.embeddings, sample.embeddings)
    assert DriftSample.from_bytes(b"something else") is None
    (table / "_runs").mkdir(exist_ok=True)
    (table / "_runs" / SAMPLE_NAME).write_bytes(b"half a file")
    remember(table, 0)
    assert read_runs(str(table))["num_rows_sampled"].to_list()[-1] == 120


def test_a_table_that_cannot_be_read_costs_the_summary_and_not_the_record(table: Path) -> None:
    for shard in table.glob("part-*.parquet"):
        shard.write_bytes(b"damaged")
    (table / "_runs" / SAMPLE_NAME).unlink(missing_ok=True)
    remember(table, 0)
    assert "run-0" in read_runs(str(table))["run_id"].to_list()


def test_directions_are_unit_vectors_and_never_change() -> None:
    np.testing.assert_allclose(np.linalg.norm(directions(384), axis=1), 1, rtol=1e-6)
    np.testing.assert_array_equal(directions(384), directions(384))


def test_records_of_other_versions_of_this_program_are_read_too(table: Path) -> None:
    remember(table, 0)
    earlier = {"run_id": "old", "started": [dt.datetime(2025, 1, 1, tzinfo=dt.UTC)], "encoder_fingerprint": "c"}
    pl.DataFrame(earlier).write_parquet(table / "_runs/20250101T000000-old.parquet")
    (table / "_runs/20250102T000000-broken.parquet").write_bytes(b"half a file")
    names = read_runs(str(table))["run_id"].to_list()
    assert names[0] == "old"
    assert names[-1] == "run-0"

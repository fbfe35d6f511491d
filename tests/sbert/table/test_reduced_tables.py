"""Tables of smaller vectors: built, carried over, switched, refused, searched, repaired."""

import contextlib
from pathlib import Path

import numpy as np
import polars as pl
import pyarrow.parquet as pq
import pytest

from sbert.encoder.sentence_encoder import SentenceEncoder
from sbert.errors import EncoderMismatchError, QualityError, SettingsError
from sbert.index.search import search_table
from sbert.refresh.job import RefreshSettings
from sbert.storage.files import list_names
from sbert.sync.change_feed import write_changes
from sbert.table.compaction import compact_table
from sbert.table.delta import Table
from sbert.table.quantization_recall import SAMPLE_ROWS, newest_reduction, rows_to_sample
from sbert.table.rollback import roll_back
from sbert.table.vacuum import vacuum_table
from sbert.table.verify import verify_table
from sbert.vectors.precision import (
    Precision,
    dequantize,
    quantize,
    recall_at_10,
    restore,
    truncate,
)
from tests.support.tables import killed_after, objects_apart, read, rows, texts, update, write, write_objects
from tests.support.tiny_models import HIDDEN


def stored_as(**encoding: object) -> RefreshSettings:
    return objects_apart(encoding=encoding)


def test_samples_of_many_splits_stay_few(tmp_path: Path, model: str) -> None:
    write(tmp_path / "raw/0.jsonl", rows(0, 60))
    plan, *_ = update(tmp_path / "raw", tmp_path / "table", model=model, settings=stored_as(precision="int8"))
    names = [f"{number * 7919 % 2**32:032x}" for number in range(5_000)]
    for num_splits in (1, 3, 125, 5_000):
        total = sum(rows_to_sample(plan.encoder, name[::-1], num_splits) for name in names[:num_splits])
        assert SAMPLE_ROWS * 0.7 <= total <= SAMPLE_ROWS * 1.3, num_splits
    whole = plan.encoder.model_copy(update={"precision": Precision.FLOAT32})
    assert rows_to_sample(whole, names[0], 1) == 0


def test_an_int8_table_is_built_measured_and_carried_over_without_loss(tmp_path: Path, model: str) -> None:
    write_objects(tmp_path / "raw", 3, 30)
    raw, table = tmp_path / "raw", str(tmp_path / "table")
    update(raw, table, model=model, settings=stored_as(precision="int8", min_recall=0.9))
    first = read(table)
    assert first.schema["embedding"] == pl.List(pl.Int8)
    exact = SentenceEncoder.from_pretrained(model).encode(texts(0, 90))
    by_id = first.with_columns(pl.col("id").cast(pl.Int64)).sort("id")
    values = by_id["embedding"].cast(pl.Array(pl.Int8, HIDDEN)).to_numpy()
    scale = by_id["scale"].to_numpy()
    assert np.abs(dequantize(values, scale) - exact).max() <= scale.max() * 0.51 + 1e-4
    assert (np.abs(values).max(axis=1) == 127).all()

    info = Table.open(table).encoder
    assert info.precision == Precision.INT8
    assert info.dim == HIDDEN
    assert info.full_dim == HIDDEN
    assert info.min_recall == 0.9
    reduction = newest_reduction(Table.open(table))
    assert reduction is not None
    assert reduction.calibration is not None
    assert reduction.num_rows_compared == 90
    measured = recall_at_10(restore(quantize(exact)), exact)
    assert reduction.recall_at_10 == pytest.approx(measured, abs=0.02)
    assert 0.9 <= reduction.recall_at_10 <= 1
    assert reduction.calibration.min_scale == scale.min()
    assert reduction.calibration.max_scale == scale.max()
    assert reduction.calibration.num_saturated == (np.abs(values) == 127).sum()
    assert not [name for name in list_names(f"{table}/_splits") if "sample" in name]

    assert update(raw, table, settings=objects_apart())[0].is_empty  # settings without a word of precision
    changed = [*rows(30, 29), {"id": "new", "text": "butter and cake are in the oven", "kind": "odd"}]
    write(tmp_path / "raw/1.jsonl", changed)
    _, _, version, counts = update(raw, table, settings=objects_apart())
    assert version == 1
    assert counts.num_rows_carried == 29
    assert counts.num_texts_encoded == 1
    second = read(table)
    keys = ["source", "id"]
    both = first.join(second.select(*keys, pl.col("embedding").alias("e2"), pl.col("scale").alias("s2")), on=keys)
    assert both.height == 89
    assert both.filter((pl.col("embedding") == pl.col("e2")) & (pl.col("scale") == pl.col("s2"))).height == 89
    later = newest_reduction(Table.open(table))
    assert later is not None
    assert later.recall_at_10 == reduction.recall_at_10  # one new text says nothing: that of the first run is shown
    assert later.calibration is not None
    assert later.calibration.min_scale <= reduction.calibration.min_scale

    assert verify_table(table).findings == []
    feed = write_changes(table, 0, 1, str(tmp_path / "feed.parquet"))
    assert feed.num_upserts == 1
    assert feed.num_deletes == 1
    assert not feed.encoder_changed
    upsert = pl.read_parquet(tmp_path / "feed.parquet").filter(pl.col("change") == "upsert").to_dicts()[0]
    assert upsert["embedding"] == second.filter(pl.col("id") == "new")["embedding"][0].to_list()
    assert upsert["scale"] == second.filter(pl.col("id") == "new")["scale"][0]
    hits = search_table(Table.open(table), texts(41, 1)[0]).hits()
    assert hits[0].id == "41"
    assert round(hits[0].score, 1) == 1.0
    assert compact_table(table).num_shards == 1
    assert read(table).equals(second)
    assert update(raw, table, settings=objects_apart())[0].is_empty


def test_float32_to_int8_and_back_is_one_commit_each(tmp_path: Path, model: str) -> None:
    write_objects(tmp_path / "raw", 2, 10)
    raw, table = tmp_path / "raw", str(tmp_path / "table")
    update(raw, table, model=model, settings=objects_apart())
    with pytest.raises(EncoderMismatchError, match="pass --model"):
        update(raw, table, settings=stored_as(precision="int8"))
    _, changes, version, counts = update(raw, table, model=model, settings=stored_as(precision="int8"))
    assert version == 1
    assert len(changes.drop) == 2
    assert counts.num_texts_encoded == 20
    assert read(table, 0).schema["embedding"] == pl.List(pl.Float32)
    assert read(table).schema["embedding"] == pl.List(pl.Int8)
    assert "scale" not in read(table, 0).columns
    assert [verify_table(table, number).findings for number in (0, 1)] == [[], []]
    feed = write_changes(table, 0, 1, None)
    assert feed.num_upserts == 20
    assert feed.encoder_changed
    reduction = newest_reduction(Table.open(table))
    assert reduction is not None
    assert reduction.recall_at_10 is None
    assert reduction.num_rows_compared == 20
    assert reduction.describe() == "not measured: only 20 new texts, at least 50 are needed"
    update(raw, table, model=model, settings=stored_as(precision="float32"))
    assert read(table).equals(read(table, 0))
    assert roll_back(table, 1).version == 3
    assert Table.open(table).encoder.precision is Precision.INT8
    assert verify_table(table).findings == []


def test_another_model_keeps_the_form_of_the_table(tmp_path: Path, model: str, other_model: str) -> None:
    write(tmp_path / "raw/0.jsonl", rows(0, 10))
    raw, table = tmp_path / "raw", str(tmp_path / "table")
    update(raw, table, model=model, settings=stored_as(precision="int8", output_dim=16, min_recall=0.5))
    update(raw, table, model=other_model)
    info = Table.open(table).encoder
    assert info.model == other_model
    assert info.precision == Precision.INT8
    assert info.dim == 16
    assert info.full_dim == HIDDEN
    assert info.min_recall == 0.5


def test_a_table_can_store_the_first_values_of_vectors_only(tmp_path: Path, model: str) -> None:
    write(tmp_path / "raw/0.jsonl", rows(0, 60))
    raw, table = tmp_path / "raw", str(tmp_path / "table")
    with pytest.raises(SettingsError, match=r"output_dim is 33, but the encoder gives 32 values"):
        update(raw, table, model=model, settings=stored_as(output_dim=33))
    update(raw, table, model=model, settings=stored_as(output_dim=16, min_recall=0))
    stored_rows = read(table).with_columns(pl.col("id").cast(pl.Int64)).sort("id")
    vectors = stored_rows["embedding"].cast(pl.Array(pl.Float32, 16)).to_numpy()
    exact = SentenceEncoder.from_pretrained(model).encode(texts(0, 60))
    np.testing.assert_allclose(vectors, truncate(exact, 16, normalize=True), atol=1e-5)
    info = Table.open(table).encoder
    assert info.dim == 16
    assert info.model_dim == HIDDEN
    assert info.precision == Precision.FLOAT32
    assert verify_table(table).findings == []
    assert search_table(Table.open(table), texts(33, 1)[0]).hits()[0].id == "33"
    assert update(raw, table)[0].is_empty
    reduction = newest_reduction(Table.open(table))
    assert reduction is not None
    assert reduction.calibration is None
    assert reduction.recall_at_10 == pytest.approx(recall_at_10(truncate(exact, 16, normalize=True), exact), abs=0.02)
    _, _, version, _ = update(raw, table, model=model, settings=stored_as(output_dim=HIDDEN))
    assert version == 1
    assert Table.open(table).encoder.dim == HIDDEN
    assert len(read(table)["embedding"][0]) == HIDDEN


def test_too_little_recall_publishes_nothing(tmp_path: Path, model: str) -> None:
    write(tmp_path / "raw/0.jsonl", rows(0, 60))
    raw, table = tmp_path / "raw", str(tmp_path / "table")
    update(raw, table, model=model)
    before = read(table)
    settings_ = RefreshSettings.model_validate({"encoding": {"output_dim": 2}})
    for _ in range(2):  # the second takes up what the first built, with its sample
        with pytest.raises(
            QualityError,
            match=r"recall@10 against float32 is 0\.\d{4} with precision float32 and 2 of 32 values, measured among 60 rows\. "
            r"min_recall is 0\.9500, so nothing was published: choose an output_dim above 2 .*, or lower min_recall",
        ):
            update(raw, table, model=model, settings=settings_)
    assert Table.open(table).version == 0
    assert read(table).equals(before)
    lower = RefreshSettings.model_validate({"encoding": {"output_dim": 2, "min_recall": 0.1}})
    plan, _, version, _ = update(raw, table, model=model, settings=lower)
    assert len(plan.resume) == 1
    assert len(plan.build) == 0
    assert version == 1
    assert update(raw, table)[0].is_empty


@pytest.mark.parametrize(("output_dim", "num_warnings"), [(2, 1), (HIDDEN, 0)])
def test_the_first_texts_warn_once(
    tmp_path: Path,
    model: str,
    monkeypatch: pytest.MonkeyPatch,
    caplog: pytest.LogCaptureFixture,
    output_dim: int,
    num_warnings: int,
) -> None:
    monkeypatch.setattr("sbert.table.quantization_recall.FIRST_LOOK_ROWS", 50)
    write_objects(tmp_path / "raw", 4, 30)
    settings = stored_as(precision="int8", output_dim=output_dim, min_recall=0.8)
    with caplog.at_level("WARNING", logger="sbert.table.quantization_recall"), contextlib.suppress(QualityError):
        update(tmp_path / "raw", tmp_path / "table", model=model, settings=settings)
    warnings = [message for message in caplog.messages if "among the first 60 texts, the limit is 0.8000" in message]
    assert len(warnings) == num_warnings
    assert all("choose an output_dim above 2" in message for message in warnings)


def test_vacuum_removes_what_a_refusal_left(tmp_path: Path, model: str) -> None:
    write(tmp_path / "raw/0.jsonl", rows(0, 60))
    raw, table = tmp_path / "raw", str(tmp_path / "table")
    update(raw, table, model=model)
    before = list_names(f"{table}/_splits")
    with pytest.raises(QualityError):
        update(raw, table, model=model, settings=stored_as(output_dim=2))
    left = set(list_names(f"{table}/_splits")) - set(before)
    assert sum(name.endswith(".sample.parquet") for name in left) == 1
    vacuum_table(table, retention_hours=0, apply=True)
    assert list_names(f"{table}/_splits") == before


def test_the_sample_survives_a_kill_and_a_second_pass(
    tmp_path: Path, model: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    for number in range(2):
        write(tmp_path / f"raw/{number}.jsonl", [*rows(number * 30, 30), *rows(number * 30, 1)])  # one id twice
    raw, table, settings = tmp_path / "raw", str(tmp_path / "table"), stored_as(precision="int8", min_recall=0.5)
    with killed_after(monkeypatch, 1), pytest.raises(KeyboardInterrupt):
        update(raw, table, model=model, settings=settings)
    plan, *_ = update(raw, table, model=model, settings=settings)
    assert len(plan.resume) == 1
    assert len(plan.build) == 1
    reduction = newest_reduction(Table.open(table))
    assert reduction is not None
    assert reduction.num_rows_compared == 60


def test_damage_to_scales_is_found(tmp_path: Path, model: str) -> None:
    write(tmp_path / "raw/0.jsonl", rows(0, 10))
    table = tmp_path / "table"
    update(tmp_path / "raw", table, model=model, settings=stored_as(precision="int8"))
    (shard,) = Table.open(str(table)).shards()
    stored_rows = pq.read_table(table / shard.name)
    doubled = stored_rows.set_column(
        stored_rows.schema.get_field_index("scale"),
        stored_rows.schema.field("scale"),
        [np.float32(2) * stored_rows["scale"].to_numpy()],
    )
    pq.write_table(doubled, table / shard.name)
    assert any("10 of 10 vectors have a wrong norm" in finding for finding in verify_table(str(table)).findings)

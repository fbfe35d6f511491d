"""Smaller vectors: what quantizing may change, what is measured before they are published, and that no row mixes forms."""

import contextlib
from pathlib import Path

import numpy as np
import polars as pl
import pyarrow.parquet as pq
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from sbert.build import SplitBuilder
from sbert.changes import write_changes
from sbert.compact import compact_table
from sbert.encoder import SentenceEncoder
from sbert.errors import EncoderMismatchError, QualityError, SettingsError
from sbert.job import RefreshSettings
from sbert.known import KnownVectors
from sbert.precision import (
    Calibration,
    Precision,
    dequantize,
    norm_tolerance,
    quantize,
    recall_at_10,
    reduce_vectors,
    restore,
    stored_dtype,
    truncate,
)
from sbert.quality import check_vectors
from sbert.recall import SAMPLE_ROWS, VectorSample, newest_reduction, rows_to_sample
from sbert.rollback import roll_back
from sbert.search import search_table
from sbert.shards import stored_vectors, vector_columns
from sbert.storage import list_names
from sbert.table import Table
from sbert.vacuum import vacuum_table
from sbert.verify import verify_table
from tests.tables import objects_apart, read, rows, texts, update, write
from tests.tiny_models import HIDDEN, save_tiny


@pytest.fixture(scope="module")
def model(tmp_path_factory: pytest.TempPathFactory) -> str:
    return save_tiny(tmp_path_factory.mktemp("model"))


@pytest.fixture(scope="module")
def other_model(tmp_path_factory: pytest.TempPathFactory) -> str:
    return save_tiny(tmp_path_factory.mktemp("other"), seed=1)


def stored_as(**encoding: object) -> RefreshSettings:
    return objects_apart(encoding=encoding)


def unit(shape: tuple[int, int], seed: int = 0) -> np.ndarray:
    vectors = np.random.default_rng(seed).standard_normal(shape).astype(np.float32)
    return vectors / np.linalg.norm(vectors, axis=1, keepdims=True)


def test_quantize_by_hand() -> None:
    """The greatest value is 2.54, so scale is 0.02: 2.54 / 0.02 = 127, -1 / 0.02 = -50, 0.009 / 0.02 rounds to 0."""
    stored = quantize(np.array([[2.54, -1, 0.009], [0, 0, 0]], dtype=np.float32))
    assert stored["values"].tolist() == [[127, -50, 0], [0, 0, 0]]
    np.testing.assert_allclose(stored["scale"], [0.02, 0], rtol=1e-6)
    np.testing.assert_allclose(restore(stored), [[2.54, -1, 0], [0, 0, 0]], rtol=1e-6)


finite = st.floats(-(2.0**100), 2.0**100, width=32)


@settings(max_examples=200, deadline=None)
@given(st.lists(st.lists(finite, min_size=5, max_size=5), max_size=4))
def test_a_value_is_off_by_half_a_scale_at_most(values: list[list[float]]) -> None:
    vectors = np.array(values, dtype=np.float32).reshape(-1, 5)
    stored = quantize(vectors)
    assert stored["values"].min(initial=0) >= -127
    assert np.isfinite(stored["scale"]).all()
    # The scale itself is rounded: by 2^-24 of it, below 2^-126 by 2^-150, 127 times at most.
    error = np.abs(dequantize(stored["values"], stored["scale"]).astype(np.float64) - vectors)
    assert (error <= stored["scale"][:, None] * 0.50002 + 127 * 2.0**-150).all()


@settings(max_examples=50, deadline=None)
@given(seed=st.integers(0, 2**32 - 1), dim=st.sampled_from([2, 32, 384]))
def test_norms_stay_within_their_tolerance(seed: int, dim: int) -> None:
    stored = quantize(unit((20, dim), seed))
    check_vectors(restore(stored), dim=dim, normalized=True, what="v", tolerance=norm_tolerance(stored))
    stored["scale"][3] *= 1.3
    with pytest.raises(QualityError, match=r"1 of 20 vectors have a wrong norm \(first: row 3"):
        check_vectors(restore(stored), dim=dim, normalized=True, what="v", tolerance=norm_tolerance(stored) / 2)


def test_columns_and_back_is_identity() -> None:
    import pyarrow as pa

    stored = quantize(unit((7, 5)))
    columns = vector_columns(stored)
    assert [str(column.type) for column in columns.values()] == ["list<item: int8>", "float"]
    np.testing.assert_array_equal(stored_vectors(pa.table(columns), 5, Precision.INT8), stored)
    assert len(stored_vectors(pa.table(columns).slice(0, 0), 5, Precision.INT8)) == 0


def test_truncate_keeps_the_first_values_and_the_unit_length() -> None:
    vectors = np.array([[3, 4, 12], [0, 0, 1]], dtype=np.float32)
    np.testing.assert_allclose(truncate(vectors, 2, normalize=True), [[0.6, 0.8], [0, 0]], rtol=1e-6)
    np.testing.assert_array_equal(truncate(vectors[:1], 2, normalize=False), [[3, 4]])
    np.testing.assert_array_equal(vectors, [[3, 4, 12], [0, 0, 1]])
    assert truncate(vectors, 3, normalize=True) is vectors


def test_recall_by_hand_and_against_a_plain_reference() -> None:
    exact, approximate = unit((60, 16)), unit((60, 16), seed=1)
    expected = []
    for row in range(60):
        nearest = [
            set(
                sorted((other for other in range(60) if other != row), key=lambda other: -float(v[row] @ v[other]))[:10]
            )
            for v in (exact, approximate)
        ]
        expected.append(len(nearest[0] & nearest[1]) / 10)
    assert recall_at_10(approximate, exact) == pytest.approx(np.mean(expected))
    assert recall_at_10(exact, exact) == 1.0
    assert recall_at_10(exact[:1], exact[:1]) == 1.0
    copies = np.repeat(exact[:2], 20, axis=0)  # twenty equal neighbours: any ten of them will do
    assert recall_at_10(copies + np.float32(1e-4) * unit((40, 16), seed=2), copies) == 1.0


def test_a_sample_is_the_same_in_any_order_and_split() -> None:
    hashes = np.random.default_rng(0).integers(0, 256, (300, 16), dtype=np.uint8)
    vectors = unit((300, 4))
    whole, parts = VectorSample(20, 4), VectorSample(20, 4)
    whole.add(hashes, vectors)
    for chosen in np.array_split(np.random.default_rng(1).permutation(300), 7):
        parts.add(hashes[chosen], vectors[chosen])
    parts.add(hashes[:50], vectors[:50])  # seen before
    np.testing.assert_array_equal(whole.hashes, parts.hashes)
    np.testing.assert_array_equal(whole.vectors_ND, parts.vectors_ND)
    assert whole.hashes[:, 0].max() < 40  # the least of 300


def test_samples_of_many_splits_stay_few(tmp_path: Path, model: str) -> None:
    write(tmp_path / "raw/0.jsonl", rows(0, 60))
    plan, *_ = update(tmp_path / "raw", tmp_path / "table", model=model, settings=stored_as(precision="int8"))
    names = [f"{number * 7919 % 2**32:032x}" for number in range(5_000)]
    for num_splits in (1, 3, 125, 5_000):
        total = sum(rows_to_sample(plan.encoder, name[::-1], num_splits) for name in names[:num_splits])
        assert SAMPLE_ROWS * 0.7 <= total <= SAMPLE_ROWS * 1.3, num_splits
    whole = plan.encoder.model_copy(update={"precision": Precision.FLOAT32})
    assert rows_to_sample(whole, names[0], 1) == 0


def test_known_vectors_come_back_as_they_are_stored() -> None:
    stored = quantize(unit((3, 4)))
    hashes = np.arange(48, dtype=np.uint8).reshape(3, 16)
    vectors = KnownVectors(4, Precision.INT8, run_file_bytes=2 * (16 + 4 + 1 + 4 + 4))
    vectors.add_computed(hashes, stored, np.ones(3, np.int32), np.zeros(3, np.bool_))
    found = vectors.find(hashes)
    assert found.found.tolist() == [True, True, False]
    assert found.embeddings.dtype == stored_dtype(4, Precision.INT8)
    np.testing.assert_array_equal(found.embeddings[:2], stored[:2])
    vectors.close()


def test_an_int8_table_from_first_build_to_carried_rows(tmp_path: Path, model: str) -> None:
    for number in range(3):
        write(tmp_path / f"raw/{number}.jsonl", rows(number * 30, 30))
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
    assert (info.precision, info.dim, info.full_dim, info.min_recall) == (Precision.INT8, HIDDEN, HIDDEN, 0.9)
    found = newest_reduction(Table.open(table))
    assert found is not None
    assert found.calibration is not None
    assert found.num_rows_compared == 90
    measured = recall_at_10(restore(quantize(exact)), exact)
    assert found.recall_at_10 == pytest.approx(measured, abs=0.02)
    assert 0.9 <= found.recall_at_10 <= 1
    assert (found.calibration.min_scale, found.calibration.max_scale) == (scale.min(), scale.max())
    assert found.calibration.num_saturated == (np.abs(values) == 127).sum()
    assert not [name for name in list_names(f"{table}/_splits") if "sample" in name]

    assert update(raw, table, settings=objects_apart())[0].is_empty  # settings without a word of precision
    changed = [*rows(30, 29), {"id": "new", "text": "butter and cake are in the oven", "kind": "odd"}]
    write(tmp_path / "raw/1.jsonl", changed)
    _, _, version, counts = update(raw, table, settings=objects_apart())
    assert (version, counts.num_rows_carried, counts.num_texts_encoded) == (1, 29, 1)
    second = read(table)
    keys = ["source", "id"]
    both = first.join(second.select(*keys, pl.col("embedding").alias("e2"), pl.col("scale").alias("s2")), on=keys)
    assert both.height == 89
    assert both.filter((pl.col("embedding") == pl.col("e2")) & (pl.col("scale") == pl.col("s2"))).height == 89
    later = newest_reduction(Table.open(table))
    assert later is not None
    assert later.recall_at_10 == found.recall_at_10  # one new text says nothing: that of the first run is shown
    assert later.calibration is not None
    assert later.calibration.min_scale <= found.calibration.min_scale

    assert verify_table(table).findings == []
    feed = write_changes(table, 0, 1, str(tmp_path / "feed.parquet"))
    assert (feed.num_upserts, feed.num_deletes, feed.encoder_changed) == (1, 1, False)
    upsert = pl.read_parquet(tmp_path / "feed.parquet").filter(pl.col("change") == "upsert").to_dicts()[0]
    assert upsert["embedding"] == second.filter(pl.col("id") == "new")["embedding"][0].to_list()
    assert upsert["scale"] == second.filter(pl.col("id") == "new")["scale"][0]
    hits = search_table(Table.open(table), texts(41, 1)[0], k=3)
    assert (hits[0].id, round(hits[0].score, 1)) == ("41", 1.0)
    assert compact_table(table).num_shards == 1
    assert read(table).equals(second)
    assert update(raw, table, settings=objects_apart())[0].is_empty


def test_int8_shards_are_a_quarter_of_float32(tmp_path: Path) -> None:
    import pyarrow as pa

    from sbert.shards import ShardSettings, ShardWriter, table_schema

    vectors, sizes = unit((5_000, 384)), {}
    for precision in Precision:
        stored = reduce_vectors(vectors, dim=384, precision=precision, normalize=True)
        block = pa.table(
            {
                "id": [str(number) for number in range(5_000)],
                "source": ["s"] * 5_000,
                "text_hash": [number.to_bytes(16, "big") for number in range(5_000)],
                **vector_columns(stored),
                "num_tokens": np.ones(5_000, np.int32),
                "truncated": np.zeros(5_000, np.bool_),
            }
        )
        with ShardWriter(str(tmp_path), "0" * 32, table_schema({}, precision), ShardSettings()) as writer:
            writer.write(block)
            (record,) = writer.close()
        sizes[precision] = record.num_bytes
        there = pq.read_table(tmp_path / record.name)
        np.testing.assert_array_equal(stored_vectors(there, 384, precision), stored)
    assert sizes[Precision.INT8] < 5_000 * 384 * 1.08
    assert sizes[Precision.INT8] < 0.3 * sizes[Precision.FLOAT32]


def test_float32_to_int8_and_back_is_one_commit_each(tmp_path: Path, model: str) -> None:
    for number in range(2):
        write(tmp_path / f"raw/{number}.jsonl", rows(number * 10, 10))
    raw, table = tmp_path / "raw", str(tmp_path / "table")
    update(raw, table, model=model, settings=objects_apart())
    with pytest.raises(EncoderMismatchError, match="pass --model"):
        update(raw, table, settings=stored_as(precision="int8"))
    _, changes, version, counts = update(raw, table, model=model, settings=stored_as(precision="int8"))
    assert (version, len(changes.drop), counts.num_texts_encoded) == (1, 2, 20)
    assert (read(table, 0).schema["embedding"], read(table).schema["embedding"]) == (
        pl.List(pl.Float32),
        pl.List(pl.Int8),
    )
    assert "scale" not in read(table, 0).columns
    assert [verify_table(table, number).findings for number in (0, 1)] == [[], []]
    feed = write_changes(table, 0, 1, None)
    assert (feed.num_upserts, feed.encoder_changed) == (20, True)
    found = newest_reduction(Table.open(table))
    assert found is not None
    assert (found.recall_at_10, found.num_rows_compared) == (None, 20)
    assert found.describe() == "not measured: 20 texts were encoded, at least 50 are needed"
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
    assert (info.model, info.precision, info.dim, info.full_dim) == (other_model, Precision.INT8, 16, HIDDEN)
    assert info.min_recall == 0.5


def test_the_first_values_only(tmp_path: Path, model: str) -> None:
    write(tmp_path / "raw/0.jsonl", rows(0, 60))
    raw, table = tmp_path / "raw", str(tmp_path / "table")
    with pytest.raises(SettingsError, match=r"output_dim is 33, the encoder gives 32 values"):
        update(raw, table, model=model, settings=stored_as(output_dim=33))
    update(raw, table, model=model, settings=stored_as(output_dim=16, min_recall=0))
    there = read(table).with_columns(pl.col("id").cast(pl.Int64)).sort("id")
    vectors = there["embedding"].cast(pl.Array(pl.Float32, 16)).to_numpy()
    exact = SentenceEncoder.from_pretrained(model).encode(texts(0, 60))
    np.testing.assert_allclose(vectors, truncate(exact, 16, normalize=True), atol=1e-5)
    info = Table.open(table).encoder
    assert (info.dim, info.model_dim, info.precision) == (16, HIDDEN, Precision.FLOAT32)
    assert verify_table(table).findings == []
    assert search_table(Table.open(table), texts(33, 1)[0], k=1)[0].id == "33"
    assert update(raw, table)[0].is_empty
    found = newest_reduction(Table.open(table))
    assert found is not None
    assert found.calibration is None
    assert found.recall_at_10 == pytest.approx(recall_at_10(truncate(exact, 16, normalize=True), exact), abs=0.02)
    _, _, version, _ = update(raw, table, model=model, settings=stored_as(output_dim=HIDDEN))
    assert (version, Table.open(table).encoder.dim, len(read(table)["embedding"][0])) == (1, HIDDEN, HIDDEN)


def test_too_little_recall_publishes_nothing(tmp_path: Path, model: str) -> None:
    write(tmp_path / "raw/0.jsonl", rows(0, 60))
    raw, table = tmp_path / "raw", str(tmp_path / "table")
    update(raw, table, model=model)
    before = read(table)
    settings_ = RefreshSettings.model_validate({"encoding": {"output_dim": 2}})
    for _ in range(2):  # the second takes up what the first built, with its sample
        with pytest.raises(
            QualityError,
            match=r"precision float32 and 2 of 32 values recall@10 is 0\.\d{4} against float32 among 60 rows, accepted is "
            r"0\.9500: nothing was published; choose an output_dim above 2 .*, or lower min_recall",
        ):
            update(raw, table, model=model, settings=settings_)
    assert (Table.open(table).version, read(table).equals(before)) == (0, True)
    lower = RefreshSettings.model_validate({"encoding": {"output_dim": 2, "min_recall": 0.1}})
    plan, _, version, _ = update(raw, table, model=model, settings=lower)
    assert (len(plan.resume), len(plan.build), version) == (1, 0, 1)
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
    monkeypatch.setattr("sbert.recall.FIRST_LOOK_ROWS", 50)
    for number in range(4):
        write(tmp_path / f"raw/{number}.jsonl", rows(number * 30, 30))
    chosen = stored_as(precision="int8", output_dim=output_dim, min_recall=0.8)
    with caplog.at_level("WARNING", logger="sbert.recall"), contextlib.suppress(QualityError):
        update(tmp_path / "raw", tmp_path / "table", model=model, settings=chosen)
    warnings = [message for message in caplog.messages if "among the first 60 texts, accepted is 0.8000" in message]
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
    raw, table, chosen = tmp_path / "raw", str(tmp_path / "table"), stored_as(precision="int8", min_recall=0.5)
    real, built = SplitBuilder.build, []

    def killed_after_one(self: SplitBuilder, *args: object) -> object:
        if built:
            raise KeyboardInterrupt
        built.append(args)
        return real(self, *args)  # type: ignore[arg-type]

    with monkeypatch.context() as patch:
        patch.setattr(SplitBuilder, "build", killed_after_one)
        with pytest.raises(KeyboardInterrupt):
            update(raw, table, model=model, settings=chosen)
    plan, *_ = update(raw, table, model=model, settings=chosen)
    assert (len(plan.resume), len(plan.build)) == (1, 1)
    found = newest_reduction(Table.open(table))
    assert found is not None
    assert found.num_rows_compared == 60


def test_damage_to_scales_is_found(tmp_path: Path, model: str) -> None:
    write(tmp_path / "raw/0.jsonl", rows(0, 10))
    table = tmp_path / "table"
    update(tmp_path / "raw", table, model=model, settings=stored_as(precision="int8"))
    (shard,) = Table.open(str(table)).shards()
    there = pq.read_table(table / shard.name)
    doubled = there.set_column(
        there.schema.get_field_index("scale"), there.schema.field("scale"), [np.float32(2) * there["scale"].to_numpy()]
    )
    pq.write_table(doubled, table / shard.name)
    assert any("10 of 10 vectors have a wrong norm" in finding for finding in verify_table(str(table)).findings)


def test_calibrations_add_up() -> None:
    one, two = quantize(unit((5, 8))), quantize(3 * unit((7, 8), seed=1))
    both, of_one = Calibration.of(np.concatenate([one, two])), Calibration.of(one)
    assert of_one is not None
    assert of_one.merged(Calibration.of(two)) == both
    assert of_one.merged(None) is of_one
    assert Calibration.of(one[:0]) is None
    assert Calibration.of(unit((5, 8))) is None

"""Smaller vectors: what quantizing and cutting may change, and how recall is measured."""

from pathlib import Path

import numpy as np
import pyarrow.parquet as pq
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from sbert.errors import QualityError
from sbert.table.quantization_recall import VectorSample
from sbert.table.shards import stored_vectors, vector_columns
from sbert.table.vector_cache import VectorCache
from sbert.vectors.checks import check_vectors
from sbert.vectors.precision import (
    Precision,
    QuantizationStatistics,
    dequantize,
    norm_tolerance,
    quantize,
    recall_at_10,
    reduce_vectors,
    restore,
    stored_dtype,
    truncate,
)


def unit(shape: tuple[int, int], seed: int = 0) -> np.ndarray:
    vectors = np.random.default_rng(seed).standard_normal(shape).astype(np.float32)
    return vectors / np.linalg.norm(vectors, axis=1, keepdims=True)


def test_quantized_values_are_those_computed_by_hand() -> None:
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


def test_writing_vectors_to_columns_and_reading_them_is_identity() -> None:
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


def test_recall_is_that_of_a_plain_reference_and_ties_count() -> None:
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
    for part in np.array_split(np.random.default_rng(1).permutation(300), 7):
        parts.add(hashes[part], vectors[part])
    parts.add(hashes[:50], vectors[:50])  # seen before
    np.testing.assert_array_equal(whole.hashes, parts.hashes)
    np.testing.assert_array_equal(whole.vectors_ND, parts.vectors_ND)
    assert whole.hashes[:, 0].max() < 40  # the least of 300


def test_known_vectors_come_back_as_they_are_stored() -> None:
    stored = quantize(unit((3, 4)))
    hashes = np.arange(48, dtype=np.uint8).reshape(3, 16)
    vectors = VectorCache(4, Precision.INT8, run_file_bytes=2 * (16 + 4 + 1 + 4 + 4))
    vectors.add_computed(hashes, stored, np.ones(3, np.int32), np.zeros(3, np.bool_))
    cached = vectors.lookup(hashes)
    assert cached.hits.tolist() == [True, True, False]
    assert cached.embeddings.dtype == stored_dtype(4, Precision.INT8)
    np.testing.assert_array_equal(cached.embeddings[:2], stored[:2])
    vectors.close()


def test_int8_shards_are_a_quarter_of_float32(tmp_path: Path) -> None:
    import pyarrow as pa

    from sbert.table.shards import ShardSettings, ShardWriter, table_schema

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
        stored_rows = pq.read_table(tmp_path / record.name)
        np.testing.assert_array_equal(stored_vectors(stored_rows, 384, precision), stored)
    assert sizes[Precision.INT8] < 5_000 * 384 * 1.08
    assert sizes[Precision.INT8] < 0.3 * sizes[Precision.FLOAT32]


def test_the_statistics_of_two_parts_are_those_of_all_rows() -> None:
    one, two = quantize(unit((5, 8))), quantize(3 * unit((7, 8), seed=1))
    both, of_one = QuantizationStatistics.of(np.concatenate([one, two])), QuantizationStatistics.of(one)
    assert of_one is not None
    assert of_one.merged(QuantizationStatistics.of(two)) == both
    assert of_one.merged(None) is of_one
    assert QuantizationStatistics.of(one[:0]) is None
    assert QuantizationStatistics.of(unit((5, 8))) is None

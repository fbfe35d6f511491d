"""Known vectors come back exactly, and only for texts whose whole hash agrees."""

import logging
from collections import Counter
from pathlib import Path

import numpy as np
import polars as pl
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from sbert.rows.cleaning import hash_texts
from sbert.table import text_index, vector_cache
from sbert.table.shards import ShardSettings, ShardWriter, embedding_column, table_schema
from sbert.table.text_index import TextPlaces, distinct_rows, hash_matrix
from sbert.table.vector_cache import VectorCache

DIM = 4


def hashes_of(texts: list[str]) -> np.ndarray:
    return hash_matrix(hash_texts(pl.Series(texts, dtype=pl.String)).to_arrow())


def vectors_of(numbers: list[int]) -> np.ndarray:
    return np.array([[number, number + 0.25, -number, 1] for number in numbers], dtype=np.float32).reshape(-1, DIM)


def write_shard(folder: Path, numbers: list[int], row_group_rows: int = 2) -> str:
    import pyarrow as pa

    texts = [f"text {number}" for number in numbers]
    rows = pa.table(
        {
            "id": texts,
            "source": ["s"] * len(texts),
            "text_hash": hash_texts(pl.Series(texts)).to_arrow(),
            "embedding": embedding_column(vectors_of(numbers)),
            "num_tokens": np.array(numbers, dtype=np.int32),
            "truncated": np.array([number % 2 == 1 for number in numbers]),
        }
    )
    with ShardWriter(str(folder), "f" * 32, table_schema({}), ShardSettings(row_group_rows=row_group_rows)) as writer:
        writer.write(rows)
        record = writer.close()[0]
    return str(folder / record.name)


def test_vectors_of_shards_and_of_the_run_are_found_by_their_hashes(tmp_path: Path) -> None:
    vectors = VectorCache(DIM, run_file_bytes=2**20)
    vectors.add_shards([write_shard(tmp_path, [1, 2, 3, 4, 5])])
    vectors.add_computed(
        hashes_of(["text 8", "text 9"]),
        vectors_of([8, 9]),
        np.array([8, 9], np.int32),
        np.array([False, True]),
    )
    cached = vectors.lookup(hashes_of(["text 9", "text 7", "text 5", "text 2", "text 8", "text 2"]))
    assert cached.hits.tolist() == [True, False, True, True, True, True]
    assert cached.in_table.tolist() == [False, False, True, True, False, True]
    np.testing.assert_array_equal(cached.embeddings[cached.hits], vectors_of([9, 5, 2, 8, 2]))
    assert cached.num_tokens.tolist() == [9, 0, 5, 2, 8, 2]
    assert cached.truncated.tolist() == [True, False, True, False, False, False]
    assert vectors.may_have(hashes_of(["text 7", "text 1"])).tolist() == [False, True]
    vectors.close()


def test_half_a_hash_is_not_enough(tmp_path: Path) -> None:
    vectors = VectorCache(DIM, run_file_bytes=2**20)
    vectors.add_shards([write_shard(tmp_path, [1])])
    forged = hashes_of(["text 1"]).copy()
    forged[0, 12] ^= 1  # the index knows the first 8 bytes only
    assert vectors.may_have(forged).tolist() == [True]
    assert vectors.lookup(forged).hits.tolist() == [False]
    vectors.close()


def test_a_full_run_file_forgets_but_never_lies(caplog: pytest.LogCaptureFixture) -> None:
    record_bytes = 16 + 4 + 1 + 4 * DIM
    vectors = VectorCache(DIM, run_file_bytes=2 * record_bytes)
    with caplog.at_level(logging.WARNING, logger="sbert.table.vector_cache"):
        for number in range(4):
            vectors.add_computed(
                hashes_of([f"text {number}"]),
                vectors_of([number]),
                np.array([1], np.int32),
                np.array([False]),
            )
    cached = vectors.lookup(hashes_of([f"text {number}" for number in range(4)]))
    assert cached.hits.tolist() == [True, True, False, False]
    np.testing.assert_array_equal(cached.embeddings[cached.hits], vectors_of([0, 1]))
    assert sum("full at 2 texts" in message for message in caplog.messages) == 1
    vectors.close()


@settings(max_examples=30, deadline=None)
@given(
    batches=st.lists(st.lists(st.integers(0, 200), min_size=1, max_size=30), min_size=1, max_size=40),
    wanted=st.lists(st.integers(0, 250), min_size=1, max_size=60),
    gap=st.integers(0, 5),
)
def test_added_vectors_are_found(batches: list[list[int]], wanted: list[int], gap: int) -> None:
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(vector_cache, "READ_GAP_ROWS", gap)
        patch.setattr(vector_cache, "READ_ROWS", 16)
        patch.setattr(text_index, "MAX_SEGMENTS", 4)
        patch.setattr(text_index, "LARGE_SEGMENT", 30)
        vectors = VectorCache(DIM, run_file_bytes=2**20)
        for numbers in batches:
            vectors.add_computed(
                hashes_of([f"text {number}" for number in numbers]),
                vectors_of(numbers),
                np.array(numbers, np.int32),
                np.zeros(len(numbers), np.bool_),
            )
        added = {number for numbers in batches for number in numbers}
        cached = vectors.lookup(hashes_of([f"text {number}" for number in wanted]))
        assert cached.hits.tolist() == [number in added for number in wanted]
        np.testing.assert_array_equal(
            cached.embeddings[cached.hits], vectors_of([number for number in wanted if number in added])
        )
        vectors.close()


def test_of_several_places_the_one_near_the_others_is_read(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Texts 0 and 1 are everywhere; a block of one region reads the row groups of that region only."""
    regions = [[0, 1, *range(10 * region, 10 * region + 4)] for region in range(1, 7)]
    vectors = VectorCache(DIM, run_file_bytes=2**20)
    first = write_shard(tmp_path / "a", [number for region in regions[:3] for number in region], row_group_rows=6)
    second = write_shard(tmp_path / "b", [number for region in regions[3:] for number in region], row_group_rows=6)
    vectors.add_shards([first, second])
    read: list[tuple[int, int]] = []
    real = vectors._group
    monkeypatch.setattr(vectors, "_group", lambda number, group: read.append((number, group)) or real(number, group))
    for place, region in enumerate(regions):
        cached = vectors.lookup(hashes_of([f"text {number}" for number in region]))
        np.testing.assert_array_equal(cached.embeddings, vectors_of(region))
        assert read == [divmod(place, 3)]
        read.clear()
    vectors.close()


@settings(max_examples=50, deadline=None)
@given(
    parts=st.lists(st.lists(st.integers(0, 20), max_size=30), min_size=1, max_size=4),
    wanted=st.lists(st.integers(0, 25), min_size=1, max_size=30),
    sorted_after=st.sampled_from([0, 1, 2, 9]),
)
def test_a_place_is_one_of_the_texts_places(parts: list[list[int]], wanted: list[int], sorted_after: int) -> None:
    """The index is sorted before the first shards are added, before the last ones, after them, or not at all."""
    index = TextPlaces()
    index._num_passes = text_index.MAX_PASSES - sorted_after
    where: dict[int, list[int]] = {}
    for number, part in enumerate(parts):
        for row, text in enumerate(part):
            where.setdefault(text, []).append((number << 32) | row)
    keys = [np.array(part, dtype=np.uint64) for part in parts]
    asked = np.zeros((len(wanted), 2), dtype=np.uint64)
    asked[:, 0] = wanted
    assert set(index.find(asked.view(np.uint8)).tolist()) == {-1}
    index.add(keys[:2], first_shard=0)
    index.find(asked.view(np.uint8))
    index.add(keys[2:], first_shard=2)
    assert len(index) == sum(map(len, parts))
    places = index.find(asked.view(np.uint8))
    votes = Counter(shard for text in wanted for shard in {place >> 32 for place in where.get(text, ())})
    most = min((shard for shard in votes if votes[shard] == max(votes.values())), default=-1)
    for text, place in zip(wanted, places.tolist(), strict=True):
        assert place in where.get(text, [-1])
        if most in {other >> 32 for other in where.get(text, ())}:
            assert place >> 32 == most  # the shard that has most of the texts


def test_a_block_is_read_from_its_own_shard_where_every_text_is_in_several() -> None:
    """As a pack that is built again: each of its texts is also in another shard, in a different one."""
    index = TextPlaces()
    own = np.arange(100, dtype=np.uint64)
    common = np.full(text_index.MAX_VOTES, 1_000, dtype=np.uint64)
    index.add([own[:40], np.append(own[::-1], common), own[40:70], own[70:]], first_shard=0)
    asked = np.zeros((101, 2), dtype=np.uint64)
    asked[:, 0] = [*own, 1_000]
    places = index.find(asked.view(np.uint8))
    assert (places[:100] == (np.int64(1) << 32) + np.arange(99, -1, -1)).all()
    assert places[100] >> 32 == 1


@given(st.lists(st.tuples(st.integers(0, 5), st.integers(0, 1)), max_size=40))
def test_distinct_rows_come_in_their_order(rows: list[tuple[int, int]]) -> None:
    """The second number is in the half of the hash that the index does not look at."""
    hashes = np.array(rows, dtype=np.uint64).reshape(-1, 2).view(np.uint8)
    first, number = distinct_rows(hashes)
    assert first.tolist() == sorted({row: place for place, row in reversed(list(enumerate(rows)))}.values())
    assert [rows[first[place]] for place in number] == rows

"""Rows hold every sequence once, apart from its row mates, and hardly any padding."""

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from sbert.encoder.engine.packing import WIDTH_STEP, PackedBatch, pack_rows
from tests.support.tiny_models import tiny_encoder

SIZES = {*range(32, 257, 32), *range(320, 513, 64), *range(640, 2049, 128)}


def batches_of(lengths: list[int], budget: int, *, few_sizes: bool = False) -> tuple[list[PackedBatch], np.ndarray]:
    sizes = np.array(lengths, dtype=np.int64)
    begins = np.cumsum(sizes) - sizes
    return list(pack_rows(sizes, budget).batches(begins, sizes, budget, few_sizes=few_sizes)), begins


@settings(max_examples=200, deadline=None)
@given(
    lengths=st.lists(st.integers(0, 300), max_size=80),
    budget=st.integers(1, 2000),
    few_sizes=st.booleans(),
)
def test_every_token_is_in_one_place_beside_its_own(lengths: list[int], budget: int, few_sizes: bool) -> None:
    batches, begins = batches_of(lengths, budget, few_sizes=few_sizes)
    seen = np.concatenate([np.zeros(0, np.int64), *(batch.sequences for batch in batches)])
    assert sorted(seen.tolist()) == list(range(len(lengths)))
    for batch in batches:
        assert sum(rows * width for rows, width in batch.groups) == len(batch.tokens)
        assert len(batch.tokens) in SIZES if few_sizes else len(batch.tokens) % WIDTH_STEP == 0
        assert all(width % WIDTH_STEP == 0 for _, width in batch.groups)
        row_of = np.repeat(
            np.arange(sum(rows for rows, _ in batch.groups)),
            np.concatenate([np.full(rows, width) for rows, width in batch.groups]),
        )
        for number, sequence in enumerate(batch.sequences):
            mine = np.flatnonzero(batch.owner == number)
            assert batch.tokens[mine].tolist() == list(range(begins[sequence], begins[sequence] + lengths[sequence]))
            assert batch.positions[mine].tolist() == list(range(lengths[sequence]))
            assert len(set(row_of[mine])) <= 1  # a sequence never crosses rows
        assert (batch.tokens[batch.owner == len(batch.sequences)] == -1).all()


@settings(max_examples=100, deadline=None)
@given(lengths=st.lists(st.integers(1, 300), min_size=1, max_size=80), budget=st.integers(32, 2000))
def test_a_batch_is_within_its_budget_unless_one_sequence_is_longer(lengths: list[int], budget: int) -> None:
    for batch in batches_of(lengths, budget)[0]:
        if len(batch.tokens) > budget:
            assert len(batch.sequences) == 1
            assert -(-lengths[int(batch.sequences[0])] // WIDTH_STEP) * WIDTH_STEP == len(batch.tokens)


@pytest.mark.parametrize(
    "lengths",
    [
        np.random.default_rng(0).lognormal(3.9, 0.8, 3000).astype(int).clip(3, 256),
        np.random.default_rng(0).integers(5, 17, 3000),
        np.full(2000, 256),
    ],
    ids=["mixed", "short", "long"],
)
def test_padding_is_below_two_percent(lengths: np.ndarray) -> None:
    batches, _ = batches_of(lengths.tolist(), 2048, few_sizes=True)
    num_tokens = sum(len(batch.tokens) for batch in batches)
    assert 1 - lengths.sum() / num_tokens < 0.02
    assert num_tokens - lengths.sum() == sum(int((batch.tokens < 0).sum()) for batch in batches)


@pytest.mark.parametrize(("num_texts", "most"), [(64, 0.06), (128, 0.04), (256, 0.03), (600, 0.025)])
def test_few_short_texts_are_hardly_padded(num_texts: int, most: float) -> None:
    for seed in range(10):
        lengths = np.random.default_rng(seed).integers(5, 17, num_texts)
        batches, _ = batches_of(lengths.tolist(), int(lengths.sum()) // 2, few_sizes=True)  # as two cores share them
        assert 1 - lengths.sum() / sum(len(batch.tokens) for batch in batches) < most


def test_a_query_takes_no_more_than_its_row() -> None:
    for length in (3, 13, 32, 33, 200):
        batches, _ = batches_of([length], 2048, few_sizes=True)
        assert [len(batch.tokens) for batch in batches] == [-(-length // WIDTH_STEP) * WIDTH_STEP]


def test_lengths_that_fill_no_row_get_a_wider_one() -> None:
    # 33 tokens fill 64 by half; a row of 192 holds five of them (165).
    batches, _ = batches_of([33] * 500, 2048)
    assert batches[0].groups[0][1] > 64
    assert sum(len(batch.tokens) for batch in batches) < 1.25 * 33 * 500


def test_the_widths_of_rows_are_few() -> None:
    lengths = np.random.default_rng(1).integers(1, 257, 5000).tolist()
    batches, _ = batches_of(lengths, 2048)
    assert len({width for batch in batches for _, width in batch.groups}) <= 16
    assert {len(batch.tokens) % WIDTH_STEP for batch in batches} == {0}


def test_batches_on_a_cpu_have_few_sizes_whatever_the_texts() -> None:
    encoder = tiny_encoder()
    runner = encoder.packed_runner()
    assert runner is not None
    words = "a cat sat on the mat".split()
    rng = np.random.default_rng(2)
    sizes = set()
    for _ in range(20):
        num_words = rng.lognormal(rng.uniform(1, 3), 0.8, rng.integers(1, 300)).astype(int).clip(1, 60)
        tokens = encoder.tokenize([" ".join(rng.choice(words, count)) for count in num_words])
        sizes |= {len(batch.tokens) for batch in runner.cut(tokens, np.arange(len(tokens.lengths)), 2048)}
    assert len(sizes) > 1
    assert sizes <= SIZES
    assert len(SIZES) == 24

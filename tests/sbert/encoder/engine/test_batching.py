"""Padded batches hold every sequence once, keep to their budget, and are hardly padded."""

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from sbert.encoder.engine.batching import cut_batches
from sbert.encoder.engine.budget import CPU_TOKENS, GPU_TOKENS


def padding(lengths: np.ndarray, batches: list[np.ndarray]) -> float:
    """Share of padded tokens that are padding."""
    return 1 - lengths.sum() / sum(len(batch) * int(lengths[batch].max()) for batch in batches)


@settings(max_examples=200, deadline=None)
@given(
    lengths=st.lists(st.integers(0, 300), max_size=80),
    budget=st.integers(1, 4000),
    smallest=st.none() | st.integers(0, 4000),
)
def test_every_sequence_is_in_one_batch_within_the_budget(
    lengths: list[int], budget: int, smallest: int | None
) -> None:
    sizes = np.array(lengths, dtype=np.int64)
    batches = list(cut_batches(sizes, budget, smallest_tokens=smallest))
    assert sorted(np.concatenate([np.zeros(0, np.int64), *batches]).tolist()) == list(range(len(lengths)))
    longest = [int(sizes[batch].max()) for batch in batches]
    assert longest == sorted(longest, reverse=True)
    for batch, length in zip(batches, longest, strict=True):
        assert len(batch) == 1 or len(batch) * length <= budget


@pytest.mark.parametrize(
    ("num_texts", "budget"), [(600, CPU_TOKENS), (16_384, CPU_TOKENS), (8_192, GPU_TOKENS), (16_384, GPU_TOKENS)]
)
@pytest.mark.parametrize("kind", ["mixed", "short"])
def test_padding_is_at_most_two_percent(kind: str, num_texts: int, budget: int) -> None:
    rng = np.random.default_rng(0)
    drawn = (
        rng.lognormal(3.9, 0.8, num_texts).astype(int).clip(3, 256)
        if kind == "mixed"
        else rng.integers(5, 17, num_texts)
    )
    lengths = drawn.astype(np.int64)
    batches = list(cut_batches(lengths, budget))
    assert padding(lengths, batches) <= 0.02
    # Batches are not small for it: a few more than the distinct lengths, whatever the number of texts.
    assert len(batches) <= lengths.sum() / budget * 1.1 + len(np.unique(lengths))


def test_batches_of_equal_lengths_are_full() -> None:
    batches = list(cut_batches(np.full(1_000, 16), 2_048))
    assert [len(batch) for batch in batches] == [104, *[128] * 7]


def test_a_small_batch_may_have_any_padding() -> None:
    lengths = np.array([40, 3, 20, 7, 11])
    assert [batch.tolist() for batch in cut_batches(lengths, 2_048)] == [[1, 3, 4, 2, 0]]
    assert len(list(cut_batches(lengths, 2_048, smallest_tokens=0))) == 5

"""Attention of the compiled kernels to scores that differ very much."""

import numpy as np
import pytest
import torch
import transformers

from sbert.encoder.engine.compiled import Kernels
from sbert.encoder.engine.dtype import ComputeDtype
from tests.support.kernels import (
    Size,
    make_model,
    make_runner,
    packed_vectors,
    plain_vectors,
    type_of_kernels,
    weights_in,
)

SIZES: list[Size] = [(128, 4, 256, 1), (128, 2, 256, 1)]
"""Heads of 32 and of 64 values."""


def word_vectors(firsts: list[float], hidden: int) -> torch.Tensor:
    """Random vectors whose mean is 0, and which begin with these numbers: a layer norm keeps their zeros."""
    halves = torch.randn(len(firsts), hidden // 2).bfloat16()
    halves[:, 0] = torch.tensor(firsts)
    return torch.cat([halves, -halves], 1)


@pytest.mark.parametrize("size", SIZES, ids=["heads of 32", "heads of 64"])
@pytest.mark.parametrize("sharpness", [1e3, 1e8, 1e10, 1e13, 1e20, -1e10])
def test_a_key_that_scores_far_above_gets_all_attention(kernels: Kernels, size: Size, sharpness: float) -> None:
    """A score that does not fit in an integer must not be taken for a small one, wherever the key is."""
    hidden, num_heads, *_ = size
    ids_T, lengths = np.array([1, 2, 3, 4, 2, 3, 3, 1, *[2] * 40, 4], np.int32), [3, 1, 45]

    def model() -> transformers.BertModel:
        made = make_model(size)
        attention = made.encoder.layer[0].attention.self
        with torch.no_grad():
            made.embeddings.position_embeddings.weight.zero_()
            made.embeddings.word_embeddings.weight[1:5] = word_vectors([0, 1, 2, 3], hidden)
            made.embeddings.token_type_embeddings.weight.zero_()
            attention.key.weight.zero_()
            attention.key.weight[:: hidden // num_heads, 0] = 1.0
            attention.query.bias[:: hidden // num_heads] = torch.tensor(sharpness).bfloat16().float()
        return made

    exact = plain_vectors(model().double(), ids_T, lengths)
    torchs = packed_vectors(weights_in(type_of_kernels(kernels), model()), ids_T, lengths)
    assert (torchs - exact).abs().max() <= 0.1
    ours = make_runner(kernels, model()).token_vectors(ids_T, np.array(lengths)).double()
    assert (ours - exact).abs().max() <= 0.1


@pytest.mark.parametrize(("num_others", "above"), [(400, 20), (2_000, 20)])
@pytest.mark.parametrize("size", SIZES, ids=["heads of 32", "heads of 64"])
def test_many_keys_that_score_far_below_the_first_count(
    kernels: Kernels, size: Size, num_others: int, above: int
) -> None:
    """The first key scores higher by 20 (to base 2) than all others, whose values are larger by a factor of 2^20 and more.

    In integers a share of less than 2^-15 of the highest in a chunk of 256 keys is lost. So 255 of 2,000 others are lost, and 400
    others are tried with 12.
    """
    hidden, num_heads, *_ = size
    if type_of_kernels(kernels) is ComputeDtype.INT8 and num_others == 400:
        above = 12
    ids_T, lengths = np.array([1, *[2] * num_others], np.int32), [1 + num_others]

    def model() -> transformers.BertModel:
        made = make_model(size, places=2_048)
        attention = made.encoder.layer[0].attention
        with torch.no_grad():
            made.embeddings.position_embeddings.weight.zero_()
            made.embeddings.token_type_embeddings.weight.zero_()
            words = word_vectors([3, 0], hidden)
            words[:, 1] = torch.tensor([0.0, 3.0])
            words[:, hidden // 2 + 1] = -words[:, 1]
            made.embeddings.word_embeddings.weight[1:3] = words
            for part in (attention.self.query, attention.self.key, attention.self.value):
                part.weight.zero_()
                part.bias.zero_()
            head = hidden // num_heads
            attention.self.key.weight[::head, 0] = 1.0  # about 3 for the first token, 0 for the others
            attention.self.query.bias[::head] = above / 3 * head**0.5 / 1.4427
            attention.self.value.weight[:, 1] = 2.0**14 * torch.randn(hidden).bfloat16()
        return made

    exact = plain_vectors(model().double(), ids_T, lengths)
    ours = make_runner(kernels, model()).token_vectors(ids_T, np.array(lengths)).double()
    assert torch.nn.functional.cosine_similarity(ours, exact).min() > 0.99

    others_left_out = plain_vectors(model().double(), ids_T[:1], [1])
    assert torch.nn.functional.cosine_similarity(others_left_out, exact[:1]) < 0.9


@pytest.mark.parametrize("size", SIZES, ids=["heads of 32", "heads of 64"])
def test_sums_over_many_equal_shares_do_not_overflow(kernels: Kernels, size: Size) -> None:
    """All keys score the same, and all but one have the largest value, so that sums of integers are as large as they can be."""
    ids_T, lengths = np.array([*[1] * 399, 2, *[2] * 399, 1], np.int32), [400, 400]

    def model() -> transformers.BertModel:
        made = make_model(size)
        with torch.no_grad():
            made.embeddings.position_embeddings.weight.zero_()
            made.encoder.layer[0].attention.self.key.weight.zero_()
        return made

    exact = plain_vectors(model().double(), ids_T, lengths)
    ours = make_runner(kernels, model()).token_vectors(ids_T, np.array(lengths)).double()
    assert torch.nn.functional.cosine_similarity(ours, exact).min() > 0.9995

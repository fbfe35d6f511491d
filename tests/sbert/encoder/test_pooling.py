"""Pooling by hand: two tokens and a padding token, hidden size 2."""

import math

import pytest
import torch

from sbert.encoder.pooling import Pooling, PoolingMode
from sbert.errors import ModelError

# one text of two tokens (1, 2) and (3, -4), then padding that must not count
HIDDEN = torch.tensor([[[1.0, 2.0], [3.0, -4.0], [100.0, 100.0]]])
MASK = torch.tensor([[1, 1, 0]])

EXPECTED = {
    PoolingMode.CLS: [1.0, 2.0],
    PoolingMode.LAST: [3.0, -4.0],
    PoolingMode.MAX: [3.0, 2.0],
    PoolingMode.MEAN: [2.0, -1.0],  # (1 + 3) / 2, (2 - 4) / 2
    PoolingMode.MEAN_SQRT_LEN: [4 / math.sqrt(2), -2 / math.sqrt(2)],
    PoolingMode.WEIGHTED_MEAN: [7 / 3, -6 / 3],  # (1*1 + 2*3) / 3, (1*2 + 2*-4) / 3
}


@pytest.mark.parametrize("mode", EXPECTED)
def test_each_mode_pools_as_computed_by_hand(mode: PoolingMode) -> None:
    pooled = Pooling(2, (mode,))(HIDDEN, MASK)
    torch.testing.assert_close(pooled, torch.tensor([EXPECTED[mode]]))


def test_modes_are_concatenated_in_order() -> None:
    pooling = Pooling(2, (PoolingMode.MEAN, PoolingMode.CLS))
    assert pooling.dim == 4
    torch.testing.assert_close(pooling(HIDDEN, MASK), torch.tensor([[2.0, -1.0, 1.0, 2.0]]))


def test_attention_weights_are_a_softmax_over_tokens() -> None:
    pooling = Pooling(2, (PoolingMode.ATTENTION,))
    assert pooling.query is not None
    torch.testing.assert_close(pooling(HIDDEN, MASK), torch.tensor([[2.0, -1.0]]))  # no preference: the mean
    with torch.no_grad():
        pooling.query.copy_(torch.tensor([math.log(3) / 2, 0.0]))
    # scores ln(3)/2 and 3 ln(3)/2: weights 1 / (1 + 3) and 3 / (1 + 3)
    torch.testing.assert_close(pooling(HIDDEN, MASK), torch.tensor([[0.25 + 2.25, 0.5 - 3.0]]))


@pytest.mark.parametrize("mode", [mode for mode in PoolingMode if mode is not PoolingMode.MAX])
def test_padding_alone_gives_finite_values(mode: PoolingMode) -> None:
    assert torch.isfinite(Pooling(2, (mode,))(HIDDEN, torch.zeros_like(MASK))).all()


def test_pooling_without_a_mode_is_refused() -> None:
    with pytest.raises(ModelError, match="at least one of cls"):
        Pooling(2, ())

"""Weights and sequences lie in memory as the compiled kernels read them."""

import numpy as np
import pytest
import torch

from sbert.encoder.engine.native import lay_out, lay_out_scales
from sbert.encoder.engine.packing import lay_end_to_end
from sbert.encoder.engine.weights import RoundedWeight
from tests.support.kernels import KINDS


def test_weights_are_laid_out_as_worked_by_hand() -> None:
    weight = torch.arange(64 * 96).view(64, 96)
    tiles = lay_out(weight, KINDS["amx"], 2)
    assert tiles.shape == (2, 3, 2, 16, 16, 2)
    assert tiles[1, 2, 1, 5, 7, 1] == weight[32 + 16 + 7, 64 + 2 * 5 + 1]
    pairs = lay_out(weight, KINDS["avx512_bf16"], 2)
    assert pairs.shape == (2, 48, 32, 2)
    assert pairs[1, 40, 7, 1] == weight[32 + 7, 2 * 40 + 1]
    singles = lay_out(weight, KINDS["avx2"], 1)
    assert singles.shape == (4, 96, 16, 1)
    assert singles[3, 40, 7, 0] == weight[3 * 16 + 7, 40]
    quads = lay_out(weight, KINDS["avx512_vnni"], 4)
    assert quads.shape == (2, 24, 32, 4)
    assert quads[1, 20, 7, 3] == weight[32 + 7, 4 * 20 + 3]
    pairs_of_integers = lay_out(weight, KINDS["avx512_vnni"], 2)
    assert pairs_of_integers.shape == (2, 48, 32, 2)
    assert pairs_of_integers[1, 40, 7, 1] == weight[32 + 7, 2 * 40 + 1]


def test_scales_are_laid_out_as_worked_by_hand() -> None:
    """A panel has, for each group of inputs, the scales of its outputs and then the sums of their weights times these."""
    integers = torch.zeros(64, 256, dtype=torch.int8)
    integers[32 + 7, 128:] = 3
    integers[32 + 7, 130] = -127
    scales = torch.arange(64 * 2).view(64, 2).float()
    both = lay_out_scales(RoundedWeight(integers, scales), KINDS["avx512_vnni"])
    assert both.shape == (2, 2, 2, 32)
    assert both[1, 1, 0, 7] == pytest.approx(float(scales[32 + 7, 1]) / 128**0.5)
    assert both[1, 1, 1, 7] == pytest.approx((127 * 3 - 127) * float(scales[32 + 7, 1]) / 128**0.5)
    assert both[1, 0, 0, 7] == pytest.approx(float(scales[32 + 7, 0]) / 128**0.5)
    assert both[1, 0, 1, 7] == 0
    words = lay_out_scales(RoundedWeight(integers.to(torch.int16), scales), KINDS["avx512_vnni"])
    torch.testing.assert_close(
        words[:, :, 0], both[:, :, 0] * 255 / 4095
    )  # inputs have steps that are smaller by as much
    assert torch.equal(words[:, :, 1], both[:, :, 1])


def test_sequences_are_laid_end_to_end() -> None:
    begins, lengths, numbers = np.array([0, 3, 10, 10, 30]), np.array([3, 7, 0, 20, 1]), np.array([9, 8, 7, 6, 5])
    batches = list(lay_end_to_end(begins, lengths, numbers, 10))
    assert [batch.sequences.tolist() for batch in batches] == [[6], [8, 9], [5, 7]]
    assert batches[1].tokens.tolist() == [*range(3, 10), *range(3)]
    assert batches[1].positions.tolist() == [*range(7), *range(3)]
    assert batches[2].owner.tolist() == [0]
    assert list(lay_end_to_end(begins[:0], lengths[:0], numbers[:0], 10)) == []

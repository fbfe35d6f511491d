"""Rounding to 8-bit integers: errors are at most half a step, and products of the integers are exact."""

from dataclasses import replace

import pytest
import torch
import transformers

from sbert.encoder.engine import rounding
from sbert.encoder.engine.integer_linear import IntegerLinear, make_linears
from sbert.encoder.engine.linear import make_linear
from sbert.encoder.engine.rounding import GROUP, round_inputs, round_layers, why_no_rounding
from sbert.encoder.engine.weights import EncoderWeights, RoundedWeight, read_weights

OUTPUTS, INPUTS, TOKENS = 96, 384, 50


def random_values(*shape: int, seed: int = 0) -> torch.Tensor:
    return torch.randn(*shape, generator=torch.Generator().manual_seed(seed))


def weights_of(hidden: int = 128, inner: int = 256) -> EncoderWeights:
    torch.manual_seed(0)
    config = transformers.BertConfig(
        vocab_size=50, hidden_size=hidden, num_attention_heads=hidden // 32, intermediate_size=inner, num_hidden_layers=2,
        initializer_range=0.3,
    )  # fmt: skip
    weights = read_weights(transformers.BertModel(config, add_pooling_layer=False))
    assert weights is not None
    return weights


def restored(weight: RoundedWeight) -> torch.Tensor:
    """The values that a rounded weight stands for, rotated, in float64."""
    integers_OGV = weight.integers_OI.double().view(len(weight.integers_OI), -1, GROUP)
    return integers_OGV * weight.scales_OG.double()[:, :, None]


def restored_inputs(x_TI: torch.Tensor) -> torch.Tensor:
    """The values that rounded inputs stand for, rotated, in float64."""
    integers_TGV, scales_TG1, least_TG1 = (each.double() for each in round_inputs(x_TI))
    return integers_TGV * scales_TG1 + least_TG1


def test_the_rotation_is_orthogonal_and_its_own_inverse() -> None:
    matrix = rounding._rotation()
    assert matrix.shape == (GROUP, GROUP)
    assert torch.equal(matrix, matrix.T)
    torch.testing.assert_close(
        matrix.double() @ matrix.double(), torch.eye(GROUP, dtype=torch.float64), atol=1e-6, rtol=0
    )
    torch.testing.assert_close(matrix.abs(), torch.full_like(matrix, GROUP**-0.5))
    x = random_values(7, 2 * GROUP)
    torch.testing.assert_close(
        rounding._rotate(rounding._rotate(x).reshape(x.shape)).reshape(x.shape), x, atol=1e-5, rtol=0
    )


def test_the_rotation_is_that_of_sylvester() -> None:
    """Entry (i, j) is negative when i and j share an odd number of ones in binary. The kernels rotate step by step."""
    signs = [[(-1) ** (i & j).bit_count() for j in range(GROUP)] for i in range(GROUP)]
    assert torch.equal(rounding._rotation().sign(), torch.tensor(signs).float())


def test_a_rounded_weight_is_off_by_at_most_half_a_step() -> None:
    weight = random_values(OUTPUTS, INPUTS)
    rounded = rounding._round_weight(weight)
    assert rounded.integers_OI.dtype == torch.int8
    assert rounded.scales_OG.shape == (OUTPUTS, INPUTS // GROUP)
    largest = rounded.integers_OI.view(OUTPUTS, -1, GROUP).abs().amax(2)
    assert torch.equal(largest, torch.full_like(largest, 127))  # no step is larger than it must be
    errors_OGV = (restored(rounded) - rounding._rotate(weight)).abs()
    assert (errors_OGV <= 0.5001 * rounded.scales_OG[:, :, None]).all()
    assert errors_OGV.max() > 0.49 * rounded.scales_OG.min()


def test_the_weights_of_values_have_12_bits() -> None:
    weights = weights_of()
    value_OI = weights.layers[0].qkv[0][2 * 128 :]
    rounded = round_layers(weights)[0].values
    assert rounded.integers_OI.dtype == torch.int16
    largest = rounded.integers_OI.view(128, -1, GROUP).abs().amax(2)
    assert torch.equal(largest, torch.full_like(largest, 2047))
    errors_OGV = (restored(rounded) - rounding._rotate(value_OI)).abs()
    assert (errors_OGV <= 0.5001 * rounded.scales_OG[:, :, None]).all()


def test_a_rounded_input_is_off_by_at_most_half_a_step() -> None:
    x = random_values(TOKENS, INPUTS)
    integers_TGV, scales_TG1, least_TG1 = round_inputs(x)
    assert torch.equal(integers_TGV, integers_TGV.round())
    assert integers_TGV.amin(2).unique().tolist() == [0]
    assert integers_TGV.amax(2).unique().tolist() == [255]
    assert torch.equal(least_TG1, rounding._rotate(x).amin(2, keepdim=True))
    assert ((restored_inputs(x) - rounding._rotate(x)).abs() <= 0.5001 * scales_TG1).all()


@pytest.mark.parametrize("value", [0.0, 3.0, -3.0])
def test_inputs_and_weights_that_are_all_equal_are_exact(value: float) -> None:
    """A rotation makes equal values of one value in the first place. Their scale is 0, or all of them are the largest."""
    x = torch.zeros(2, 2 * GROUP)
    x[:, 0] = value
    torch.testing.assert_close(restored_inputs(x).float(), rounding._rotate(x), atol=1e-6, rtol=0)
    rounded = rounding._round_weight(x)
    torch.testing.assert_close(restored(rounded).float(), rounding._rotate(x), atol=1e-6, rtol=0)
    assert torch.equal(IntegerLinear(rounded, torch.ones(2))(torch.zeros(3, 2 * GROUP)), torch.ones(3, 2))
    product = IntegerLinear(rounded, torch.ones(2))(x)
    torch.testing.assert_close(product, torch.full((2, 2), 1 + value * value), atol=1e-4, rtol=0)


def test_products_of_integers_are_those_of_int64() -> None:
    """Also in any order, since every sum is a whole number that float32 holds."""
    integers_TV = round_inputs(random_values(TOKENS, GROUP))[0][:, 0]
    integers_OV = rounding._round_weight(random_values(OUTPUTS, GROUP, seed=1)).integers_OI
    products = integers_TV @ integers_OV.float().T
    assert torch.equal(products.long(), integers_TV.long() @ integers_OV.long().T)
    assert torch.equal(products, integers_TV.flip(1) @ integers_OV.float().flip(1).T)


def test_float32_holds_the_largest_product_of_a_group_exactly() -> None:
    assert rounding.LARGEST_INPUT * rounding.LARGEST_WEIGHT * GROUP < 2**24
    integers_V, weights_V = torch.full((GROUP,), 255.0), torch.full((GROUP,), 127.0)
    for sign in (1, -1):
        for last in (255, 254, 1):
            integers_V[-1] = last
            exact = sign * int((integers_V.long() * weights_V.long()).sum())
            assert int(torch.cumsum(sign * integers_V * weights_V, 0)[-1]) == exact
            assert int((integers_V[None] @ (sign * weights_V)[:, None]).item()) == exact


def test_an_integer_layer_computes_what_is_worked_out_by_hand() -> None:
    x, weight, bias = (
        random_values(TOKENS, INPUTS),
        random_values(OUTPUTS, INPUTS, seed=1),
        random_values(OUTPUTS, seed=2),
    )
    rounded = rounding._round_weight(weight)
    by_hand = torch.einsum("tgv,ogv->to", restored_inputs(x), restored(rounded)) + bias.double()
    ours = IntegerLinear(rounded, bias)(x)
    assert ours.dtype == torch.float32
    torch.testing.assert_close(ours.double(), by_hand, atol=1e-4, rtol=0)
    of_bfloat16 = IntegerLinear(rounded, bias.bfloat16())(x.bfloat16())
    assert of_bfloat16.dtype == torch.bfloat16


def test_an_integer_layer_is_close_to_the_plain_one() -> None:
    """The relative error is below one hundredth: inputs and weights have about 8 bits each."""
    x, weight, bias = (
        random_values(TOKENS, INPUTS),
        random_values(OUTPUTS, INPUTS, seed=1),
        random_values(OUTPUTS, seed=2),
    )
    exact = x @ weight.T + bias
    errors = IntegerLinear(rounding._round_weight(weight), bias)(x) - exact
    assert errors.square().mean().sqrt() <= 0.01 * exact.square().mean().sqrt()
    residual = random_values(TOKENS, OUTPUTS, seed=3)
    layer = IntegerLinear(rounding._round_weight(weight), bias)
    torch.testing.assert_close(layer.added(x, residual), layer(x) + residual)
    torch.testing.assert_close(layer.activated(x, "relu"), layer(x).relu())


@pytest.mark.parametrize("where", ["inputs", "weights"])
def test_a_huge_value_does_not_destroy_the_others_of_its_group(where: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """Without a rotation the step between two integers is nearly as large as a usual value."""
    x = random_values(TOKENS, GROUP)
    x[:, 5] = 100
    others = torch.arange(GROUP) != 5

    def error() -> float:
        rotated_TGV = restored_inputs(x) if where == "inputs" else restored(rounding._round_weight(x))
        errors_TV = rounding._rotate(rotated_TGV.float().flatten(1))[:, 0] - x
        return float(errors_TV[:, others].square().mean().sqrt())  # the others are 1 on average

    rotated = error()
    monkeypatch.setattr(rounding, "_rotation", lambda: torch.eye(GROUP))
    assert rotated <= 0.04
    assert error() >= 3 * rotated


def test_the_layers_of_an_encoder_are_rounded_but_for_values() -> None:
    weights = weights_of()
    layer = weights.layers[0]
    rounded, _ = round_layers(weights)
    weight_OI, bias_O = layer.qkv
    pairs = (
        (rounded.query_key, weight_OI[:256]),
        (rounded.out, layer.out[0]),
        (rounded.up, layer.up[0]),
        (rounded.down, layer.down[0]),
    )
    for made, weight in pairs:
        expected = rounding._round_weight(weight)
        assert torch.equal(made.integers_OI, expected.integers_OI)
        assert torch.equal(made.scales_OG, expected.scales_OG)
    x = random_values(TOKENS, 128)
    with torch.inference_mode():
        joined, plain = make_linears(layer, rounded)[0](x), make_linears(layer, None)[0](x)
        torch.testing.assert_close(joined[:, 256:], make_linear(weight_OI[256:], bias_O[256:])(x))
        assert torch.equal(joined[:, :256], IntegerLinear(rounded.query_key, bias_O[:256])(x))
    assert not torch.equal(joined[:, :256], plain[:, :256])


def test_sizes_that_are_no_multiple_of_a_group_have_a_reason() -> None:
    assert why_no_rounding(weights_of()) is None
    assert why_no_rounding(weights_of(hidden=160)) == "layers of 160 values are no multiple of 128"
    assert why_no_rounding(weights_of(inner=320)) == "layers of 320 values are no multiple of 128"
    weights = weights_of()
    odd = replace(weights.layers[1], up=(torch.zeros(300, 128), torch.zeros(300)))
    assert (
        why_no_rounding(replace(weights, layers=[weights.layers[0], odd]))
        == "layers of 300 values are no multiple of 128"
    )

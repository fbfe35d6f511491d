"""The compiled kernels give what torch gives, whatever the sizes and whatever shares a batch."""

import logging
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch
import transformers

from sbert.encoder.engine import compiled
from sbert.encoder.engine.compiled import Kernels, load_kernels
from sbert.encoder.engine.dtype import ComputeDtype
from sbert.encoder.engine.kernel_targets import ALL_UNITS, NATIVE_VARIABLE, ProcessorUnits
from sbert.encoder.engine.native import NativeRunner, why_kernels_cannot
from sbert.encoder.engine.rounding import round_layers
from sbert.encoder.engine.runner_selection import run_all
from sbert.encoder.engine.weights import read_weights
from sbert.encoder.pooling import Pooling, PoolingMode
from sbert.encoder.sentence_encoder import SentenceEncoder
from tests.support.kernels import (
    KINDS,
    PLACES,
    VOCABULARY,
    Size,
    compiler_that_knows,
    fitting,
    make_model,
    make_runner,
    packed_vectors,
    plain_vectors,
    random_ids,
    reference_vectors,
    type_of_kernels,
    weights_in,
)
from tests.support.tiny_models import tiny_encoder, tiny_tokenizer

LENGTHS = {
    "one token": [1],
    "longest": [512],
    "around tiles": [3, 15, 16, 17, 31, 32, 33, 47, 48, 49],
    "around chunks of keys": [63, 64, 65, 127, 128, 129, 191, 193],
    "empty ones between": [0, 5, 0, 0, 9, 0],
    "more than a group": [200, 200, 112, 1, 511, 2, *range(1, 60, 9)],
}
SIZES: list[Size] = [
    (32, 1, 64, 2), (128, 4, 544, 2), (384, 12, 1536, 1), (128, 2, 256, 2), (256, 4, 896, 2), (768, 12, 3072, 1)
]  # fmt: skip


@pytest.mark.parametrize("units", ALL_UNITS, ids=KINDS)
def test_the_sources_compile(units: ProcessorUnits, tmp_path: Path) -> None:
    """Also where the processor cannot run them."""
    compiled._compile(compiled.read_sources(), compiler_that_knows(units), units, tmp_path / "kernels.so")
    assert (tmp_path / "kernels.so").stat().st_size > 10_000


def check_token_vectors(
    kernels: Kernels, size: Size, lengths: list[int], activation: str = "gelu", sharpness: float = 1.0
) -> None:
    """In float32 they are equal but for the order of sums; in other types as near to the exact ones as torch's.

    The values are those of a layer norm, up to 5: 2e-5 is 4e-6 of the largest. Sharp attention multiplies errors, torch's too.
    """
    dtype = type_of_kernels(kernels)
    exact = reference_vectors(None, size, tuple(lengths), activation, sharpness)
    torchs = reference_vectors(dtype, size, tuple(lengths), activation, sharpness)
    runner = make_runner(kernels, make_model(size, activation, sharpness))
    ours = runner.token_vectors(random_ids(lengths), np.array(lengths)).double()
    assert ours.shape == exact.shape
    if dtype is ComputeDtype.FLOAT32:
        assert (ours - exact).abs().max() <= max(2e-5, 2 * float((torchs - exact).abs().max()))
        return
    check_errors(dtype, ours - exact, torchs - exact)


def check_errors(dtype: ComputeDtype, ours_TH: torch.Tensor, torchs_TH: torch.Tensor) -> None:
    """Our errors are no larger than torch's, or a little larger in integers: torch does not round what attention multiplies.

    Integers fall otherwise where a value lies between two: chance, in few tokens.
    """
    most = 1.1
    if dtype is ComputeDtype.INT8:
        most = 1.3 if len(ours_TH) < 50 else 1.2
    assert ours_TH.square().mean().sqrt() <= most * torchs_TH.square().mean().sqrt()
    assert ours_TH.abs().max() <= 1.5 * torchs_TH.abs().max()


@pytest.mark.parametrize("lengths", LENGTHS.values(), ids=LENGTHS)
@pytest.mark.parametrize("size", SIZES, ids=str)
def test_token_vectors_are_those_of_torch(kernels: Kernels, size: Size, lengths: list[int]) -> None:
    check_token_vectors(kernels, fitting(kernels, size), lengths)


@pytest.mark.parametrize("sharpness", [4.0, 16.0])
@pytest.mark.parametrize("activation", ["gelu", "relu"])
@pytest.mark.parametrize("size", [SIZES[2], (768, 12, 3072, 1)], ids=["heads of 32", "heads of 64"])
def test_attention_that_is_sharp_gives_the_token_vectors_of_torch(
    kernels: Kernels, size: Size, sharpness: float, activation: str
) -> None:
    check_token_vectors(kernels, size, [300, 64, 7], activation, sharpness)


def test_groups_of_equal_values_and_weights_of_zero_give_the_token_vectors_of_torch(kernels: Kernels) -> None:
    """Integers of such groups have the scale 0."""
    lengths, dtype = [70, 9], type_of_kernels(kernels)
    ids_T = random_ids(lengths)

    def model() -> transformers.BertModel:
        made = make_model((256, 4, 384, 2))
        with torch.no_grad():
            made.embeddings.LayerNorm.weight[:128] = made.embeddings.LayerNorm.bias[:128] = 0
            for layer in made.encoder.layer:
                for norm in (layer.attention.output.LayerNorm, layer.output.LayerNorm):
                    norm.weight[128:] = norm.bias[128:] = 0
                    norm.bias[128] = 2  # a rotation makes equal values of one
                layer.attention.self.query.weight[5] = layer.output.dense.weight[3] = 0
                layer.intermediate.dense.weight[:128] = layer.intermediate.dense.bias[:128] = 0
        return made

    exact = plain_vectors(model().double(), ids_T, lengths)
    torchs = packed_vectors(weights_in(dtype, model()), ids_T, lengths)
    ours = make_runner(kernels, model()).token_vectors(ids_T, np.array(lengths)).double()
    if dtype is ComputeDtype.FLOAT32:
        assert (ours - exact).abs().max() <= 2e-5
    else:
        check_errors(dtype, ours - exact, torchs - exact)


@pytest.mark.parametrize("value", [torch.nan, torch.inf], ids=["nan", "infinity"])
@pytest.mark.parametrize(
    "name",
    [
        "embeddings.word_embeddings",
        *(f"encoder.layer.0.attention.self.{part}" for part in ("query", "key", "value")),
        *(f"encoder.layer.0.{part}.dense" for part in ("attention.output", "intermediate", "output")),
        "encoder.layer.0.attention.output.LayerNorm",
    ],
)
@pytest.mark.parametrize("activation", ["gelu", "relu"])
def test_what_is_not_finite_stays_so(kernels: Kernels, name: str, value: float, activation: str) -> None:
    """A broken weight must not give vectors that look right: `check_vectors` could not find it."""
    ids_T, lengths = np.array([1, 5, 9, 2, 5, 1, 3], np.int32), [4, 3]

    def model() -> transformers.BertModel:
        made = make_model((128, 4, 256, 1), activation)
        with torch.no_grad():
            made.get_parameter(f"{name}.weight")[
                (5, 3) if name != "encoder.layer.0.attention.output.LayerNorm" else 3
            ] = value
        return made

    exact = plain_vectors(model().double(), ids_T, lengths)
    assert not exact.isfinite().all()
    ours = make_runner(kernels, model()).token_vectors(ids_T, np.array(lengths))
    assert not (ours.isfinite() & ~exact.isfinite()).any()


@pytest.mark.parametrize("value", [1e20, 1e30])
def test_a_variance_that_float32_cannot_hold_gives_no_vectors_that_look_right(kernels: Kernels, value: float) -> None:
    model = make_model((128, 4, 256, 1))
    with torch.no_grad():
        model.encoder.layer[0].attention.output.LayerNorm.bias[3] = value
    ours = make_runner(kernels, model).token_vectors(np.array([1, 5, 9, 2], np.int32), np.array([4]))
    assert not ours.isfinite().any()


@pytest.mark.parametrize("sharpness", [1.0, 8.0])
def test_kernels_give_the_same_bits_whatever_the_batch_mates(kernels: Kernels, sharpness: float) -> None:
    lengths = [1, 17, 200, 64, 5, 90, 33, 500, 8]
    ids_T = random_ids(lengths)
    runner = make_runner(kernels, make_model(SIZES[2], sharpness=sharpness))
    together = runner.token_vectors(ids_T, np.array(lengths)).split(lengths)
    for ids, length, vectors in zip(np.split(ids_T, np.cumsum(lengths)[:-1]), lengths, together, strict=True):
        assert torch.equal(runner.token_vectors(ids, np.array([length])), vectors)


@pytest.mark.parametrize("num_threads", [2, 3, 12])
def test_a_team_of_threads_gives_the_bits_of_one(kernels: Kernels, num_threads: int) -> None:
    lengths = [300, 40, 9, 1, 0]
    runner, ids_T = make_runner(kernels, make_model(SIZES[2])), random_ids(lengths)
    before = torch.get_num_threads()
    try:
        torch.set_num_threads(1)
        alone = runner.token_vectors(ids_T, np.array(lengths)), runner.means(ids_T, np.array(lengths))
        torch.set_num_threads(num_threads)
        together = runner.token_vectors(ids_T, np.array(lengths)), runner.means(ids_T, np.array(lengths))
    finally:
        torch.set_num_threads(before)
    assert all(torch.equal(left, right) for left, right in zip(alone, together, strict=True))


def test_threads_do_not_disturb_each_other(kernels: Kernels) -> None:
    lengths = [40, 100, 7]
    runner = make_runner(kernels, make_model(SIZES[2]))
    inputs = [np.roll(random_ids(lengths), shift) for shift in range(24)]
    alone = [runner.token_vectors(ids_T, np.array(lengths)) for ids_T in inputs]
    with ThreadPoolExecutor(4) as pool:
        together = list(pool.map(lambda ids_T: runner.token_vectors(ids_T, np.array(lengths)), inputs))
    assert all(torch.equal(left, right) for left, right in zip(alone, together, strict=True))


def test_ids_and_lengths_out_of_range_are_refused(kernels: Kernels) -> None:
    size = fitting(kernels, SIZES[0])
    runner = make_runner(kernels, make_model(size))
    for wrong in (VOCABULARY, -1):
        with pytest.raises(IndexError, match="not in the vocabulary"):
            runner.token_vectors(np.array([1, wrong, 2]), np.array([3]))
    with pytest.raises(IndexError, match="longer than the encoder has positions for"):
        runner.token_vectors(np.ones(PLACES + 1), np.array([PLACES + 1]))
    assert runner.token_vectors(np.zeros(0), np.zeros(0)).shape == (0, size[0])
    assert runner.token_vectors(np.zeros(0), np.zeros(3)).shape == (0, size[0])


def test_encode_takes_the_kernels_and_gives_the_vectors_of_float32(kernels: Kernels) -> None:
    dtype = type_of_kernels(kernels)
    texts = ["", "red", "the cat sat on the mat " * 30, *(f"train {number} to hamburg" for number in range(100)), " "]
    native = SentenceEncoder.from_pretrained(compute_dtype=dtype, device="cpu")
    assert native.selected_runner.name == "native"
    plain = SentenceEncoder.from_pretrained(compute_dtype=ComputeDtype.FLOAT32, device="cpu")
    exact = run_all(plain.plain_runner(), plain.tokenize(texts), plain.dim, 1_000)
    vectors = native.encode(texts)
    assert (vectors * exact).sum(axis=1).min() > 0.999
    if dtype is ComputeDtype.FLOAT32:
        np.testing.assert_allclose(vectors, exact, atol=1e-6)
    np.testing.assert_allclose(native.encode(texts[::-1], token_budget=100)[::-1], vectors, atol=1e-6)


@pytest.mark.parametrize("skipped", [0, 3])
def test_means_are_those_of_the_token_vectors(kernels: Kernels, skipped: int) -> None:
    lengths = [0, 9, 300, 1, 0, 250, 3, 0]
    ids_T = random_ids(lengths)
    size = fitting(kernels, SIZES[0])
    runner = make_runner(kernels, make_model(size))
    vectors = runner.token_vectors(ids_T, np.array(lengths)).float().split(lengths)
    expected = [part[skipped:].mean(0) if len(part) > skipped else torch.zeros(size[0]) for part in vectors]
    torch.testing.assert_close(runner.means(ids_T, np.array(lengths), skipped), torch.stack(expected))


@pytest.mark.parametrize(
    "modes", [(PoolingMode.MEAN,), (PoolingMode.CLS,), (PoolingMode.MAX, PoolingMode.LAST), (PoolingMode.ATTENTION,)]
)
def test_every_pooling_that_leaves_the_prompt_out_gives_the_vectors_of_torch(
    kernels: Kernels, modes: tuple[PoolingMode, ...]
) -> None:
    size = fitting(kernels, SIZES[0])
    encoder = SentenceEncoder(
        make_model(size), tiny_tokenizer(), Pooling(size[0], modes, include_prompt=False), max_seq_length=60,
        compute_dtype=type_of_kernels(kernels), device="cpu",
    )  # fmt: skip
    assert encoder.selected_runner.name == "native"
    packed = encoder.packed_runner()
    assert packed is not None
    tokens = encoder.tokenize(["red", "", "green blue " * 40, "one two three"], prompt="train: ")
    sequences = np.arange(4)
    vectors = []
    with torch.inference_mode():
        for runner in (packed, encoder.selected_runner.runner):
            (batch,) = runner.cut(tokens, sequences, 1_000)
            vectors.append(runner.run(tokens, batch)[torch.from_numpy(np.argsort(batch.sequences))])
    torch.testing.assert_close(*vectors, atol=0.1, rtol=0.05)


@pytest.mark.parametrize("kernels", ["avx2"], indirect=True)
def test_wrong_kernels_are_not_used(
    kernels: Kernels, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    run = NativeRunner.run
    monkeypatch.setattr(NativeRunner, "run", lambda self, tokens, batch: run(self, tokens, batch).roll(1, dims=1))
    with caplog.at_level(logging.WARNING, logger="sbert.encoder.engine.runner_selection"):
        runner = SentenceEncoder.from_pretrained(compute_dtype=type_of_kernels(kernels), device="cpu").selected_runner
    assert runner.name == "packed"
    assert "the native runner gives other vectors" in caplog.text
    assert "not native (it failed the probe" in runner.reason


def test_kernels_are_not_used_when_turned_off(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv(NATIVE_VARIABLE, "0")
    runner = SentenceEncoder.from_pretrained(compute_dtype=ComputeDtype.BFLOAT16, device="cpu").selected_runner
    assert runner.name == "packed"
    assert load_kernels(ComputeDtype.BFLOAT16).library is None
    assert "not native (turned off by SBERT_NATIVE=0)" in runner.reason


@pytest.mark.parametrize(
    ("kind", "dtype", "reason"),
    [
        ("bert", torch.float16, "it computes in float16"),
        ("bert", torch.bfloat16, "its heads have 8 values"),
        ("mpnet", torch.bfloat16, "it has relative positions"),
    ],
)
def test_other_encoders_are_left_to_torch(kind: str, dtype: torch.dtype, reason: str) -> None:
    weights = read_weights(tiny_encoder(kind).transformer.to(dtype))
    assert weights is not None
    assert why_kernels_cannot(weights) == reason


def test_integers_need_values_in_float32() -> None:
    weights = read_weights(make_model((128, 4, 128, 1)))
    assert weights is not None
    rounded = replace(weights, rounded=round_layers(weights))
    assert why_kernels_cannot(rounded) is None
    assert why_kernels_cannot(replace(rounded, words=rounded.words.bfloat16())) == "its values are not float32"

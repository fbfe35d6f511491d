"""The compiled kernels give what torch gives, whatever the sizes and whatever shares a batch."""

import ctypes
import functools
import logging
import os
import subprocess
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch
import transformers
from torch import nn

from sbert.encoder.engine import compiled
from sbert.encoder.engine import kernel_targets as units_of_processors
from sbert.encoder.engine.compiled import Kernels, load_kernels
from sbert.encoder.engine.dtype import ComputeDtype
from sbert.encoder.engine.kernel_targets import ALL_UNITS, NATIVE_VARIABLE, ProcessorUnits
from sbert.encoder.engine.native import NativeRunner, lay_out, lay_out_scales, why_kernels_cannot
from sbert.encoder.engine.packed import PackedRunner
from sbert.encoder.engine.packing import lay_end_to_end
from sbert.encoder.engine.rounding import GROUP, round_layers
from sbert.encoder.engine.runner_selection import run_all
from sbert.encoder.engine.weights import EncoderWeights, RoundedWeight, read_weights
from sbert.encoder.pooling import Pooling, PoolingMode
from sbert.encoder.sentence_encoder import SentenceEncoder
from sbert.encoder.tokenization.token_ids import TokenizedTexts
from sbert.runtime.compiler import find_compiler
from sbert.runtime.hardware import cpu_features, has_units
from tests.support.tiny_models import tiny_encoder, tiny_tokenizer

VOCABULARY, PLACES = 200, 512
EMULATION = Path(__file__).with_name("emulated_tiles.h")
LENGTHS = {
    "one token": [1],
    "longest": [512],
    "around tiles": [3, 15, 16, 17, 31, 32, 33, 47, 48, 49],
    "around chunks of keys": [63, 64, 65, 127, 128, 129, 191, 193],
    "empty ones between": [0, 5, 0, 0, 9, 0],
    "more than a group": [200, 200, 112, 1, 511, 2, *range(1, 60, 9)],
}
Size = tuple[int, int, int, int]
"""Values, heads, values of intermediate layers, layers."""
SIZES: list[Size] = [
    (32, 1, 64, 2), (128, 4, 544, 2), (384, 12, 1536, 1), (128, 2, 256, 2), (256, 4, 896, 2), (768, 12, 3072, 1)
]  # fmt: skip


KINDS = {units.name: units for units in ALL_UNITS}


@pytest.fixture(scope="module", params=KINDS)
def kernels(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Kernels]:
    """The kernels of every kind that this processor can run; those for AMX with emulated tile instructions, where it has none."""
    units = KINDS[request.param]
    if os.environ.get(NATIVE_VARIABLE) == "0":
        pytest.skip(f"the kernels are turned off by {NATIVE_VARIABLE}=0: unset it to test them")
    compiler = compiler_that_knows(units)
    emulated = units.has_tiles and not has_units("amx") and cpu_features()["avx512_bf16"]
    if not emulated and not has_units(units.name):
        pytest.skip(
            f"no kernels to run: this processor has no {units.needs}. Run on an x86-64 processor that has it; here the same "
            "encoders are computed in other ways, which other tests cover"
        )
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(units_of_processors, "has_units", lambda name: name == units.name)
        if emulated:
            library = emulated_kernels(compiler, units, tmp_path_factory.mktemp("emulated") / "kernels.so")
            patch.setattr(compiled, "_load", lambda _: Kernels(library, "emulated", units))
        loaded = load_kernels(units.dtype)
        assert loaded.units is units, loaded.reason
        yield loaded


def emulated_kernels(compiler: list[str], units: ProcessorUnits, file: Path) -> ctypes.CDLL:
    sources = compiled.read_sources()
    include = "#include <immintrin.h>\n"
    assert include in sources["registers.h"]
    sources["registers.h"] = sources["registers.h"].replace(include, f'{include}#include "{EMULATION.name}"\n')
    compiled._compile({**sources, EMULATION.name: EMULATION.read_text()}, compiler, units, file)
    library = ctypes.CDLL(str(file))
    library.sbert_encode.restype = ctypes.c_int32
    return library


def compiler_that_knows(units: ProcessorUnits) -> list[str]:
    """Return the command of a compiler that knows a processor's units, or skip the test.

    The compiler is asked about AMX with an option of its own. If the kernels' options were wrong, tests must fail.
    """
    compiler = find_compiler()
    asked = ["-mamx-bf16", "-E", "-x", "c++", "-", "-o", os.devnull]
    if compiler is None or (
        units.has_tiles and subprocess.run([*compiler, *asked], input=b"", capture_output=True, check=False).returncode
    ):
        pytest.skip(
            f"there is no C++ compiler that knows {units.needs}: install GCC 11, Clang 12 or later, or name one in CXX"
        )
    return compiler


@pytest.mark.parametrize("units", ALL_UNITS, ids=KINDS)
def test_the_sources_compile(units: ProcessorUnits, tmp_path: Path) -> None:
    """Also where the processor cannot run them."""
    compiled._compile(compiled.read_sources(), compiler_that_knows(units), units, tmp_path / "kernels.so")
    assert (tmp_path / "kernels.so").stat().st_size > 10_000


def fitting(kernels: Kernels, size: Size) -> Size:
    """Return the size, or the next one that the kernels can compute: integers come in groups of 128."""
    hidden, heads, inner, layers = size
    if type_of_kernels(kernels) is not ComputeDtype.INT8:
        return size
    up = -hidden % GROUP + hidden
    return up, up * heads // hidden, -inner % GROUP + inner, layers


def make_model(size: Size, activation: str = "gelu", sharpness: float = 1.0) -> transformers.BertModel:
    """A random BERT whose weights are bfloat16 numbers; sharper ones look at few tokens."""
    hidden, heads, inner, layers = size
    torch.manual_seed(hidden + inner)
    config = transformers.BertConfig(
        vocab_size=VOCABULARY, hidden_size=hidden, num_attention_heads=heads, intermediate_size=inner,
        num_hidden_layers=layers, max_position_embeddings=PLACES, hidden_act=activation, pad_token_id=0,
        attn_implementation="eager",
    )  # fmt: skip
    model = transformers.BertModel(config, add_pooling_layer=False).eval()
    with torch.no_grad():
        for name, parameter in model.named_parameters():
            if "LayerNorm" not in name:
                parameter.copy_(torch.randn_like(parameter) / hidden**0.5)
            if "query" in name or "key" in name:
                parameter.mul_(sharpness)
            parameter.copy_(parameter.bfloat16())
    return model


def type_of_kernels(kernels: Kernels) -> ComputeDtype:
    assert kernels.units is not None
    return kernels.units.dtype


def weights_in(dtype: ComputeDtype, model: transformers.BertModel) -> EncoderWeights:
    """Return the weights of a float32 model in a type; those of int8 are rounded, and its values are bfloat16."""
    plain = read_weights(model)
    assert plain is not None
    is_float32 = dtype is ComputeDtype.FLOAT32
    weights = read_weights(model if is_float32 else model.to(torch.bfloat16))
    assert weights is not None
    return replace(weights, rounded=round_layers(plain) if dtype is ComputeDtype.INT8 else None)


def make_runner(kernels: Kernels, model: transformers.BertModel) -> NativeRunner:
    weights = weights_in(type_of_kernels(kernels), model)
    assert why_kernels_cannot(weights) is None
    return NativeRunner(kernels, weights, Pooling(model.config.hidden_size, (PoolingMode.MEAN,)), nn.ModuleList())


def random_ids(lengths: list[int]) -> np.ndarray:
    return np.random.default_rng(sum(lengths)).integers(1, VOCABULARY, sum(lengths)).astype(np.int32)


def plain_vectors(model: transformers.BertModel, ids_T: np.ndarray, lengths: list[int]) -> torch.Tensor:
    """Token vectors, sequence by sequence."""
    with torch.inference_mode():
        parts = torch.from_numpy(ids_T.astype(np.int64)).split(lengths)
        return torch.cat([model(input_ids=part[None]).last_hidden_state[0].double() for part in parts if len(part)])


class KeptTokens(Pooling):
    """Keeps the token vectors that it is given."""

    def pool_tokens(
        self, x_TH: torch.Tensor, owner_T: torch.Tensor, positions_T: torch.Tensor, num: int
    ) -> torch.Tensor:
        self.kept = x_TH.double()
        return torch.zeros(num, x_TH.shape[1])


def packed_vectors(weights: EncoderWeights, ids_T: np.ndarray, lengths: list[int]) -> torch.Tensor:
    """Token vectors from the runner that computes through torch, sequence by sequence."""
    pooling = KeptTokens(weights.words.shape[1], (PoolingMode.MEAN,))
    runner = PackedRunner(weights, pooling, nn.ModuleList(), pad_id=0, device=weights.words.device)
    parts: list[torch.Tensor] = []
    for ids in np.split(ids_T, np.cumsum(lengths)[:-1]):
        tokens = TokenizedTexts(
            ids, np.array([0, len(ids)]), np.zeros(1, np.int64), np.array([len(ids)], np.int32), np.zeros(1, np.bool_)
        )
        for batch in runner.cut(tokens, np.arange(1), PLACES) if len(ids) else []:
            with torch.inference_mode():
                runner.run(tokens, batch)
            is_token, vectors_LH = batch.tokens >= 0, torch.empty(len(ids), pooling.dim, dtype=torch.float64)
            vectors_LH[batch.tokens[is_token]] = pooling.kept[torch.from_numpy(is_token)]
            parts.append(vectors_LH)
    return torch.cat(parts)


@functools.cache
def reference_vectors(
    dtype: ComputeDtype | None, size: Size, lengths: tuple[int, ...], activation: str = "gelu", sharpness: float = 1.0
) -> torch.Tensor:
    """Token vectors from torch in a type, or the exact ones without one. They are kept for the kernels of all kinds."""
    ids_T, model = random_ids(list(lengths)), make_model(size, activation, sharpness)
    if dtype is ComputeDtype.INT8:
        return packed_vectors(weights_in(dtype, model), ids_T, list(lengths))
    return plain_vectors(
        model.to(torch.float64 if dtype is None else getattr(torch, dtype.value)), ids_T, list(lengths)
    )


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
    """Our errors are no larger than torch's. Integers fall otherwise where a value lies between two: chance, in few tokens."""
    most = 1.3 if dtype is ComputeDtype.INT8 and len(ours_TH) < 50 else 1.1
    assert ours_TH.square().mean().sqrt() <= most * torchs_TH.square().mean().sqrt()
    assert ours_TH.abs().max() <= 1.5 * torchs_TH.abs().max()


@pytest.mark.parametrize("lengths", LENGTHS.values(), ids=LENGTHS)
@pytest.mark.parametrize("size", SIZES, ids=str)
def test_token_vectors_are_those_of_torch(kernels: Kernels, size: Size, lengths: list[int]) -> None:
    check_token_vectors(kernels, fitting(kernels, size), lengths)


@pytest.mark.parametrize("sharpness", [4.0, 16.0])
@pytest.mark.parametrize("activation", ["gelu", "relu"])
def test_attention_that_is_sharp_gives_the_token_vectors_of_torch(
    kernels: Kernels, sharpness: float, activation: str
) -> None:
    check_token_vectors(kernels, SIZES[2], [300, 64, 7], activation, sharpness)


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
    ids_T, lengths = np.array([1, 5, 9, 2], np.int32), [4]

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


def test_integers_need_values_in_bfloat16() -> None:
    """The kernels for them read bfloat16; on a processor without units for it the values are float32."""
    weights = read_weights(make_model((128, 4, 128, 1)))
    assert weights is not None
    rounded = replace(weights, rounded=round_layers(weights))
    assert why_kernels_cannot(rounded) == "its values are not bfloat16"
    assert why_kernels_cannot(replace(rounded, words=rounded.words.bfloat16())) is None


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


def test_sequences_are_laid_end_to_end() -> None:
    begins, lengths, numbers = np.array([0, 3, 10, 10, 30]), np.array([3, 7, 0, 20, 1]), np.array([9, 8, 7, 6, 5])
    batches = list(lay_end_to_end(begins, lengths, numbers, 10))
    assert [batch.sequences.tolist() for batch in batches] == [[6], [8, 9], [5, 7]]
    assert batches[1].tokens.tolist() == [*range(3, 10), *range(3)]
    assert batches[1].positions.tolist() == [*range(7), *range(3)]
    assert batches[2].owner.tolist() == [0]
    assert list(lay_end_to_end(begins[:0], lengths[:0], numbers[:0], 10)) == []

"""The compiled kernels give what torch gives in float32, whatever the sizes and whatever shares a batch."""

import ctypes
import logging
import os
import subprocess
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import numpy as np
import pytest
import torch
import transformers
from torch import nn

from sbert.encoder.engine import compiled
from sbert.encoder.engine.compiled import NATIVE_VARIABLE, Kernels, load_kernels
from sbert.encoder.engine.dtype import ComputeDtype
from sbert.encoder.engine.native import NativeRunner, lay_out, why_kernels_cannot
from sbert.encoder.engine.packing import lay_end_to_end
from sbert.encoder.engine.weights import read_weights
from sbert.encoder.pooling import Pooling, PoolingMode
from sbert.encoder.sentence_encoder import SentenceEncoder
from sbert.runtime.hardware import cpu_features, has_amx
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
SIZES = [(32, 1, 64, 2), (128, 4, 544, 2), (384, 12, 1536, 1), (128, 2, 256, 2), (768, 12, 3072, 1)]


@pytest.fixture(scope="module")
def library(tmp_path_factory: pytest.TempPathFactory) -> Iterator[ctypes.CDLL]:
    """The kernels; on a processor without AMX but with AVX512-BF16 they are compiled with emulated tile instructions."""
    kernels = load_kernels()
    if kernels.library is not None:
        yield kernels.library
        return
    if os.environ.get(NATIVE_VARIABLE) == "0":
        pytest.skip(f"the kernels are {kernels.reason}: unset it to test them")
    if has_amx() and knows_amx():
        pytest.fail(f"this machine has AMX and a compiler for it, but no kernels: {kernels.reason}")
    compiler = compiled._find_compiler()
    if not cpu_features()["avx512_bf16"] or compiler is None or not knows_amx():
        pytest.skip(
            f"no kernels to run: {kernels.reason}. Run on an x86-64 processor with AVX512-BF16 (Xeon from Sapphire Rapids, EPYC from "
            "the fourth generation on) and with GCC 11, Clang 12 or later; here the same encoders take the packed path, which other "
            "tests cover"
        )
    emulated = emulated_kernels(compiler, tmp_path_factory.mktemp("emulated") / "kernels.so")
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(compiled, "has_amx", lambda: True)
        patch.setattr(compiled, "_load", lambda: Kernels(emulated, "emulated"))
        yield emulated


def emulated_kernels(compiler: list[str], file: Path) -> ctypes.CDLL:
    sources = compiled.read_sources()
    include = "#include <immintrin.h>\n"
    assert include in sources["registers.h"]
    sources["registers.h"] = sources["registers.h"].replace(include, f'{include}#include "{EMULATION.name}"\n')
    compiled._compile({**sources, EMULATION.name: EMULATION.read_text()}, compiler, file)
    library = ctypes.CDLL(str(file))
    library.sbert_encode.restype = ctypes.c_int32
    return library


def knows_amx() -> bool:
    """Return whether there is a compiler that knows AMX, which older ones do not.

    Asked with an option of its own, not with the kernels' options: if these were wrong, tests must fail, not be skipped.
    """
    compiler = compiled._find_compiler()
    if compiler is None:
        return False
    command = [*compiler, "-mamx-bf16", "-E", "-x", "c++", "-", "-o", os.devnull]
    return subprocess.run(command, input=b"", capture_output=True, check=False).returncode == 0


def test_the_sources_compile(tmp_path: Path) -> None:
    """Also where the processor cannot run them."""
    compiler = compiled._find_compiler()
    if compiler is None or not knows_amx():
        pytest.skip(
            "there is no C++ compiler here that knows AMX (GCC 11 or Clang 12 and later do): install one, or name it in CXX"
        )
    compiled._compile(compiled.read_sources(), compiler, tmp_path / "kernels.so")
    assert (tmp_path / "kernels.so").stat().st_size > 10_000


def make_model(
    size: tuple[int, int, int, int], activation: str = "gelu", sharpness: float = 1.0
) -> transformers.BertModel:
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


def make_runner(library: ctypes.CDLL, model: transformers.BertModel) -> NativeRunner:
    weights = read_weights(model.bfloat16())
    assert weights is not None
    assert why_kernels_cannot(weights) is None
    return NativeRunner(library, weights, Pooling(model.config.hidden_size, (PoolingMode.MEAN,)), nn.ModuleList())


def random_ids(lengths: list[int]) -> np.ndarray:
    return np.random.default_rng(sum(lengths)).integers(1, VOCABULARY, sum(lengths)).astype(np.int32)


def plain_vectors(model: transformers.BertModel, ids_T: np.ndarray, lengths: list[int]) -> torch.Tensor:
    """Token vectors, sequence by sequence."""
    with torch.inference_mode():
        parts = torch.from_numpy(ids_T.astype(np.int64)).split(lengths)
        return torch.cat([model(input_ids=part[None]).last_hidden_state[0].float() for part in parts if len(part)])


@pytest.mark.parametrize("lengths", LENGTHS.values(), ids=LENGTHS)
@pytest.mark.parametrize("size", SIZES, ids=str)
def test_token_vectors_are_as_near_to_float32_as_torch_in_bfloat16(
    library: ctypes.CDLL, size: tuple[int, int, int, int], lengths: list[int]
) -> None:
    ids_T = random_ids(lengths)
    exact = plain_vectors(make_model(size), ids_T, lengths)
    torchs = plain_vectors(make_model(size).bfloat16(), ids_T, lengths)
    ours = make_runner(library, make_model(size)).token_vectors(ids_T, np.array(lengths)).float()
    assert ours.shape == exact.shape
    assert (ours - exact).square().mean().sqrt() <= 1.1 * (torchs - exact).square().mean().sqrt()
    assert (ours - exact).abs().max() <= 1.5 * (torchs - exact).abs().max()


@pytest.mark.parametrize("sharpness", [4.0, 16.0])
@pytest.mark.parametrize("activation", ["gelu", "relu"])
def test_attention_to_single_tokens(library: ctypes.CDLL, sharpness: float, activation: str) -> None:
    lengths = [300, 64, 7]
    ids_T = random_ids(lengths)
    exact = plain_vectors(make_model(SIZES[2], activation, sharpness), ids_T, lengths)
    torchs = plain_vectors(make_model(SIZES[2], activation, sharpness).bfloat16(), ids_T, lengths)
    runner = make_runner(library, make_model(SIZES[2], activation, sharpness))
    ours = runner.token_vectors(ids_T, np.array(lengths)).float()
    assert (ours - exact).square().mean().sqrt() <= 1.1 * (torchs - exact).square().mean().sqrt()


@pytest.mark.parametrize("sharpness", [1.0, 8.0])
def test_kernels_give_the_same_bits_whatever_the_batch_mates(library: ctypes.CDLL, sharpness: float) -> None:
    lengths = [1, 17, 200, 64, 5, 90, 33, 500, 8]
    ids_T = random_ids(lengths)
    runner = make_runner(library, make_model(SIZES[2], sharpness=sharpness))
    together = runner.token_vectors(ids_T, np.array(lengths)).split(lengths)
    for ids, length, vectors in zip(np.split(ids_T, np.cumsum(lengths)[:-1]), lengths, together, strict=True):
        assert torch.equal(runner.token_vectors(ids, np.array([length])), vectors)


def test_threads_do_not_disturb_each_other(library: ctypes.CDLL) -> None:
    lengths = [40, 100, 7]
    runner = make_runner(library, make_model(SIZES[2]))
    inputs = [np.roll(random_ids(lengths), shift) for shift in range(24)]
    alone = [runner.token_vectors(ids_T, np.array(lengths)) for ids_T in inputs]
    with ThreadPoolExecutor(4) as pool:
        together = list(pool.map(lambda ids_T: runner.token_vectors(ids_T, np.array(lengths)), inputs))
    assert all(torch.equal(left, right) for left, right in zip(alone, together, strict=True))


def test_ids_and_lengths_out_of_range_are_refused(library: ctypes.CDLL) -> None:
    runner = make_runner(library, make_model(SIZES[0]))
    for wrong in (VOCABULARY, -1):
        with pytest.raises(IndexError, match="not in the vocabulary"):
            runner.token_vectors(np.array([1, wrong, 2]), np.array([3]))
    with pytest.raises(IndexError, match="longer than the encoder has positions for"):
        runner.token_vectors(np.ones(PLACES + 1), np.array([PLACES + 1]))
    assert runner.token_vectors(np.zeros(0), np.zeros(0)).shape == (0, 32)
    assert runner.token_vectors(np.zeros(0), np.zeros(3)).shape == (0, 32)


def test_encode_takes_the_kernels_and_gives_the_vectors_of_float32(library: ctypes.CDLL) -> None:
    texts = ["", "red", "the cat sat on the mat " * 30, *(f"train {number} to hamburg" for number in range(100)), " "]
    native = SentenceEncoder.from_pretrained(compute_dtype=ComputeDtype.BFLOAT16, device="cpu")
    assert native.selected_runner.name == "native"
    exact = SentenceEncoder.from_pretrained(compute_dtype=ComputeDtype.FLOAT32, device="cpu").encode(texts)
    vectors = native.encode(texts)
    assert (vectors * exact).sum(axis=1).min() > 0.999
    np.testing.assert_allclose(native.encode(texts[::-1], token_budget=100)[::-1], vectors, atol=1e-6)


@pytest.mark.parametrize("skipped", [0, 3])
def test_means_are_those_of_the_token_vectors(library: ctypes.CDLL, skipped: int) -> None:
    lengths = [0, 9, 300, 1, 0, 250, 3, 0]
    ids_T = random_ids(lengths)
    runner = make_runner(library, make_model(SIZES[0]))
    vectors = runner.token_vectors(ids_T, np.array(lengths)).float().split(lengths)
    expected = [part[skipped:].mean(0) if len(part) > skipped else torch.zeros(32) for part in vectors]
    torch.testing.assert_close(runner.means(ids_T, np.array(lengths), skipped), torch.stack(expected))


@pytest.mark.parametrize(
    "modes", [(PoolingMode.MEAN,), (PoolingMode.CLS,), (PoolingMode.MAX, PoolingMode.LAST), (PoolingMode.ATTENTION,)]
)
def test_every_pooling_and_prompts_left_out(library: ctypes.CDLL, modes: tuple[PoolingMode, ...]) -> None:
    encoder = SentenceEncoder(
        make_model(SIZES[0]), tiny_tokenizer(), Pooling(32, modes, include_prompt=False), max_seq_length=60,
        compute_dtype=ComputeDtype.BFLOAT16, device="cpu",
    )  # fmt: skip
    assert encoder.selected_runner.name == "native"
    packed = encoder.packed_runner()
    assert packed is not None
    tokens = encoder.tokenize(["red", "", "green blue " * 40, "one two three"], prompt="train: ")
    sequences = np.arange(4)
    found = []
    with torch.inference_mode():
        for runner in (packed, encoder.selected_runner.runner):
            (batch,) = runner.cut(tokens, sequences, 1_000)
            found.append(runner.run(tokens, batch)[torch.from_numpy(np.argsort(batch.sequences))])
    torch.testing.assert_close(*found, atol=0.1, rtol=0.05)


def test_wrong_kernels_are_not_used(
    library: ctypes.CDLL, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    run = NativeRunner.run
    monkeypatch.setattr(NativeRunner, "run", lambda self, tokens, batch: run(self, tokens, batch).roll(1, dims=1))
    with caplog.at_level(logging.WARNING, logger="sbert.encoder.engine.runner_selection"):
        chosen = SentenceEncoder.from_pretrained(compute_dtype=ComputeDtype.BFLOAT16, device="cpu").selected_runner
    assert chosen.name == "packed"
    assert "the native runner gives other vectors" in caplog.text
    assert "not native (it failed the probe" in chosen.reason


def test_kernels_are_not_used_when_turned_off(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv(NATIVE_VARIABLE, "0")
    chosen = SentenceEncoder.from_pretrained(compute_dtype=ComputeDtype.BFLOAT16, device="cpu").selected_runner
    assert chosen.name == "packed"
    assert load_kernels().library is None
    assert "not native (turned off by SBERT_NATIVE=0)" in chosen.reason


@pytest.mark.parametrize(
    ("kind", "dtype", "reason"),
    [
        ("bert", torch.float32, "it computes in float32"),
        ("bert", torch.bfloat16, "its heads have 8 values"),
        ("mpnet", torch.bfloat16, "it has relative positions"),
    ],
)
def test_other_encoders_are_left_to_torch(kind: str, dtype: torch.dtype, reason: str) -> None:
    weights = read_weights(tiny_encoder(kind).transformer.to(dtype))
    assert weights is not None
    assert why_kernels_cannot(weights) == reason


def test_layout_of_weights_by_hand() -> None:
    weight = torch.arange(64 * 96).view(64, 96)
    tiles = lay_out(weight)
    assert tiles.shape == (2, 3, 2, 16, 16, 2)
    assert tiles[1, 2, 1, 5, 7, 1] == weight[32 + 16 + 7, 64 + 2 * 5 + 1]


def test_sequences_are_laid_end_to_end() -> None:
    begins, lengths, numbers = np.array([0, 3, 10, 10, 30]), np.array([3, 7, 0, 20, 1]), np.array([9, 8, 7, 6, 5])
    batches = list(lay_end_to_end(begins, lengths, numbers, 10))
    assert [batch.sequences.tolist() for batch in batches] == [[6], [8, 9], [5, 7]]
    assert batches[1].tokens.tolist() == [*range(3, 10), *range(3)]
    assert batches[1].positions.tolist() == [*range(7), *range(3)]
    assert batches[2].owner.tolist() == [0]
    assert list(lay_end_to_end(begins[:0], lengths[:0], numbers[:0], 10)) == []

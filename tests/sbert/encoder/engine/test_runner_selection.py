"""A runner that gives other vectors than plain float32, or fails, is found on the probe and not used."""

import ctypes
import logging
from pathlib import Path

import numpy as np
import pytest
import torch

from sbert.encoder.engine import dtype, rounding, runner_selection
from sbert.encoder.engine.compiled import Kernels, load_kernels
from sbert.encoder.engine.dtype import ComputeDtype
from sbert.encoder.engine.kernel_targets import NATIVE_VARIABLE
from sbert.encoder.engine.linear import PlainLinear, PrepackedLinear, can_prepack
from sbert.encoder.engine.packed import PackedRunner
from sbert.encoder.engine.runner_selection import MIN_PROBE_COSINE
from sbert.encoder.engine.sharing import Sharing
from sbert.encoder.engine.workers import compute_batches, num_workers
from sbert.encoder.sentence_encoder import SentenceEncoder
from sbert.encoder.tokenization.token_ids import TokenizedTexts
from sbert.errors import SettingsError
from sbert.runtime import hardware
from tests.support.tiny_models import HIDDEN, WIDE, WORDS, save_tiny, tiny_encoder

CPU = torch.device("cpu")
INTEGERS_FIRST = (ComputeDtype.INT8, ComputeDtype.BFLOAT16, ComputeDtype.FLOAT32)
TEXTS = [" ".join(WORDS[number % 40 : number % 40 + 1 + number % 50]) for number in range(300)]


@pytest.fixture(scope="module")
def wide_model(tmp_path_factory: pytest.TempPathFactory) -> str:
    """Return the folder of a small encoder that can compute in 8-bit integers."""
    return save_tiny(tmp_path_factory.mktemp("wide"), hidden=WIDE)


def plain_vectors(encoder: SentenceEncoder, num_texts: int = len(TEXTS)) -> np.ndarray:
    """Vectors by the encoder's own forward pass, one text at a time."""
    with torch.inference_mode():
        ids = [encoder.tokenize([text]).input_ids.astype(np.int64) for text in TEXTS[:num_texts]]
        return torch.cat([encoder(torch.from_numpy(one)[None]) for one in ids]).numpy()


@pytest.mark.parametrize(
    ("kind", "name"),
    [
        ("bert", "packed"),
        ("roberta", "packed"),
        ("mpnet", "packed"),
        ("distilbert", "packed"),
        ("modernbert", "padded"),
    ],
)
@pytest.mark.parametrize("workers", [1, 3])
def test_each_architecture_has_its_runner_and_the_vectors_of_the_plain_one(
    kind: str, name: str, workers: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    encoder = tiny_encoder(kind)
    assert encoder.selected_runner.name == name
    assert encoder.selected_runner.probe_cosine == pytest.approx(1, abs=1e-6)
    monkeypatch.setattr("sbert.encoder.engine.budget.num_workers", lambda device: workers)
    np.testing.assert_allclose(encoder.encode(TEXTS, token_budget=256), plain_vectors(encoder), atol=1e-5)


def test_a_runner_with_other_vectors_is_not_used(
    monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    run = PackedRunner.run
    monkeypatch.setattr(PackedRunner, "run", lambda self, tokens, batch: run(self, tokens, batch).roll(1, dims=1))
    encoder = tiny_encoder()
    with caplog.at_level(logging.WARNING, logger="sbert.encoder.engine.runner_selection"):
        assert encoder.selected_runner.name == "padded"
    assert "the packed runner gives other vectors" in caplog.text
    np.testing.assert_allclose(encoder.encode(TEXTS), plain_vectors(encoder), atol=1e-5)


def test_a_runner_that_fails_is_not_used(monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture) -> None:
    def fail(self: PackedRunner, tokens: TokenizedTexts, batch: object) -> torch.Tensor:
        raise RuntimeError("could not create a primitive\nwith details")

    monkeypatch.setattr(PackedRunner, "run", fail)
    with caplog.at_level(logging.WARNING, logger="sbert.encoder.engine.runner_selection"):
        assert tiny_encoder().selected_runner.name == "padded"
    assert "could not create a primitive" in caplog.text


def test_the_runner_is_selected_again_after_training() -> None:
    encoder = tiny_encoder()
    before = encoder.encode(TEXTS[:5])
    with torch.no_grad():
        for parameter in encoder.transformer.parameters():
            parameter.add_(0.05 * torch.randn_like(parameter))
    after = encoder.encode(TEXTS[:5])
    assert np.abs(after - before).max() > 1e-3
    np.testing.assert_allclose(after, plain_vectors(encoder, 5), atol=1e-5)


def test_a_type_that_gives_other_vectors_is_not_chosen(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    folder = save_tiny(tmp_path)
    monkeypatch.setenv(dtype.DTYPE_VARIABLE, "bfloat16")
    assert SentenceEncoder.from_pretrained(folder, device="cpu").compute_dtype is ComputeDtype.BFLOAT16
    monkeypatch.setattr("sbert.encoder.type_choice.MIN_PROBE_COSINE", 0.9999999)
    with caplog.at_level(logging.WARNING, logger="sbert.encoder.type_choice"):
        encoder = SentenceEncoder.from_pretrained(folder, device="cpu")
        asked = SentenceEncoder.from_pretrained(folder, device="cpu", compute_dtype=ComputeDtype.BFLOAT16)
    assert encoder.compute_dtype is ComputeDtype.FLOAT32
    assert asked.compute_dtype is ComputeDtype.BFLOAT16
    assert "another type is used" in caplog.text
    assert "bfloat16 is used because it was asked for" in caplog.text


@pytest.mark.parametrize(
    ("units", "has_bfloat16", "dtypes"),
    [
        ({"avx512_vnni"}, True, ["int8", "bfloat16", "float32"]),
        ({"avx512_vnni", "amx"}, True, ["bfloat16", "float32"]),
        (set(), True, ["bfloat16", "float32"]),
        (set(), False, ["float32"]),
    ],
    ids=["VNNI", "VNNI and AMX", "bfloat16 alone", "none"],
)
def test_the_types_follow_the_processor(
    units: set[str], has_bfloat16: bool, dtypes: list[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.delenv(dtype.DTYPE_VARIABLE)
    monkeypatch.setattr(hardware, "has_units", lambda name: name in units)
    monkeypatch.setattr(hardware, "has_fast_bfloat16", lambda device: has_bfloat16)
    assert [each.value for each in dtype.fastest_dtypes(CPU)] == dtypes


def test_the_types_follow_the_accelerator(monkeypatch: pytest.MonkeyPatch) -> None:
    """Integers are computed fast on processors alone, whatever processor the accelerator's machine has."""
    monkeypatch.delenv(dtype.DTYPE_VARIABLE)
    monkeypatch.setattr(hardware, "has_units", lambda name: name != "amx")
    for has_bfloat16, fastest in ((True, ComputeDtype.BFLOAT16), (False, ComputeDtype.FLOAT16)):
        monkeypatch.setattr(hardware, "has_fast_bfloat16", lambda device, has=has_bfloat16: has)
        assert dtype.fastest_dtypes(torch.device("cuda")) == (fastest, ComputeDtype.FLOAT32)


def test_the_type_of_the_environment_comes_first(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv(dtype.DTYPE_VARIABLE, "int8")
    others = [each for each in dtype.dtypes_with_units(CPU) if each is not ComputeDtype.INT8]
    assert dtype.fastest_dtypes(CPU) == (ComputeDtype.INT8, *others)
    monkeypatch.setenv(dtype.DTYPE_VARIABLE, "float32")
    assert dtype.fastest_dtypes(CPU) == (ComputeDtype.FLOAT32,)
    monkeypatch.setenv(dtype.DTYPE_VARIABLE, "float64")
    with pytest.raises(
        SettingsError, match="SBERT_COMPUTE_DTYPE is 'float64', expected one of float32, bfloat16, float16, int8"
    ):
        dtype.fastest_dtypes(CPU)


def test_the_values_of_an_encoder_in_integers_are_float32() -> None:
    assert dtype.value_dtype(ComputeDtype.INT8) is torch.float32
    assert dtype.value_dtype(ComputeDtype.FLOAT16) is torch.float16


@pytest.mark.parametrize(
    ("chosen", "why_no_integers", "reason"),
    [
        (ComputeDtype.INT8, None, "cpu has units for products of 8-bit integers"),
        (ComputeDtype.BFLOAT16, "it is too small", "cpu has units for products in bfloat16"),
        (ComputeDtype.BFLOAT16, None, "int8 gives other vectors than float32 on the probe"),
        (ComputeDtype.FLOAT32, "it is too small", "bfloat16 gives other vectors than float32 on the probe"),
    ],
)
def test_people_read_why_a_type_was_chosen(
    chosen: ComputeDtype, why_no_integers: str | None, reason: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.delenv(dtype.DTYPE_VARIABLE)
    monkeypatch.setattr(dtype, "dtypes_with_units", lambda device: INTEGERS_FIRST)
    assert dtype.why_dtype(CPU, chosen, why_no_integers) == reason


@pytest.fixture
def integers_first(monkeypatch: pytest.MonkeyPatch) -> None:
    """A processor whose fastest type is int8; it has kernels for it, or a library in their place."""
    monkeypatch.delenv(dtype.DTYPE_VARIABLE)
    monkeypatch.setattr("sbert.encoder.type_choice.fastest_dtypes", lambda device: INTEGERS_FIRST)
    kernels = load_kernels(ComputeDtype.INT8)
    if kernels.library is None:
        monkeypatch.setattr(runner_selection, "load_kernels", lambda dtype: Kernels(ctypes.CDLL(None), "a library"))
        monkeypatch.setattr(runner_selection, "WHY_NOT", {"native": lambda weights: "turned off"})


def default_dtype(folder: str) -> ComputeDtype:
    return SentenceEncoder.from_pretrained(folder, device="cpu").compute_dtype


@pytest.mark.usefixtures("integers_first")
def test_an_encoder_computes_in_integers_where_they_are_fastest(wide_model: str) -> None:
    encoder = SentenceEncoder.from_pretrained(wide_model, device="cpu")
    if load_kernels(ComputeDtype.INT8).library is None:
        assert encoder.compute_dtype is ComputeDtype.BFLOAT16  # through torch they are not the fastest
        return
    assert encoder.compute_dtype is ComputeDtype.INT8
    assert encoder.selected_runner.name == "native"
    assert encoder.selected_runner.probe_cosine >= MIN_PROBE_COSINE
    vectors = encoder.encode(TEXTS)
    exact = SentenceEncoder.from_pretrained(wide_model, device="cpu", compute_dtype=ComputeDtype.FLOAT32).encode(TEXTS)
    assert 0.998 <= (vectors * exact).sum(1).min() < 1 - 1e-5


@pytest.mark.usefixtures("integers_first")
@pytest.mark.parametrize(
    ("kind", "hidden", "reason"),
    [
        ("bert", HIDDEN, "layers of 32 values are no multiple of 128"),
        ("mpnet", WIDE, "it has relative positions"),
        ("modernbert", WIDE, "it is not of the BERT family"),
    ],
)
def test_an_encoder_that_kernels_cannot_compute_in_integers_takes_the_next_type(
    kind: str, hidden: int, reason: str, tmp_path: Path
) -> None:
    folder = save_tiny(tmp_path, kind, hidden=hidden)
    assert runner_selection.why_no_integers(tiny_encoder(kind, hidden=hidden).transformer) == reason
    assert default_dtype(folder) is ComputeDtype.BFLOAT16


@pytest.mark.usefixtures("integers_first")
def test_without_kernels_an_encoder_takes_the_next_type(wide_model: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """Integers through torch are slower than float32."""
    monkeypatch.setattr(runner_selection, "load_kernels", lambda dtype: Kernels(None, "there is no C++ compiler"))
    assert runner_selection.why_no_integers(tiny_encoder(hidden=WIDE).transformer) == "there is no C++ compiler"
    assert default_dtype(wide_model) is ComputeDtype.BFLOAT16


def test_integers_that_the_environment_names_need_no_kernels(wide_model: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv(dtype.DTYPE_VARIABLE, "int8")
    monkeypatch.setattr(runner_selection, "load_kernels", lambda dtype: Kernels(None, "there is no C++ compiler"))
    assert default_dtype(wide_model) is ComputeDtype.INT8
    assert dtype.why_dtype(CPU, ComputeDtype.INT8, "there is no C++ compiler") == "SBERT_COMPUTE_DTYPE says so"
    reason = "SBERT_COMPUTE_DTYPE says int8, but the encoder cannot compute in it: it is not of the BERT family"
    assert dtype.why_dtype(CPU, ComputeDtype.FLOAT32, "it is not of the BERT family") == reason


@pytest.mark.usefixtures("integers_first")
def test_integers_whose_kernels_fail_are_not_chosen(wide_model: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """Torch computes them right, but slower than the next type."""
    monkeypatch.setattr(runner_selection, "WHY_NOT", {"native": lambda weights: "they failed"})
    assert default_dtype(wide_model) is ComputeDtype.BFLOAT16
    asked = SentenceEncoder.from_pretrained(wide_model, device="cpu", compute_dtype=ComputeDtype.INT8)
    assert asked.selected_runner.name == "packed"


@pytest.mark.usefixtures("integers_first")
def test_integers_that_give_other_vectors_are_not_chosen(
    wide_model: str, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    """Neither the kernels nor torch may compute with wrong weights; the encoder's own forward pass knows no integers."""
    round_layers = rounding.round_layers
    monkeypatch.setattr(rounding, "round_layers", lambda weights: round_layers(weights)[::-1])
    with caplog.at_level(logging.WARNING, logger="sbert.encoder"):
        encoder = SentenceEncoder.from_pretrained(wide_model, device="cpu")
    assert encoder.compute_dtype is ComputeDtype.BFLOAT16
    assert "the packed runner gives other vectors" in caplog.text
    # The weights of the next type were loaded anew: the fingerprint is that of the stored ones.
    asked = SentenceEncoder.from_pretrained(wide_model, device="cpu", compute_dtype=ComputeDtype.BFLOAT16)
    assert encoder.fingerprint == asked.fingerprint
    np.testing.assert_allclose(encoder.encode(TEXTS[:20]), asked.encode(TEXTS[:20]), atol=1e-6)


@pytest.mark.parametrize(
    ("kind", "reason"), [("bert", "layers of 32 values are no multiple of 128"), ("t5", "it is not of the BERT family")]
)
def test_an_encoder_that_is_asked_for_integers_and_cannot_says_why(kind: str, reason: str, tmp_path: Path) -> None:
    folder = save_tiny(tmp_path, kind)
    with pytest.raises(SettingsError, match=rf"cannot compute in int8 \({reason}\): choose bfloat16 or float32"):
        SentenceEncoder.from_pretrained(folder, device="cpu", compute_dtype=ComputeDtype.INT8)


@pytest.mark.parametrize("kind", ["bert", "roberta", "distilbert", "mpnet"])
def test_an_encoder_that_is_asked_for_integers_needs_no_kernels(
    kind: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv(NATIVE_VARIABLE, "0")
    folder = save_tiny(tmp_path, kind, hidden=WIDE)
    encoder = SentenceEncoder.from_pretrained(folder, device="cpu", compute_dtype=ComputeDtype.INT8)
    assert encoder.selected_runner.name == "packed"
    exact = SentenceEncoder.from_pretrained(folder, device="cpu", compute_dtype=ComputeDtype.FLOAT32).encode(TEXTS)
    assert 0.998 <= (encoder.encode(TEXTS) * exact).sum(1).min() < 1 - 1e-5


@pytest.mark.parametrize("native", ["0", "1"])
def test_weights_are_rounded_anew_after_training(native: str, wide_model: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv(NATIVE_VARIABLE, native)
    encoder = SentenceEncoder.from_pretrained(wide_model, device="cpu", compute_dtype=ComputeDtype.INT8)
    before, name = encoder.encode(TEXTS[:20]), encoder.selected_runner.name
    torch.manual_seed(0)
    with torch.no_grad():
        for layer in encoder.transformer.encoder.layer:
            layer.output.dense.weight.add_(0.1 * torch.randn_like(layer.output.dense.weight))
    after = encoder.encode(TEXTS[:20])
    assert encoder.selected_runner.name == name != "padded"
    assert (after * before).sum(1).max() < 0.98
    assert (after * plain_vectors(encoder, 20)).sum(1).min() >= 0.998


@pytest.mark.parametrize("activation", ["gelu", "gelu_new", "relu"])
def test_prepacked_layers_equal_plain_ones(activation: str) -> None:
    assert can_prepack(torch.float32, CPU)
    torch.manual_seed(0)
    weight, bias, x, residual = torch.randn(48, 32), torch.randn(48), torch.randn(70, 32), torch.randn(70, 48)
    plain, packed = PlainLinear(weight, bias), PrepackedLinear(weight, bias)
    with torch.inference_mode():
        torch.testing.assert_close(packed(x), plain(x), atol=1e-4, rtol=1e-4)
        torch.testing.assert_close(
            packed.activated(x, activation), plain.activated(x, activation), atol=1e-4, rtol=1e-4
        )
        torch.testing.assert_close(packed.added(x, residual), plain.added(x, residual), atol=1e-4, rtol=1e-4)


def test_the_lowest_cosine_is_that_computed_by_hand() -> None:
    left = np.array([[1, 0], [1, 1], [0, 2]], dtype=np.float32)
    right = np.array([[1, 0], [1, 0], [0, 1]], dtype=np.float32)
    assert runner_selection.lowest_cosine(left, right) == pytest.approx(2**-0.5)  # the second pair, at 45 degrees
    assert runner_selection.lowest_cosine(np.full((1, 2), np.nan, np.float32), right[:1]) == -1
    assert runner_selection.lowest_cosine(left[:1], np.zeros((1, 2), np.float32)) == 1


def test_workers_keep_order_hand_errors_on_and_stop() -> None:
    class Runner:
        sharing = Sharing(most_at_once=2, batch_cost=8)

        def cut(self, tokens: object, sequences: object, token_budget: int, num_at_once: int = 1) -> object:
            raise AssertionError

        def run(self, tokens: object, batch: int) -> torch.Tensor:
            if batch == 3:
                raise RuntimeError("three")
            return torch.tensor([batch])

    tokens = tiny_encoder().tokenize(["red"])
    for workers in (1, 2):
        outcomes = list(compute_batches(Runner(), tokens, range(6), workers))
        assert [batch for batch, _ in outcomes] == list(range(6))
        assert [str(outcome) if batch == 3 else int(outcome) for batch, outcome in outcomes] == [0, 1, 2, "three", 4, 5]
        with pytest.raises(InterruptedError):
            list(compute_batches(Runner(), tokens, range(6), workers, lambda: True))
    assert num_workers(torch.device("cuda")) == 1
    assert num_workers(CPU) == torch.get_num_threads()

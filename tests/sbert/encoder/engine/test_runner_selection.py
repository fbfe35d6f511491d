"""A runner that gives other vectors than plain float32, or fails, is found on the probe and not used."""

import logging
from pathlib import Path

import numpy as np
import pytest
import torch

from sbert.encoder.engine import dtype, runner_selection
from sbert.encoder.engine.dtype import ComputeDtype
from sbert.encoder.engine.linear import PlainLinear, PrepackedLinear, can_prepack
from sbert.encoder.engine.packed import PackedRunner
from sbert.encoder.engine.sharing import Sharing
from sbert.encoder.engine.workers import compute_batches, num_workers
from sbert.encoder.sentence_encoder import SentenceEncoder
from sbert.encoder.tokenization.token_ids import TokenizedTexts
from sbert.errors import SettingsError
from sbert.runtime import hardware
from tests.support.tiny_models import WORDS, save_tiny, tiny_encoder

CPU = torch.device("cpu")
TEXTS = [" ".join(WORDS[number % 40 : number % 40 + 1 + number % 50]) for number in range(300)]


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
    monkeypatch.setattr("sbert.encoder.sentence_encoder.MIN_PROBE_COSINE", 0.9999999)
    with caplog.at_level(logging.WARNING, logger="sbert.encoder.sentence_encoder"):
        encoder = SentenceEncoder.from_pretrained(folder, device="cpu")
        asked = SentenceEncoder.from_pretrained(folder, device="cpu", compute_dtype=ComputeDtype.BFLOAT16)
    assert encoder.compute_dtype is ComputeDtype.FLOAT32
    assert asked.compute_dtype is ComputeDtype.BFLOAT16
    assert "float32 is used" in caplog.text
    assert "bfloat16 is used because it was asked for" in caplog.text


def test_the_type_follows_the_machine(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv(dtype.DTYPE_VARIABLE)
    monkeypatch.setattr(hardware, "has_fast_bfloat16", lambda device: True)
    assert dtype.fastest_dtype(CPU) is ComputeDtype.BFLOAT16
    monkeypatch.setattr(hardware, "has_fast_bfloat16", lambda device: False)
    assert dtype.fastest_dtype(CPU) is ComputeDtype.FLOAT32
    assert dtype.fastest_dtype(torch.device("cuda")) is ComputeDtype.FLOAT16
    monkeypatch.setenv(dtype.DTYPE_VARIABLE, "float64")
    with pytest.raises(
        SettingsError, match="SBERT_COMPUTE_DTYPE is 'float64', expected one of float32, bfloat16, float16"
    ):
        dtype.fastest_dtype(CPU)


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
